"""Answers an application in the event loop of its worker, from the request to the answer.

The view (coupons/api/views.py, accept.py) is the reference: it takes the same steps and blocks where this code awaits.
tests/scenarios/test_one_contract.py compares both.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from uuid import UUID

from django.conf import settings
from rest_framework.exceptions import Throttled

from coupons.admission.campaign_cache import CachedCampaign, CampaignCacheUnavailable, campaign_cache
from coupons.admission.gate import Admission, EpochAhead, Outcome, admit_call, confirm_call
from coupons.api import problem_responses
from coupons.api.accept import Application, counted_application, promise, ticket_of
from coupons.api.circuit_breakers import asking_kafka, asking_redis, confirming
from coupons.api.problems import EARLY_MS, Code, Problem, refusal
from coupons.api.throttling import Taken, count_caller
from coupons.auth.caller import Caller
from coupons.errors import RetryLater
from coupons.front.answers import Answer, Header, common_headers, encode_headers, promised, refuse_overload, refused
from coupons.front.clients import AsyncGate, AsyncPublisher
from coupons.front.closed_campaigns import ClosedCampaigns
from coupons.front.overload import line_of_applications
from coupons.front.request import Request, address_of, caller_of, campaign_id_of, is_usual, user_id_of
from coupons.metrics import APPLIES, GATE_SECONDS
from coupons.models import Scope
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, failpoint

APPLY = Scope.APPLY.value


class ApplyHandler:
    """Belongs to one event loop."""

    def __init__(self, closed: ClosedCampaigns) -> None:
        self._closed = closed
        self._gate = AsyncGate()
        self._publisher = AsyncPublisher()
        self._line = line_of_applications()

    async def close(self) -> None:
        await self._gate.close()

    async def answer(self, request: Request) -> Answer | None:
        """Returns None when Django has to answer: unusual requests, and callers without access. Raises BodyRefused."""
        campaign_id = campaign_id_of(request.path) if request.method == "POST" else None
        if campaign_id is None:
            return None
        if self._closed.is_closed(campaign_id):  # a cached refusal costs less than waiting in the line
            return await self._answer(request, campaign_id)
        await request.body()  # before it enters the line, where a slow body would block others
        if reason := await self._line.enter():
            APPLIES.labels("overloaded").inc()
            busy = refuse_overload("applications", reason)
            return Answer(busy.status, [*busy.headers, *_common_headers(request)], busy.body)
        try:
            return await self._answer(request, campaign_id)
        finally:
            self._line.leave()

    async def _answer(self, request: Request, campaign_id: UUID) -> Answer | None:
        counted: Taken | None = None
        try:
            caller = caller_of(request) if is_usual(request) else None
            if caller is None or APPLY not in caller.scopes or not caller.may_touch(campaign_id):
                return None
            application = await self._read(request, caller, campaign_id)
            if application is None:
                return None
            counted = count_caller(caller, campaign=str(campaign_id), address=partial(address_of, request))
            if counted is not None:
                counted.check()
            if (closed := self._closed.find(campaign_id, application.user_id)) is not None:
                answer = self._closed.refuse(closed)
            else:
                answer = await self._decide(application)
        except (RetryLater, Throttled) as error:  # also when API keys cannot be checked at this moment
            answer = _error_answer(error)
        limits = encode_headers(counted.headers()) if counted is not None else ()
        return Answer(answer.status, [*answer.headers, *limits, *_common_headers(request)], answer.body)

    async def _read(self, request: Request, caller: Caller, campaign_id: UUID) -> Application | None:
        """Returns None when Django has to answer. Raises BodyRefused."""
        user_id = caller.user_id
        if user_id is None or self._closed.find(campaign_id, user_id) is None:
            user_id = user_id_of(await request.body(), own=caller.user_id)
        known = campaign_cache().known(campaign_id)
        if known is None or user_id is None or not caller.may_act_for(user_id):
            return None
        trace = request.headers.get(b"x-request-id", b"").decode("latin-1")[:64]
        return Application(campaign_id, known, user_id, trace, request.began_at + settings.ACCEPT_TIMEOUT_MS / 1000)

    async def _decide(self, application: Application) -> Answer:
        with counted_application() as counted:
            admission = await self._accept(application)
            counted.outcome = admission.outcome.lower()
        if admission.ticket is not None:
            return promised(*promise(application.campaign_id, admission.outcome, admission.ticket))
        self._closed.note_refusal(application.campaign_id)
        return refused(refusal(admission.outcome, admission.opens_at_ms, admission.now_ms))

    async def _accept(self, application: Application) -> Admission:
        """Takes the steps of coupons/api/accept.py, and raises the same errors. A crash leaves the same behind."""
        if application.known.is_unloaded:
            return Admission(Outcome.CLOSED, application.known.epoch)
        with asking_redis():
            admission = await self._admit(application, application.known)
            if 0 < admission.opens_in_ms <= EARLY_MS:
                await asyncio.sleep(admission.opens_in_ms / 1000)
                admission = await self._admit(application, application.known)
        held = admission.ticket
        if held is None:
            return admission
        if not held.on_its_way:
            failpoint(WEB_ADMITTED)
            application.check_in_time("Redis answered too late")
            ticket = ticket_of(application.campaign_id, held, epoch=admission.epoch, trace=application.trace)
            with asking_kafka():
                position = await self._publisher.publish(ticket, timeout_sec=application.left_sec)
            failpoint(WEB_ACKNOWLEDGED)
            with confirming():
                confirmation = confirm_call(application.campaign_id, admission.epoch, held, position)
                await self._gate.ask(confirmation)
            failpoint(WEB_CONFIRMED)
        application.check_in_time("answered too late")
        return admission

    async def _admit(self, application: Application, known: CachedCampaign) -> Admission:
        try:
            with GATE_SECONDS.time():
                return await self._gate.ask(admit_call(application.campaign_id, known, application.user_id))
        except EpochAhead:
            newer = await _read_newer_campaign(application)
            if newer is None or newer.epoch <= known.epoch:
                raise
            return await self._admit(application, newer)


async def _read_newer_campaign(application: Application) -> CachedCampaign | None:
    """Reads the campaign from PostgreSQL again. Raises CampaignCacheUnavailable."""
    asked = asyncio.wrap_future(campaign_cache().ask(application.campaign_id))
    done, _ = await asyncio.wait([asked], timeout=application.left_sec)  # other requests share it
    if not done:
        raise CampaignCacheUnavailable(f"campaign {application.campaign_id}: PostgreSQL did not answer in time")
    return asked.result()


def _error_answer(error: Exception) -> Answer:
    problem = problem_responses.problem_of(error) or Problem(Code.INTERNAL)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        problem_responses.outages.log(problem.code, error)
    return refused(problem)


def _common_headers(request: Request) -> tuple[Header, ...]:
    is_secure = request.scope["scheme"] == "https" or (
        bool(settings.SECURE_PROXY_SSL_HEADER) and request.headers.get(b"x-forwarded-proto") == b"https"
    )
    return common_headers(request.headers.get(b"origin"), is_secure=is_secure)
