"""The ASGI application: the front, with Django behind it on threads."""

from couponsite.wsgi import application as django_application  # isort: skip  sets Django up, which the front needs

from coupons.front.front import Front
from coupons.runtime.process import freeze_imported_objects

application = Front(django_application)
freeze_imported_objects()
