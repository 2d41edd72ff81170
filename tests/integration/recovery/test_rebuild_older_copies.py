"""A server comes back with an older copy of its data, or a rebuild has not ended: nobody is lost, or in twice."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from coupons.admission import ticket_store
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import StateStale
from coupons.messaging.positions import Position
from coupons.models import Campaign
from coupons.recovery.rebuild import rebuild_campaigns
from coupons.recovery.stale import stale_campaigns
from tests.support.service import Service
from tests.support.tickets import admit, consume, held, publish_and_mark, publish_late, rebuild, received, were_read


def older_copy(campaign: Campaign) -> Callable[[], None]:
    """What Redis has now; the call brings it back."""
    redis = admission_redis()
    dumped = {key: redis.dump(key) for key in campaign_keys(campaign.pk) if redis.exists(key)}

    def restore() -> None:
        redis.flushall()
        for key, value in dumped.items():
            assert value is not None
            redis.restore(key, 0, value)

    return restore


def test_an_older_redis_brings_no_replaced_user_back(service: Service) -> None:
    """From A to an empty B, which is rebuilt and sells out, and back to A: the last two of A were promised nothing."""
    campaign = service.campaign(4)
    admit(campaign, "a", "b", "gone-1", "gone-2")
    were_read(publish_and_mark(campaign, "a", 1))
    consume(received(campaign, "a", 1))
    publish_and_mark(campaign, "b", 2)
    back_to_a = older_copy(campaign)
    admission_redis().flushall()
    rebuild(campaign)
    campaign.refresh_from_db()
    admit(campaign, "c", "d")
    publish_late(campaign, "c", 3, epoch=2)
    publish_late(campaign, "d", 4, epoch=2)

    back_to_a()
    assert stale_campaigns() == [campaign.pk]
    rebuild(campaign)

    everybody = held(campaign, "a", "b", "c", "d", "gone-1", "gone-2")
    assert {user: each.sequence for user, each in everybody.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_an_older_redis_does_not_change_a_promised_sequence(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "first", "twice")
    back_to_a = older_copy(campaign)
    admission_redis().flushall()
    rebuild(campaign)
    campaign.refresh_from_db()
    assert admit(campaign, "twice") == [1]
    publish_late(campaign, "twice", 1, epoch=2)

    back_to_a()
    rebuild(campaign)

    assert {user: each.sequence for user, each in held(campaign, "first", "twice").items()} == {"twice": 1}


def test_an_unfinished_rebuild_makes_no_older_copy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its epoch was raised and nothing was swapped in: Redis may be the only one that knows."""
    campaign = service.campaign(10)
    admit(campaign, "only in redis")
    with monkeypatch.context() as patch:
        patch.setattr("coupons.recovery.rebuild.finish_rebuild", fail)
        for _ in range(2):
            with pytest.raises(StateStale):
                rebuild(campaign)

    rebuild(campaign)

    assert set(held(campaign, "only in redis")) == {"only in redis"}


def fail(*args: object, **kwargs: object) -> None:
    raise StateStale("test", campaign_id=uuid4(), reason="test")


def test_the_next_look_finishes_a_rebuild_killed_after_the_swap(service: Service) -> None:
    campaign = service.campaign(10)
    rebuild(campaign)
    Campaign.objects.update(mended_epoch=0)

    assert stale_campaigns() == []

    assert Campaign.objects.get().mended_epoch == 2


def test_a_position_after_the_end_of_a_rebuild_is_dropped(service: Service) -> None:
    """No later rebuild looks at that message, so a repeat must not be promised on it: the relay publishes it anew."""
    campaign = service.campaign(10)
    admit(campaign, "a")

    def lands_late(seconds: float) -> None:
        ticket_store.mark_published(campaign_id=campaign.pk, epoch=1, positions={("a", 1): Position(0, 10**6)})

    rebuild_campaigns(campaign_ids=[campaign.pk], sleep=lands_late)

    assert not held(campaign, "a")["a"].on_its_way
