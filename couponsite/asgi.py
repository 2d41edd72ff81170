"""The ASGI application: the front, and Django behind it on threads of its own."""

from typing import TYPE_CHECKING

from couponsite.wsgi import application as django_application
from couponsite.wsgi import freeze_imported_objects

if TYPE_CHECKING:
    from coupons.front.asgi import Front


def make_front() -> "Front":
    """When Django is set up."""
    from coupons.front.asgi import Front

    return Front(django_application)


application = make_front()
freeze_imported_objects()
