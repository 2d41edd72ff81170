"""Answers an application in the event loop of its worker, from the request to the answer.

The view (coupons/api/views.py, accept.py) is the reference: it takes the same steps and blocks where this code awaits.
tests/scenarios/test_one_contract.py compares both.
"""

import asyncio
import time
from functools import partial
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from coupons.admission.admit import draft_admission, is_draft
from coupons.admission.campaign_cache import CachedCampaign, CampaignCacheUnavailable, campaign_cache
from coupons.admission.gate import Admission, EpochAhead, Held, admit_call, confirm_call
from coupons.api import problem_responses
from coupons.api.accept import ticket_of
from coupons.api.circuit_breakers import asking_kafka, asking_redis
from coupons.api.problems import EARLY_MS, Code, Problem, refusal
from coupons.api.throttling import count_caller
from coupons.auth.caller import Caller
from coupons.errors import GateUnavailable, RetryLater, StateStale, Unconfirmed
from coupons.front.answers import Answer, Header, accepted, common_headers, encode_headers, refuse_overload, refused
from coupons.front.async_gate import AsyncGate
from coupons.front.async_publisher import AsyncPublisher
from coupons.front.closed_campaigns import ClosedCampaigns
from coupons.front.overload import Line
from coupons.front.request import Request, address_of, caller_of, campaign_id_of, is_usual, user_id_of
from coupons.messaging.positions import Position
from coupons.metrics import GATE_SECONDS, PUBLISH_SECONDS, apply_metrics
from coupons.models import Scope
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, failpoint

APPLY = Scope.APPLY.value


class Application(NamedTuple):
    """One user's application to one campaign; `deadline` is a monotonic time."""

    caller: Caller
    campaign_id: UUID
    known: CachedCampaign
    user_id: str
    trace: str
    deadline: float


class ApplyHandler:
    """Belongs to one event loop."""

    def __init__(self, closed: ClosedCampaigns) -> None:
        self._closed = closed
        self._gate = AsyncGate()
        self._publisher = AsyncPublisher()
        self._line = Line()

    async def close(self) -> None:
        await self._gate.close()

    async def answer(self, request: Request) -> Answer | None:
        """Returns None when Django has to answer: unusual requests, and callers without access. Raises BodyRefused."""
        campaign_id = campaign_id_of(request.path)
        if campaign_id is None or request.method != "POST":
            return None
        if self._closed.is_closed(campaign_id):  # a cached refusal costs less than waiting in the line
            return await self._answer(request, campaign_id)
        await request.body()  # before it enters the line, where a slow body would block others
        if not await self._line.enter():
            applies, _ = apply_metrics("overloaded")
            applies.inc()
            busy = refuse_overload("applications", "late")
            return Answer(busy.status, [*busy.headers, *_common_headers(request)], busy.body)
        try:
            return await self._answer(request, campaign_id)
        finally:
            self._line.leave()

    async def _answer(self, request: Request, campaign_id: UUID) -> Answer | None:
        try:
            application = await self._read(request, campaign_id)
            if application is None:
                return None
            counted = count_caller(
                application.caller, campaign=str(application.campaign_id), address=partial(address_of, request)
            )
            if counted is not None and (too_many := counted.too_many()) is not None:
                answer = _error_answer(too_many)
            elif (closed := self._closed.find(application.campaign_id, application.user_id)) is not None:
                answer = self._closed.refuse(closed)
            else:
                answer = await self._decide(application)
        except RetryLater as error:  # API keys cannot be checked at this moment
            answer, counted = _error_answer(error), None
        limits = encode_headers(counted.headers()) if counted is not None else ()
        return Answer(answer.status, [*answer.headers, *limits, *_common_headers(request)], answer.body)

    async def _read(self, request: Request, campaign_id: UUID) -> Application | None:
        """Returns None when Django has to answer. Raises BodyRefused and KeysUnknown."""
        if not is_usual(request):
            return None
        caller = caller_of(request)
        if caller is None or APPLY not in caller.scopes or not caller.may_touch(campaign_id):
            return None
        user_id = caller.user_id
        if user_id is None or self._closed.find(campaign_id, user_id) is None:
            user_id = user_id_of(await request.body(), own=caller.user_id)
        known = campaign_cache().known(campaign_id)
        if known is None or user_id is None or not caller.may_act_for(user_id):
            return None
        trace = request.headers.get(b"x-request-id", b"").decode("latin-1")[:64]
        deadline = request.began_at + settings.ACCEPT_TIMEOUT_MS / 1000
        return Application(caller, campaign_id, known, user_id, trace, deadline)

    async def _decide(self, application: Application) -> Answer:
        started, outcome = time.monotonic(), "error"
        try:
            admission = await self._accept(application)
            outcome = admission.outcome.lower()
            if admission.ticket is not None:
                return accepted(application.campaign_id, admission.outcome, admission.ticket)
            self._closed.note_refusal(application.campaign_id)
            return refused(refusal(admission.outcome, admission.opens_at_ms, admission.now_ms))
        except RetryLater as error:
            outcome = type(error).__name__.lower()
            return _error_answer(error)
        finally:
            applies, seconds = apply_metrics(outcome)
            applies.inc()
            seconds.observe(time.monotonic() - started)

    async def _accept(self, application: Application) -> Admission:
        """Lets Redis admit, Kafka acknowledge and Redis confirm. Raises RetryLater when nothing may be promised; its
        subclass `Unconfirmed` means that the place is kept."""
        with asking_redis():
            admission = await self._admit(application, application.known)
            if 0 < admission.opens_in_ms <= EARLY_MS:
                await asyncio.sleep(admission.opens_in_ms / 1000)  # crash here => nothing was written, the user repeats
                admission = await self._admit(application, application.known)
        held = admission.ticket
        if held is None:
            return admission
        if not held.on_its_way:
            # Crash here => the user gets no answer; the ticket is pending and unpublished, and the relay publishes it.
            failpoint(WEB_ADMITTED)
            position = await self._publish(application, held, admission.epoch)
            failpoint(WEB_ACKNOWLEDGED)
            await self._confirm(application, held, admission.epoch, position)
            # Crash here => the user gets no answer; the ticket is published, and its coupon is issued.
            failpoint(WEB_CONFIRMED)
        if time.monotonic() > application.deadline:
            raise Unconfirmed(f"campaign {application.campaign_id}: answered too late")
        return admission

    async def _admit(self, application: Application, known: CachedCampaign) -> Admission:
        started = time.monotonic()
        try:
            return await self._gate.ask(admit_call(application.campaign_id, known.epoch, application.user_id))
        except EpochAhead:
            newer = await _read_newer_campaign(application)
            if newer is None or newer.epoch <= known.epoch:
                raise
            return await self._admit(application, newer)
        except (GateUnavailable, StateStale) as error:
            if is_draft(known, error):
                return draft_admission(known)
            raise
        finally:
            GATE_SECONDS.observe(time.monotonic() - started)

    async def _publish(self, application: Application, held: Held, epoch: int) -> Position | None:
        """Returns the message's position, or None when Kafka reports none. Raises Unconfirmed."""
        started = time.monotonic()
        if started > application.deadline:
            # The client does not wait any more: its repeat, or the relay, publishes in the epoch that is current then.
            raise Unconfirmed(f"campaign {application.campaign_id}: Redis answered too late")
        ticket = ticket_of(application.campaign_id, held, epoch=epoch, trace=application.trace)
        with asking_kafka():
            position = await self._publisher.publish(ticket, timeout_sec=application.deadline - started)
        PUBLISH_SECONDS.observe(time.monotonic() - started)
        return position

    async def _confirm(self, application: Application, held: Held, epoch: int, position: Position | None) -> None:
        """Returns if the gate still holds the ticket in the epoch that the message carries (decision 0026). Raises
        RetryLater otherwise."""
        try:
            with asking_redis():
                call = confirm_call(application.campaign_id, epoch, held, position)
                is_held = await self._gate.ask(call, priority=True)
        except GateUnavailable as error:
            raise Unconfirmed(f"Redis has not confirmed in time ({error})") from error
        if not is_held:
            raise Unconfirmed(f"campaign {application.campaign_id}: the gate does not hold the ticket any more")


async def _read_newer_campaign(application: Application) -> CachedCampaign | None:
    """Reads the campaign from PostgreSQL again. Raises CampaignCacheUnavailable."""
    asked = asyncio.wrap_future(campaign_cache().ask(application.campaign_id))
    done, _ = await asyncio.wait([asked], timeout=application.deadline - time.monotonic())  # other requests share it
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
