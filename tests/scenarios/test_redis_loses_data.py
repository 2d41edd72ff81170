"""Row 6: Redis is emptied, loses a key, or comes back with older files or none. 503, and a rebuild under traffic."""

import dataclasses
import shutil
from pathlib import Path

from stack_parts.home import Home

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.models import Coupon, FailCode, FailEventHistory
from coupons.runtime.failpoints import REBUILD_BEGUN
from faults.crowd import Crowd
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    closed_until_the_rebuild_goes_on,
    held_tickets,
)
from tests.support.matrix import MANY, Row
from tests.support.process import Process
from tests.support.promises import Promises, assert_history_holds, issued
from tests.support.service import Service
from tests.support.timeouts import RELAY_SOON, web_timeouts
from tests.support.waiting import wait_until


def test_a_flush_during_the_rush_neither_oversells_nor_loses(service: Service) -> None:
    _, _, keeper = service.everything()
    campaign = service.campaign(300)
    crowd = service.crowd(campaign, habits=MANY)
    row = Row(6, crowd, name="flushall")
    crowd.wait_for_promises("before", users=200)

    service.arm(REBUILD_BEGUN, "stop")
    with row.fault("redis: FLUSHALL, 200 of 300 coupons gone"):
        admission_redis().flushall()
        closed_until_the_rebuild_goes_on(service, crowd)
        keeper.says("rebuild.done")
    row.wait_for_promises(users=5)
    crowd.wait_for_answers(409, "sold-out")

    verdict = assert_history_holds(crowd, campaigns=[campaign])[campaign.pk]
    assert verdict.sold_out >= 20
    assert issued(campaign) == 300, "sold out is said only while as many tickets are held as there are coupons"
    row.write()


def test_each_deleted_key_is_rebuilt(service: Service) -> None:
    """In one rebuild: three campaigns, each of which loses another key, with its tickets half issued and half
    pending."""
    _, consumer, keeper = service.everything()
    campaigns = [service.campaign(20_000) for _ in range(3)]
    crowd = service.crowd(*campaigns, habits=MANY)
    row = Row(6, crowd, name="keys")
    some_issued_some_pending(crowd, consumer)
    promised = {campaign.pk: crowd.promises(campaign.pk) for campaign in campaigns}

    service.arm(REBUILD_BEGUN, "stop")
    with row.fault("redis: another key of each campaign deleted"):
        for number, campaign in enumerate(campaigns):
            assert admission_redis().delete(campaign_keys(campaign.pk)[number]) == 1
        closed_until_the_rebuild_goes_on(service, crowd)
        keeper.says("rebuild.done", times=3)
    for campaign in campaigns:
        crowd.wait_for_promises("after the rebuild", users=10, campaign_id=campaign.pk)
    row.wait_for_promises()
    service.consumer("--solo")

    row.holds()
    for campaign in campaigns:
        assert held_tickets(campaign).items() >= promised[campaign.pk].items(), "the same places as before"
        assert_no_hole(campaign, lossy=[crowd])
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    row.write()


def test_redis_restarts_without_and_with_older_files(service: Service, tmp_path: Path) -> None:
    """Some tickets lie in PostgreSQL then and some in the topic alone."""
    _, consumer, keeper = service.everything()
    row = Row.begin(service, 6, name="files")
    some_issued_some_pending(row.crowd, consumer)

    with row.fault("redis: SIGKILL, started without its files"):
        service.stack("kill", "redis")
        service.stack("wipe", "redis")
        found = places_found_and_rebuilt(row, service, keeper, rebuilds=1)
    assert not found
    row.wait_for_promises(users=30)
    older = held_tickets(row.campaign)
    shutil.copytree(redis_files(), tmp_path / "older")
    row.crowd.wait_for_promises("that the copy knows nothing of", users=30)

    with row.fault("redis: SIGKILL, started with an older copy of its files"):
        service.stack("kill", "redis")
        shutil.rmtree(redis_files())
        shutil.copytree(tmp_path / "older", redis_files())
        found = places_found_and_rebuilt(row, service, keeper, rebuilds=2)
    assert found.items() >= older.items()
    row.wait_for_promises(users=30)
    service.consumer("--solo")

    row.holds()
    assert_no_hole(row.campaign, lossy=[row.crowd])
    assert_only_promised_or(row.crowd, "unavailable", "unconfirmed")
    row.write()


def test_messages_queued_until_after_the_rebuild_are_not_issued(service: Service) -> None:
    """Nobody was promised anything for them, and their places are somebody else's by then: who was told 503 leaves, or
    all might come again in the same order and get the same places.
    """
    waits = web_timeouts(delivery_ms=60_000)
    consumer = service.manage("run_coupon_consumer", "--solo")
    keeper = service.keeper(**waits)  # its relay must not publish for those whose messages are held
    consumer.says("consumer.assigned")
    proxy = service.proxy("kafka")  # for the web servers alone: the rebuild reads the topic
    service.webs(**waits)
    row = Row.begin(service, 6, name="late", habits=dataclasses.replace(MANY, give_up_after_sec=0.0))
    crowd, campaign = row.crowd, row.campaign

    with row.fault("redis: FLUSHALL, with messages in the producers' queues"):
        proxy.hold()
        crowd.wait_for_answers(503, "unconfirmed", times=30)
        late = held_tickets(campaign).items() - crowd.promises(campaign.pk).items()
        service.arm(REBUILD_BEGUN, "stop")
        admission_redis().flushall()
        closed_until_the_rebuild_goes_on(service, crowd)
        keeper.says("rebuild.done")
        crowd.wait_for_answers(503, "unconfirmed", times=20)
        proxy.let_pass()
    row.wait_for_promises(users=30)
    wait_until(FailEventHistory.objects.exists, what="the late messages are read")
    keeper.stop()
    service.keeper(**RELAY_SOON)  # for those who left with a place and no message

    assert_history_holds(crowd, campaigns=[campaign])
    assert set(FailEventHistory.objects.values_list("error_code", flat=True)) == {FailCode.NOT_ADMITTED}
    failed = set(FailEventHistory.objects.values_list("user_id", "sequence"))
    assert failed & late
    assert not failed & held_tickets(campaign).items()
    assert not failed & set(Coupon.objects.values_list("user_id", "sequence"))
    # What was acknowledged before what was not leaves a hole; from the last of those on, places are given anew.
    assert {sequence for _, sequence in failed} & set(held_tickets(campaign).values()), (
        "their places are somebody else's"
    )
    assert_only_promised_or(crowd, "unavailable", "unconfirmed")
    row.write()


def some_issued_some_pending(crowd: Crowd, consumer: Process) -> None:
    crowd.wait_for_promises("with a consumer", users=30)
    assert consumer.stop() == 0
    crowd.wait_for_promises("without one", users=30)


def places_found_and_rebuilt(row: Row, service: Service, keeper: Process, *, rebuilds: int) -> Promises:
    """Starts Redis; what it knows then, which is not all that was promised. After the rebuild it is."""
    crowd, campaign = row.crowd, row.campaign
    crowd.wait_for_answers(503, "unavailable", times=5)
    promised = crowd.promises(campaign.pk)
    service.arm(REBUILD_BEGUN, "stop")
    service.stack("start", "redis")
    service.wait_for(REBUILD_BEGUN)
    found = held_tickets(campaign)
    assert not promised.items() <= found.items()
    crowd.wait_for_answers(503, "unavailable", times=20)
    service.resume(REBUILD_BEGUN)
    keeper.says("rebuild.done", times=rebuilds)
    assert promised.items() <= held_tickets(campaign).items(), "the same places as before"
    return found


def redis_files() -> Path:
    return Home.current().data("redis")
