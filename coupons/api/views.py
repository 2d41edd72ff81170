"""The views of the REST API parse, call one function and present its result. docs/api.md is the contract."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from coupons.admission.campaign_store import Description, describe_each
from coupons.api.accept import accept, counted_application, promise
from coupons.api.authentication import must_act_for
from coupons.api.circuit_breakers import asking_postgresql, asking_redis
from coupons.api.idempotency import answer_once, read_idempotency_key
from coupons.api.parsers import StrictPagination
from coupons.api.problem_responses import json_response, problem_response
from coupons.api.problems import refusal
from coupons.api.serializers import (
    CampaignDocument,
    CampaignSerializer,
    NotPushedDocument,
    TicketDocument,
    campaign_now,
    read_user_id,
)
from coupons.api.throttling import LimitedView
from coupons.api.tickets import find_ticket
from coupons.auth.caller import Caller
from coupons.campaigns import lifecycle
from coupons.campaigns.lifecycle import CampaignChanges
from coupons.errors import GateUnavailable, PushDidNotArrive, RetryLater
from coupons.messaging.messages import is_user_id
from coupons.models import Campaign, CampaignState


class ApplyView(LimitedView):
    """POST: the body's or the token's user applies. Idempotent by campaign and user."""

    scopes = {"POST": "apply"}

    def post(self, request: Request, campaign_id: str) -> HttpResponse:
        with counted_application() as counted:
            user_id = read_user_id(request.data, own=self.caller.user_id)
            must_act_for(self.caller, user_id)
            found = parse_id(campaign_id, self.caller)
            admission = accept(campaign_id=found, user_id=user_id, trace=_trace(request))
            if admission is None:
                raise NotFound("There is no such campaign.")
            counted.outcome = admission.outcome.lower()
        if admission.ticket is None:
            return problem_response(refusal(admission.outcome, admission.opens_at_ms, admission.now_ms))
        return json_response(*promise(found, admission.outcome, admission.ticket))


class TicketView(LimitedView):
    """GET: the state of a user's ticket."""

    scopes = {"GET": "read"}

    def get(self, request: Request, campaign_id: str, user_id: str) -> Response:
        must_act_for(self.caller, user_id)
        found = parse_id(campaign_id, self.caller)
        ticket = find_ticket(campaign_id=found, user_id=user_id) if is_user_id(user_id) else None
        if ticket is None:
            raise NotFound("This user has no ticket of this campaign.")
        return Response(TicketDocument(ticket).data)


class CampaignListView(LimitedView):
    """GET: the campaigns, newest first. POST: a new draft."""

    scopes = {"GET": "read", "POST": "manage"}

    def get(self, request: Request) -> Response:
        paginator = StrictPagination()
        with asking_postgresql():
            page = paginator.paginate_queryset(campaigns_of(self.caller), request, view=self) or []
        return paginator.get_paginated_response(_present_all(page))

    def post(self, request: Request) -> Response:
        if self.caller.campaigns is not None:
            raise PermissionDenied("This API key is for certain campaigns; a new one is none of them.")
        serializer = CampaignSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        document = answer_once(
            caller=self.caller.actor,
            key=read_idempotency_key(request.META),
            asked=request.data,
            answer=lambda: self._create(serializer.validated_data),
        )
        return Response(document, status=201, headers={"Location": reverse("campaign", args=[document["id"]])})

    def _create(self, values: dict[str, Any]) -> dict[str, Any]:
        return _present(lifecycle.create_campaign(**values, actor=self.caller.actor))


class CampaignView(LimitedView):
    """GET: one campaign. PATCH: raise or lower its quantity, move its window."""

    scopes = {"GET": "read", "PATCH": "manage"}

    def get(self, request: Request, campaign_id: str) -> Response:
        with asking_postgresql():
            campaign = get_campaign(campaign_id, self.caller)
        return Response(_present(campaign))

    def patch(self, request: Request, campaign_id: str) -> Response:
        serializer = CampaignSerializer(data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        campaign = get_campaign(campaign_id, self.caller)
        changes = cast("CampaignChanges", dict(serializer.validated_data))
        return _changed(
            lambda: lifecycle.change_campaign(campaign_id=campaign.pk, changes=changes, actor=self.caller.actor)
        )


class CampaignActionView(LimitedView):
    """POST .../open, pause, resume, close."""

    scopes = {"POST": "manage"}
    actions = {
        "open": lifecycle.open_campaign,
        "pause": lifecycle.pause_campaign,
        "resume": lifecycle.resume_campaign,
        "close": lifecycle.close_campaign,
    }

    def post(self, request: Request, campaign_id: str, action: str) -> Response:
        campaign = get_campaign(campaign_id, self.caller)
        act = self.actions[action]
        return _changed(lambda: act(campaign_id=campaign.pk, actor=self.caller.actor))


def parse_id(text: str, caller: Caller) -> UUID:
    """Parses the campaign id of a URL. Any other than the canonical form, or than the caller's campaigns, gets 404."""
    with suppress(ValueError):
        campaign_id = UUID(text)
        if str(campaign_id) == text.lower() and caller.may_touch(campaign_id):
            return campaign_id
    raise NotFound("There is no such campaign.")


def campaigns_of(caller: Caller) -> QuerySet[Campaign]:
    """Selects the campaigns that the caller may see. Only services see drafts, which are not announced yet."""
    campaigns = Campaign.objects.all()
    if caller.user_id is not None:
        campaigns = campaigns.exclude(state=CampaignState.DRAFT)
    return campaigns if caller.campaigns is None else campaigns.filter(pk__in=caller.campaigns)


def get_campaign(text: str, caller: Caller) -> Campaign:
    campaign = campaigns_of(caller).filter(pk=parse_id(text, caller)).first()
    if campaign is None:
        raise NotFound("There is no such campaign.")
    return campaign


def _present(campaign: Campaign) -> dict[str, Any]:
    return _present_all([campaign])[0]


def _present_all(campaigns: Iterable[Campaign]) -> list[dict[str, Any]]:
    """Adds each campaign's state in Redis, where it is current and Redis answers."""
    campaigns = list(campaigns)
    described: Mapping[UUID, Description | RetryLater] = {}
    with suppress(GateUnavailable), asking_redis():
        described = describe_each({campaign.pk: campaign.epoch for campaign in campaigns if campaign.is_loaded})
    current = {pk: answer for pk, answer in described.items() if isinstance(answer, Description)}
    return list(CampaignDocument([campaign_now(each, current.get(each.pk)) for each in campaigns], many=True).data)


def _changed(change: Callable[[], Campaign]) -> Response:
    """Answers 200 with the changed campaign, 202 when PostgreSQL has the change and Redis does not yet."""
    try:
        return Response(_present(change()))
    except PushDidNotArrive as error:
        return Response(NotPushedDocument({"pushed": False, "detail": str(error)}).data, status=202)


def _trace(request: Request) -> str:
    """Returns the caller's id of this request; a winner's message carries it."""
    return str(request.META.get("HTTP_X_REQUEST_ID", ""))[:64]
