"""The ASGI application: the front, with Django behind it on threads."""

from typing import TYPE_CHECKING

from couponsite.wsgi import application as django_application
from couponsite.wsgi import freeze_imported_objects

if TYPE_CHECKING:
    from coupons.front.asgi import Front


def make_front() -> "Front":
    """Imports the front only now, as it needs Django to be set up."""
    from coupons.front.asgi import Front

    return Front(django_application)


application = make_front()
freeze_imported_objects()
