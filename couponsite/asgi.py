"""The ASGI application: the front, with Django behind it on threads."""

from couponsite.wsgi import application as django_application  # isort: skip  sets Django up, which the front needs

from coupons.front.front import Front

application = Front(django_application)
