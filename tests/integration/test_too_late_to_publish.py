"""A Redis that answered after the deadline: nothing is published any more, and the repeat gets the same place."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from prometheus_client import REGISTRY

from coupons.admission.admit import admit
from coupons.admission.directory import directory
from coupons.admission.gate import Admission
from coupons.admission.scripts import admission_redis
from coupons.admission.together import Follow, Wake
from coupons.api import accept as accepting
from coupons.api import patience
from coupons.breaker import Breaker
from coupons.errors import StateStale, Unconfirmed
from coupons.messaging.delivery import Delivery
from coupons.messaging.producer import Publisher, publisher
from coupons.positions import Position
from tests.support.patience import LONG_MS
from tests.support.service import Service
from tests.support.topic import published_users


def test_after_the_deadline_nothing_is_published_and_the_repeat_gets_the_place(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    assert directory().look_up(campaign.pk, wait_sec=LONG_MS / 1000), "so that the gate is asked in time"
    settings.ACCEPT_TIMEOUT_MS = 1_500

    def slow(*, follow: Follow[Admission], **asked: Any) -> Admission | None:
        def late(admission: Admission, wake: Wake) -> bool:
            time.sleep(1.6)
            return follow(admission, wake)

        return admit(**asked, follow=late)

    monkeypatch.setattr(accepting, "admit", slow)
    with pytest.raises(Unconfirmed, match="too late"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    monkeypatch.undo()
    publisher().flush(20)
    assert published_users() == set()

    settings.ACCEPT_TIMEOUT_MS = LONG_MS
    again = accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    assert again is not None
    assert again.ticket is not None
    assert again.ticket.sequence == 1
    assert published_users() == {"a"}


def test_what_the_gate_said_and_nobody_published_is_no_promise(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread gave up in the moment between the gate's answer and the publishing by another."""
    campaign = service.campaign(10)
    settings.ACCEPT_TIMEOUT_MS = LONG_MS

    def not_yet(*, follow: Follow[Admission], **asked: Any) -> Admission | None:
        return admit(**asked)

    monkeypatch.setattr(accepting, "admit", not_yet)
    with pytest.raises(Unconfirmed, match="too late"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    publisher().flush(5)
    assert published_users() == set()


def test_a_redis_that_answered_is_known_to_answer_whatever_becomes_of_the_message(
    service: Service, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be told "sold out" for as long as Kafka hangs, once Redis had hung too."""
    campaign = service.campaign(10)
    redis_hung, kafka_hangs = Breaker(failures=1, probe_sec=0), Breaker(failures=1, probe_sec=60)
    redis_hung.missed()
    kafka_hangs.missed()
    monkeypatch.setattr(patience, "redis_breaker", redis_hung)
    monkeypatch.setattr(accepting, "kafka_breaker", kafka_hangs)

    with pytest.raises(Unconfirmed, match="not waiting for it"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    assert not redis_hung.is_open


def test_a_message_may_be_acknowledged_before_the_thread_that_published_it_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    admission = admit(campaign_id=campaign.pk, user_id="a", deadline=time.monotonic() + LONG_MS / 1000)
    assert admission is not None
    publish, may_go_on, woken = Publisher.publish, threading.Event(), threading.Event()

    def stands_still(*arguments: Any) -> Delivery:
        delivery = publish(*arguments)
        assert may_go_on.wait(20)
        return delivery

    monkeypatch.setattr(Publisher, "publish", stands_still)
    message = accepting._Message(campaign.pk, "test", deadline=time.monotonic() + 20)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(message.follow, admission, woken.set)
        try:
            assert woken.wait(20)
            message.acknowledged()
        finally:
            may_go_on.set()
        assert publishing.result(20)
    assert published_users() == {"a"}


def test_a_redis_that_hangs_after_the_acknowledgement_confirms_nothing_and_the_repeat_gets_the_place(
    service: Service, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
    acknowledged = accepting._Message.acknowledged

    def then_redis_hangs(message: accepting._Message) -> Position | None:
        position = acknowledged(message)
        service.stack("pause", "redis")
        return position

    monkeypatch.setattr(accepting._Message, "acknowledged", then_redis_hangs)
    with pytest.raises(Unconfirmed, match="Redis has not confirmed"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    monkeypatch.undo()
    service.stack("resume", "redis")

    again = accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    assert again is not None
    assert again.ticket is not None
    assert again.ticket.sequence == 1


def test_each_question_to_the_gate_is_measured_once_answered_or_not(service: Service) -> None:
    campaign = service.campaign(10)

    def measured() -> float:
        return REGISTRY.get_sample_value("coupon_gate_duration_seconds_count") or 0

    before = measured()
    admit(campaign_id=campaign.pk, user_id="a", deadline=time.monotonic() + LONG_MS / 1000)
    assert measured() == before + 1
    admission_redis().flushall()
    with pytest.raises(StateStale):
        admit(campaign_id=campaign.pk, user_id="a", deadline=time.monotonic() + LONG_MS / 1000)
    assert measured() == before + 2
