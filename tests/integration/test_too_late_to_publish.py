"""A Redis or a Kafka that answered too late, for the view and for the front: nothing is promised, and the repeat gets
the same place."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from django.conf import LazySettings, settings
from prometheus_client import REGISTRY

from coupons.admission import admit as admitting
from coupons.admission.admit import admit
from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.gate import Admission
from coupons.admission.scripts import admission_redis
from coupons.api import accept as accepting
from coupons.api import circuit_breakers
from coupons.api.circuit_breakers import Breaker
from coupons.auth.caller import Caller
from coupons.auth.services import ALL_SCOPES
from coupons.errors import StateStale, Unconfirmed
from coupons.front.apply import Application, Applications
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.models import Campaign
from tests.support.front import Loop, StillCampaigns
from tests.support.patience import LONG_MS
from tests.support.service import Service
from tests.support.topic import published_users

LATE_SEC = 1.6


class Way(Protocol):
    def accept(self, campaign: Campaign) -> Admission:
        """User `a` applies."""

    def gate_answers_late(self, monkeypatch: pytest.MonkeyPatch) -> None: ...

    def after_the_acknowledgement(self, monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
        """Redis hangs."""


class View:
    def accept(self, campaign: Campaign) -> Admission:
        admission = accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
        assert admission is not None
        return admission

    def gate_answers_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def late(**asked: Any) -> Admission | None:
            admission = admit(**asked)
            time.sleep(LATE_SEC)
            return admission

        monkeypatch.setattr(accepting, "admit", late)

    def after_the_acknowledgement(self, monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
        publish = accepting._publish

        def then_redis_hangs(*arguments: Any) -> Position | None:
            position = publish(*arguments)
            service.stack("pause", "redis")
            return position

        monkeypatch.setattr(accepting, "_publish", then_redis_hangs)


class Front:
    def __init__(self) -> None:
        self._closed = StillCampaigns()
        self._loop = Loop()
        self._applications = self._loop.run(_make(self._closed))

    def close(self) -> None:
        self._loop.run(self._applications.close())
        self._loop.close()
        self._closed.close()

    def accept(self, campaign: Campaign) -> Admission:
        known = campaign_cache().look_up(campaign.pk, wait_sec=LONG_MS / 1000)
        assert known is not None
        caller = Caller(name="test", scopes=ALL_SCOPES)
        deadline = time.monotonic() + settings.ACCEPT_TIMEOUT_MS / 1000
        application = Application(caller, campaign.pk, known, "a", "test", deadline)
        return self._loop.run(self._applications._accept(application))

    def gate_answers_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = self._applications._admit

        async def late(*arguments: Any) -> Admission:
            admission = await ask(*arguments)
            await asyncio.sleep(LATE_SEC)
            return admission

        monkeypatch.setattr(self._applications, "_admit", late)

    def after_the_acknowledgement(self, monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
        publish = self._applications._publish

        async def then_redis_hangs(*arguments: Any) -> Position | None:
            position = await publish(*arguments)
            service.stack("pause", "redis")
            return position

        monkeypatch.setattr(self._applications, "_publish", then_redis_hangs)


async def _make(closed: StillCampaigns) -> Applications:
    return Applications(closed)


@pytest.fixture(params=["view", "front"])
def way(request: pytest.FixtureRequest, service: Service) -> Iterator[Way]:
    if request.param == "view":
        yield View()
        return
    front = Front()
    yield front
    front.close()


def test_nothing_is_published_after_the_deadline(
    way: Way, service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    assert campaign_cache().look_up(campaign.pk, wait_sec=LONG_MS / 1000), "so that the gate is asked in time"
    settings.ACCEPT_TIMEOUT_MS = 1_500

    way.gate_answers_late(monkeypatch)
    with pytest.raises(Unconfirmed, match="too late"):
        way.accept(campaign)
    monkeypatch.undo()
    publisher().flush(20)
    assert published_users() == set()

    settings.ACCEPT_TIMEOUT_MS = LONG_MS
    again = way.accept(campaign)
    assert again.ticket is not None
    assert again.ticket.sequence == 1
    assert published_users() == {"a"}


def test_an_answering_redis_counts_as_answering_without_kafka(
    way: Way, service: Service, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be told "sold out" for as long as Kafka hangs, once Redis had hung too."""
    campaign = service.campaign(10)
    redis_hung, kafka_hangs = (Breaker(failures=1, span_sec=0, probe_sec=sec) for sec in (0, 60))
    redis_hung.missed()
    kafka_hangs.missed()
    monkeypatch.setattr(circuit_breakers, "redis_breaker", redis_hung)
    monkeypatch.setattr(circuit_breakers, "kafka_breaker", kafka_hangs)

    with pytest.raises(Unconfirmed, match="not waiting for it"):
        way.accept(campaign)
    assert not redis_hung.is_open


def test_a_redis_hanging_after_the_acknowledgement_confirms_nothing(
    way: Way, service: Service, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    way.after_the_acknowledgement(monkeypatch, service)
    with pytest.raises(Unconfirmed, match="Redis has not confirmed"):
        way.accept(campaign)
    monkeypatch.undo()
    service.stack("resume", "redis")

    again = way.accept(campaign)
    assert again.ticket is not None
    assert again.ticket.sequence == 1


def test_each_gate_call_is_measured_once(service: Service) -> None:
    campaign = service.campaign(10)

    def measured() -> float:
        return REGISTRY.get_sample_value("coupon_gate_duration_seconds_count") or 0

    before = measured()
    admitting.admit(campaign_id=campaign.pk, user_id="a", deadline=time.monotonic() + LONG_MS / 1000)
    assert measured() == before + 1
    admission_redis().flushall()
    with pytest.raises(StateStale):
        admitting.admit(campaign_id=campaign.pk, user_id="a", deadline=time.monotonic() + LONG_MS / 1000)
    assert measured() == before + 2
