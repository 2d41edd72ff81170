"""Declares every answer of every view, from which drf-spectacular makes the OpenAPI document.

Only the schema's own view imports this module. The generator takes 4 MB, which every web process would have if the
views declared their answers themselves. serializers.py, which the views use, has the shapes of the answers.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, OpenApiResponse, extend_schema

from coupons.api import redemption_serializers, redemptions, serializers, views
from coupons.api.idempotency import KEY
from coupons.api.parsers import MAX_LIMIT, MAX_OFFSET
from coupons.api.problems import CONTENT_TYPE, KINDS, Code, Problem
from coupons.redemption.coupon_life import CouponStatus

EVERYWHERE = (
    Code.INVALID, Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.NOT_ACCEPTABLE,
    Code.TOO_MANY_REQUESTS, Code.INTERNAL, Code.UNAVAILABLE,
)  # fmt: skip
WITH_BODY = (Code.UNSUPPORTED_MEDIA_TYPE, Code.LENGTH_REQUIRED, Code.TOO_LARGE)


@cache
def document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


class BearerExtension(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "coupons.api.authentication.BearerAuthentication"
    name = ["userToken", "apiKey"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Requires one of the two; drf-spectacular's default requires both."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        bearer = {"type": "http", "scheme": "bearer"}
        user = "A user's token. It applies for, and sees, that one user."
        service = "A service's API key, with the scopes apply, read, manage and redeem."
        return [{**bearer, "bearerFormat": "JWT", "description": user}, {**bearer, "description": service}]


def _header(name: str, *statuses: int) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, response=list(statuses))


HEADERS = [_header("Retry-After", 409, 429, 503), _header("WWW-Authenticate", 401), _header("Allow", 405)]
LOCATION = _header("Location", 200, 201, 202)
CAMPAIGN_ID = OpenApiParameter("campaign_id", UUID, OpenApiParameter.PATH)
ACTION = OpenApiParameter("action", str, OpenApiParameter.PATH, enum=list(views.CampaignActionView.actions))
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": KEY.pattern},
    OpenApiParameter.HEADER,
    description="A repeat with the same key and body gets the first answer, for a day, and creates nothing.",
)
LIMIT = OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50})
OFFSET = OpenApiParameter("offset", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0})


def _declare(
    handler: Callable[..., object],
    operation_id: str,
    summary: str,
    good: Mapping[int, Any],
    *codes: Code,
    parameters: tuple[OpenApiParameter, ...] = (CAMPAIGN_ID,),
    request: object = None,
) -> None:
    """Declares a view's method, with its good answers by status and the codes of its problems beside EVERYWHERE."""
    by_status: dict[int, list[Code]] = {}
    for code in (*EVERYWHERE, *codes):
        by_status.setdefault(KINDS[code].status, []).append(code)
    problems = {(status, CONTENT_TYPE): _problem(of_status) for status, of_status in by_status.items()}
    declare = extend_schema(
        operation_id=operation_id,
        summary=summary,
        request=request,
        parameters=[*parameters, *HEADERS],
        responses={**good, **problems},
    )
    declare(handler)


def _problem(codes: list[Code]) -> OpenApiResponse:
    examples = [OpenApiExample(str(code), Problem(code).document()) for code in codes]
    return OpenApiResponse(
        serializers.ProblemDocument, description=", ".join(f"`{code}`" for code in codes), examples=examples
    )


def _applied(description: str) -> OpenApiResponse:
    path = f"{settings.PATH_PREFIX}/api/v1/campaigns/0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e/tickets/42"
    example = OpenApiExample("a place", {"status": "pending", "sequence": 7, "status_url": path})
    return OpenApiResponse(serializers.AppliedDocument, description=description, examples=[example])


# fmt: off
_declare(
    views.ApplyView.post, "apply", "Apply for a coupon",
    {
        202: _applied("Admitted by this request: a promise."),
        200: _applied("This user is in already: the same promise."),
    },
    *WITH_BODY, Code.NOT_FOUND, Code.SOLD_OUT, Code.NOT_OPEN, Code.PAUSED, Code.CLOSED, Code.UNCONFIRMED,
    parameters=(CAMPAIGN_ID, LOCATION),
    request=OpenApiRequest(serializers.ApplicationDocument, examples=[OpenApiExample("a user", {"user_id": "42"})]),
)
ISSUED = {
    "status": "issued", "sequence": 7, "code": "3I5WCIMBPTHYQVRN47MENX547I", "issued_at": "2026-12-01T01:00:01+00:00",
}
_declare(
    views.TicketView.get, "ticket", "The state of an application",
    {200: OpenApiResponse(serializers.TicketDocument, examples=[OpenApiExample("issued", ISSUED)])}, Code.NOT_FOUND,
)
_declare(
    views.CampaignListView.get, "campaigns", "The campaigns, newest first", {200: serializers.CampaignListDocument},
    parameters=(LIMIT, OFFSET),
)
_declare(
    views.CampaignListView.post, "create_campaign", "A new campaign, a draft", {201: serializers.CampaignDocument},
    *WITH_BODY, Code.CONFLICT, Code.KEY_IN_USE, Code.KEY_REUSED,
    parameters=(IDEMPOTENCY_KEY, LOCATION), request=serializers.CampaignSerializer,
)
_declare(views.CampaignView.get, "campaign", "One campaign", {200: serializers.CampaignDocument}, Code.NOT_FOUND)
CHANGED = {200: serializers.CampaignDocument, 202: serializers.NotPushedDocument}
_declare(
    views.CampaignView.patch, "change_campaign", "Another name, quantity or window", CHANGED,
    *WITH_BODY, Code.NOT_FOUND, Code.CONFLICT, request=serializers.CampaignSerializer(partial=True),
)
_declare(
    views.CampaignActionView.post, "act_on_campaign", "Open, pause, resume or close a campaign", CHANGED,
    Code.LENGTH_REQUIRED, Code.NOT_FOUND, Code.CONFLICT, parameters=(CAMPAIGN_ID, ACTION),
)
CODE = "7Q2M-K0VX-94RT-D8HA"
CHECK = OpenApiExample("a code", {"code": CODE, "user_id": "42"})
REDEEM = OpenApiExample("redeem", {"code": CODE, "order_ref": "order-1001", "user_id": "42"})
HOLD = OpenApiExample("hold for ten minutes", {"code": CODE, "order_ref": "order-1001", "hold_sec": 600})
REASON = OpenApiExample("a reason", {"reason": "the customer cancelled"})
OBSTACLES = (Code.NOT_YOURS, Code.REVOKED, Code.ALREADY_REDEEMED, Code.EXPIRED, Code.NOT_VALID_YET, Code.HELD)
REDEMPTION_ID = OpenApiParameter("redemption_id", UUID, OpenApiParameter.PATH)
_declare(
    redemptions.CheckView.post, "check_coupon", "Whether a coupon can be redeemed now",
    {200: redemption_serializers.CheckDocument}, *WITH_BODY, Code.NOT_FOUND, parameters=(),
    request=OpenApiRequest(redemption_serializers.CheckSerializer, examples=[CHECK]),
)
_declare(
    redemptions.RedemptionListView.post, "redeem", "Redeem or hold a coupon for an order",
    {
        201: OpenApiResponse(redemption_serializers.RedemptionDocument, description="Redeemed or held now."),
        200: OpenApiResponse(redemption_serializers.RedemptionDocument, description="This order has it already."),
    },
    *WITH_BODY, Code.NOT_FOUND, *OBSTACLES, Code.ORDER_RETURNED,
    parameters=(LOCATION,), request=OpenApiRequest(redemption_serializers.RedeemSerializer, examples=[REDEEM, HOLD]),
)
_declare(
    redemptions.RedemptionView.get, "redemption", "One redemption", {200: redemption_serializers.RedemptionDocument},
    Code.NOT_FOUND, parameters=(REDEMPTION_ID,),
)
_declare(
    redemptions.ConfirmView.post, "confirm_redemption", "Make a hold final",
    {200: redemption_serializers.RedemptionDocument},
    Code.LENGTH_REQUIRED, Code.NOT_FOUND, Code.ORDER_RETURNED, Code.HOLD_ENDED, parameters=(REDEMPTION_ID,),
)
_declare(
    redemptions.ReturnView.post, "return_redemption", "Give a redemption or a hold back",
    {200: redemption_serializers.RedemptionDocument}, *WITH_BODY, Code.NOT_FOUND, parameters=(REDEMPTION_ID,),
    request=OpenApiRequest(redemption_serializers.ReturnSerializer, examples=[REASON]),
)
_declare(
    redemptions.RevokeView.post, "revoke_coupon", "Take a coupon from its user, for good",
    {200: redemption_serializers.RevokedDocument}, *WITH_BODY, Code.NOT_FOUND, Code.ALREADY_REDEEMED, parameters=(),
    request=OpenApiRequest(
        redemption_serializers.RevokeSerializer, examples=[OpenApiExample("a code", {"code": CODE, "reason": "fraud"})]
    ),
)
_declare(
    redemptions.UserCouponsView.get, "user_coupons", "A user's coupons, newest first",
    {200: redemption_serializers.CouponListDocument}, Code.NOT_FOUND,
    parameters=(
        OpenApiParameter("user_id", str, OpenApiParameter.PATH), LIMIT, OFFSET,
        OpenApiParameter("status", str, enum=[str(each) for each in CouponStatus]),
    ),
)
# fmt: on
