"""The product without asking who is calling and how often: what authentication and limits cost is the difference.

For benchmarks alone: it takes the questions out of this process. The product has no setting that does.
"""

from couponsite.asgi import application  # first: it sets Django up

__all__ = ["application"]


def _open_views() -> None:
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request

    from coupons.api.limits import LimitedView
    from coupons.callers.caller import Caller
    from coupons.callers.services import ALL_SCOPES
    from coupons.front import apply

    anybody = Caller(name="anybody", scopes=ALL_SCOPES)

    class NobodyAsks(BaseAuthentication):
        def authenticate(self, request: Request) -> tuple[Caller, None]:
            return anybody, None

    LimitedView.authentication_classes = [NobodyAsks]
    LimitedView.check_permissions = lambda self, request: None  # type: ignore[method-assign]
    apply._caller = lambda request: anybody
    apply.count_caller = lambda *caller, **asked: None  # type: ignore[attr-defined]


_open_views()
