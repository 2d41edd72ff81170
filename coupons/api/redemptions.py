"""The views of the checkout: check, redeem, confirm and return coupons, revoke one, list a user's coupons.

They ask PostgreSQL alone. A code comes in a body, never in a URL, which proxies log.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from coupons.api.authentication import must_act_for
from coupons.api.circuit_breakers import asking_postgresql
from coupons.api.parsers import StrictPagination
from coupons.api.problem_responses import json_response
from coupons.api.redemption_serializers import (
    CheckSerializer,
    CouponDocument,
    RedeemSerializer,
    ReturnSerializer,
    RevokedDocument,
    RevokeSerializer,
    read_status,
)
from coupons.api.throttling import LimitedView
from coupons.auth.caller import Caller
from coupons.messaging.messages import is_user_id
from coupons.models import Coupon, Scope
from coupons.redemption import redeem
from coupons.redemption.coupon_life import CouponLife, life_of_code, life_of_redemption
from coupons.redemption.coupon_lists import list_coupons
from coupons.redemption.redeem import RedemptionResult

NO_SUCH_COUPON = "There is no such coupon."
NO_SUCH_REDEMPTION = "There is no such redemption."


class CheckView(LimitedView):
    """POST: whether a redemption would succeed at this moment. Writes nothing."""

    scopes = {"POST": "redeem"}

    def post(self, request: Request) -> HttpResponse:
        asked = CheckSerializer(data=request.data).checked()
        with asking_postgresql():
            life = life_of_code(asked["code"])
        if life is None or not self.caller.may_touch(life.campaign_id):
            raise NotFound(NO_SUCH_COUPON)
        return json_response(check_document(life, user_id=asked.get("user_id")), 200)


class RedemptionListView(LimitedView):
    """POST: redeems or holds a coupon for an order. Idempotent by coupon and order."""

    scopes = {"POST": "redeem"}

    def post(self, request: Request) -> HttpResponse:
        asked = RedeemSerializer(data=request.data).checked()
        with asking_postgresql():
            result = redeem.redeem(
                code=asked["code"],
                order_ref=asked["order_ref"],
                user_id=asked.get("user_id"),
                hold_sec=asked.get("hold_sec"),
                actor=self.caller.actor,
                may_touch=self.caller.may_touch,
            )
        location = {"Location": reverse("redemption", args=[result.use.id])}
        return json_response(document_of(result), 201 if result.is_new else 200, location)


class RedemptionView(LimitedView):
    """GET: one redemption."""

    scopes = {"GET": "redeem"}

    def get(self, request: Request, redemption_id: str) -> HttpResponse:
        with asking_postgresql():
            life = life_of_redemption(_parse_id(redemption_id))
        if life is None or life.asked is None or not self.caller.may_touch(life.campaign_id):
            raise NotFound(NO_SUCH_REDEMPTION)
        return json_response(document_of(RedemptionResult(life, life.asked, is_new=False)), 200)


class ConfirmView(LimitedView):
    """POST: makes a hold final."""

    scopes = {"POST": "redeem"}

    def post(self, request: Request, redemption_id: str) -> HttpResponse:
        found = _parse_id(redemption_id)
        with asking_postgresql():
            result = redeem.confirm_hold(redemption_id=found, actor=self.caller.actor, may_touch=self.caller.may_touch)
        return json_response(document_of(result), 200)


class ReturnView(LimitedView):
    """POST: gives a redemption or a hold back."""

    scopes = {"POST": "redeem"}

    def post(self, request: Request, redemption_id: str) -> HttpResponse:
        found = _parse_id(redemption_id)
        reason = ReturnSerializer(data=request.data).checked()["reason"]
        with asking_postgresql():
            result = redeem.return_redemption(
                redemption_id=found, reason=reason, actor=self.caller.actor, may_touch=self.caller.may_touch
            )
        return json_response(document_of(result), 200)


class RevokeView(LimitedView):
    """POST: takes a coupon from its user, for good."""

    scopes = {"POST": "manage"}

    def post(self, request: Request) -> HttpResponse:
        asked = RevokeSerializer(data=request.data).checked()
        with asking_postgresql():
            life = redeem.revoke_coupon(**asked, actor=self.caller.actor, may_touch=self.caller.may_touch)
        document = {"status": "revoked", "campaign": life.campaign_id, "user_id": life.user_id}
        return Response(RevokedDocument(document).data)


class UserCouponsView(LimitedView):
    """GET: a user's coupons, newest first; with codes for that user and for a service that may redeem."""

    scopes = {"GET": "read"}

    def get(self, request: Request, user_id: str) -> Response:
        must_act_for(self.caller, user_id)
        if not is_user_id(user_id):
            raise NotFound("No user has this id.")
        coupons = list_coupons(_coupons_of(self.caller).filter(user_id=user_id), status=read_status(request))
        paginator = StrictPagination()
        with asking_postgresql():
            page = paginator.paginate_queryset(coupons, request, view=self) or []
        shows_codes = self.caller.user_id is not None or Scope.REDEEM in self.caller.scopes
        documents = [CouponDocument(each, context={"shows_codes": shows_codes}).data for each in page]
        return paginator.get_paginated_response(documents)


def _coupons_of(caller: Caller) -> QuerySet[Coupon]:
    coupons = Coupon.objects.select_related("campaign")
    return coupons if caller.campaigns is None else coupons.filter(campaign_id__in=caller.campaigns)


def _parse_id(text: str) -> UUID:
    """Any other than the canonical form gets 404."""
    with suppress(ValueError):
        redemption_id = UUID(text)
        if str(redemption_id) == text.lower():
            return redemption_id
    raise NotFound(NO_SUCH_REDEMPTION)


# A checkout waits for these, so they are plain dicts, as the answers to applications are (serializers.py).
def document_of(result: RedemptionResult) -> dict[str, Any]:
    """Returns a RedemptionDocument."""
    life, use = result.life, result.use
    return {
        "id": str(use.id),
        "status": use.state,
        "order_ref": use.order_ref,
        "hold_until": _written(use.hold_until),
        "redeemed_at": _written(use.redeemed_at),
        "campaign": str(life.campaign_id),
        "user_id": life.user_id,
        "sequence": life.sequence,
        "valid_until": _written(life.valid_until),
        "metadata": life.metadata,
    }


def check_document(life: CouponLife, *, user_id: str | None) -> dict[str, Any]:
    """Returns a CheckDocument."""
    obstacles = life.obstacles(user_id=user_id)
    return {
        "redeemable": not obstacles,
        "reasons": obstacles,
        "campaign": str(life.campaign_id),
        "status": life.status,
        "valid_from": _written(life.valid_from),
        "valid_until": _written(life.valid_until),
        "metadata": life.metadata,
    }


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
