"""A Redis that answered after the deadline: nothing is published any more, and the repeat gets the same place."""

import time
from typing import Any

import pytest
from django.conf import LazySettings

from coupons.admission.admit import admit
from coupons.admission.gate import Admission
from coupons.admission.together import Follow, Wake
from coupons.api import accept as accepting
from coupons.api import patience
from coupons.breaker import Breaker
from coupons.errors import Unconfirmed
from coupons.messaging.producer import publisher
from tests.support.service import Service
from tests.support.topic import published_users


def test_after_the_deadline_nothing_is_published_and_the_repeat_gets_the_place(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = service.campaign(10)
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
    publisher().flush(5)
    assert published_users() == set()

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
    settings.ACCEPT_TIMEOUT_MS = 1_500

    def not_yet(*, follow: Follow[Admission], **asked: Any) -> Admission | None:
        return admit(**asked)

    monkeypatch.setattr(accepting, "admit", not_yet)
    with pytest.raises(Unconfirmed, match="too late"):
        accepting.accept(campaign_id=campaign.pk, user_id="a", trace="test")
    publisher().flush(5)
    assert published_users() == set()


def test_a_redis_that_answered_is_known_to_answer_whatever_becomes_of_the_message(
    service: Service, monkeypatch: pytest.MonkeyPatch
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
