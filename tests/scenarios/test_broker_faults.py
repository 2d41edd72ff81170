"""Rows 12 to 15: Kafka dies, hangs, or loses its log or topic. Nobody is promised what is not in the log, and every
place is kept."""

import statistics
import time
from collections import Counter

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from coupons.messaging import topics
from coupons.messaging.log import read_log
from coupons.messaging.messages import decode
from coupons.models import Campaign, Coupon, FailEventHistory
from coupons.runtime.failpoints import CONSUMER_COMMITTED
from faults.crowd import Crowd
from faults.history import read_history
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    held_tickets,
    nobody_is_promised_anything,
    pending_users,
    promised_after,
    promised_newcomers,
)
from tests.support.matrix import MANY, Row
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.waiting import hold, wait_until

SUPERVISED = ("--concurrency", "1")  # a worker whose client has given up is followed by another


def test_a_killed_broker_delays_promises_and_keeps_places(service: Service) -> None:
    _, consumer, _ = service.everything(*SUPERVISED)
    row = Row.begin(service, 12, users=50)
    crowd, campaign = row.crowd, row.campaign

    with row.fault("kafka: SIGKILL under load, started again"):
        service.stack("kill", "kafka")
        crowd.wait_for_answers(503, "unconfirmed", times=20)
        nobody_came_before = service.crowd(campaign, habits=MANY)
        nobody_is_promised_anything(nobody_came_before, while_told="unconfirmed")
        wait_until(
            lambda: median_sec(nobody_came_before, last=20) < 0.4,
            what="after five that waited, who asks is told at once",
        )
        kept = held_tickets(campaign)
        assert_told_when_to_repeat(service, campaign, kept.keys() - crowd.promises(campaign.pk).keys())
        service.stack("start", "kafka")
    row.wait_for_promises(users=50)
    nobody_came_before.wait_for_promises("after the fault", users=20)

    assert_places_were_kept(crowd, nobody_came_before, campaign=campaign, kept=kept)
    assert consumer.stop() == 0
    row.write()


def test_messages_landing_after_a_hang_are_issued_once(service: Service) -> None:
    """The producers gave it up, and the repeats put it into the topic a second time."""
    _, consumer, keeper = service.everything(*SUPERVISED)
    row = Row.begin(service, 13, users=50)
    # Or what lands could be issued before its user repeats, and nobody would publish it a second time.
    let_the_consumer_hang(service, row.crowd)

    with row.fault("kafka: SIGSTOP for longer than delivery.timeout.ms, SIGCONT"):
        service.stack("pause", "kafka")
        row.crowd.wait_for_answers(503, "unconfirmed", times=20)
        promised = row.crowd.answers[202, ""]
        hold(1.5, lambda: row.crowd.answers[202, ""] == promised, "nobody is promised a place while producers give up")
        kept = held_tickets(row.campaign)
        service.stack("resume", "kafka")
    row.wait_for_promises(users=50)
    service.resume(CONSUMER_COMMITTED)

    assert_places_were_kept(row.crowd, campaign=row.campaign, kept=kept)
    twice = {user for user, times in messages(row.campaign).items() if times > 1}
    assert twice, "what the producers had given up has landed as well"
    assert "rebuild." not in keeper.output
    assert consumer.stop() == 0
    row.write()


def test_a_lost_log_gets_all_pending_tickets_again(service: Service) -> None:
    """The consumer hangs after a commit, so that much is pending; it goes on by itself with the topic made anew."""
    _, consumer, keeper = service.everything(*SUPERVISED)
    row = Row.begin(service, 14, users=50)
    hung_at = let_the_consumer_hang(service, row.crowd)

    with row.fault("kafka: SIGKILL, started without its data, topic made anew"):
        service.stack("kill", "kafka")
        service.resume(CONSUMER_COMMITTED)
        came_since = promised_newcomers(row.crowd, since=hung_at)
        row.crowd.wait_for_answers(503, "unconfirmed", times=20)
        service.stack("wipe", "kafka")
        service.stack("start", "kafka")
        lost = lost_with_the_log(row.campaign, came_since)
        topics.create_topic()
    row.wait_for_promises(users=50)

    row.holds()
    assert lost <= messages(row.campaign).keys(), "all that was pending is in the new log"
    keeper.says("published again")
    assert_no_hole(row.campaign)
    assert_only_promised_or(row.crowd, "unconfirmed", "unavailable")  # no thread in time: the first wait for Kafka
    assert consumer.stop() == 0
    row.write()


def test_a_deleted_topic_gets_all_pending_tickets_again(service: Service) -> None:
    """The keeper's log names the command that makes it anew; the consumer goes on by itself."""
    _, consumer, keeper = service.everything(*SUPERVISED)
    row = Row.begin(service, 15, name="topic", users=50)
    hung_at = let_the_consumer_hang(service, row.crowd)

    with row.fault("kafka: the topic is deleted, and made anew"):
        delete_topic(service.topic)
        came_since = promised_newcomers(row.crowd, since=hung_at)
        service.resume(CONSUMER_COMMITTED)
        row.crowd.wait_for_answers(503, "unconfirmed", times=20)
        keeper.says(f"Kafka has no topic {service.topic}; `manage.py create_topic` makes it.")
        lost = lost_with_the_log(row.campaign, came_since)
        kept = held_tickets(row.campaign)
        assert service.run("create_topic", COUPON_TOPIC_PARTITIONS="4").exit_code == 0
    row.wait_for_promises(users=50)

    assert_places_were_kept(row.crowd, campaign=row.campaign, kept=kept)
    assert lost <= messages(row.campaign).keys(), "all that was pending is in the new topic"
    keeper.says("published again")
    assert consumer.stop() == 0
    row.write()


def test_messages_too_large_for_the_broker_lose_nothing(service: Service) -> None:
    web, consumer, keeper = service.everything()
    row = Row.begin(service, 15, name="size", users=50)

    with row.fault("kafka: max.message.bytes of the topic below every message"):
        set_max_message_bytes(service.topic, 20)
        nobody_is_promised_anything(row.crowd, while_told="unconfirmed")
        web.says("MSG_SIZE_TOO_LARGE")
        kept = held_tickets(row.campaign)
        set_max_message_bytes(service.topic, 1_048_588)
    row.wait_for_promises(users=50)

    assert_places_were_kept(row.crowd, campaign=row.campaign, kept=kept)
    assert "rebuild." not in keeper.output
    assert consumer.stop() == 0
    row.write()


def assert_places_were_kept(*crowds: Crowd, campaign: Campaign, kept: dict[str, int]) -> None:
    """Who was told 503 had a place already, and got that one: 200. All of it is issued, and nothing is left over."""
    assert_history_holds(*crowds, campaigns=[campaign])
    repeats = {user: one for crowd in crowds for user, one in promised_after(crowd, "unconfirmed").items()}
    assert repeats
    assert {one.status for one in repeats.values()} == {200}
    assert kept.items() <= held_tickets(campaign).items()
    assert_no_hole(campaign)
    assert not FailEventHistory.objects.exists()
    for crowd in crowds:
        assert_only_promised_or(crowd, "unconfirmed", "unavailable")  # no thread in time: the first ones wait for Kafka


def let_the_consumer_hang(service: Service, crowd: Crowd) -> float:
    """After a commit, so that no transaction is open. Since when: what is promised then lies in the topic."""
    service.arm(CONSUMER_COMMITTED, "stop")
    service.wait_for(CONSUMER_COMMITTED)
    since = time.monotonic()
    crowd.wait_for_promises("with a consumer that hangs", users=70)  # of whom some may have asked before
    return since


def lost_with_the_log(campaign: Campaign, promised: set[str]) -> set[str]:
    """Whose tickets are pending, once the consumer has settled what it had committed.

    Of those who were promised a coupon since it hung, all but the first, whom the broker had sent to it already.
    """
    wait_until(lambda: not issued_and_pending(campaign), what="what it had committed is settled")
    lost = pending_users(campaign)
    assert len(lost) >= 40
    assert promised - lost <= set(Coupon.objects.filter(campaign=campaign).values_list("user_id", flat=True))
    return lost


def issued_and_pending(campaign: Campaign) -> set[str]:
    return pending_users(campaign) & set(Coupon.objects.filter(campaign=campaign).values_list("user_id", flat=True))


def assert_told_when_to_repeat(service: Service, campaign: Campaign, users: set[str]) -> None:
    answer = wait_until(
        lambda: (one := service.apply(campaign, min(users))).json()["code"] == "unconfirmed" and one,
        what="an answer by one who did not wait for Redis",
    )
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"


def median_sec(crowd: Crowd, *, last: int) -> float:
    requests = sorted(read_history(crowd.path).requests, key=lambda request: request.end)[-last:]
    return statistics.median(request.end - request.start for request in requests)


def messages(campaign: Campaign) -> Counter[str]:
    """How many messages each user has in the topic."""
    stretches = {partition: (lag.start, lag.end) for partition, lag in topics.partition_lags().items()}
    tickets = [decode(message.payload) for message in read_log(stretches)]
    return Counter(ticket.user_id for ticket in tickets if ticket.campaign_id == campaign.pk)


def delete_topic(topic: str) -> None:
    topics.administrator().delete_topics([topic], operation_timeout=10)[topic].result()
    wait_until(lambda: topics.partition_count() is None, what="the topic is gone")


def set_max_message_bytes(topic: str, count: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(count), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    topics.administrator().incremental_alter_configs([resource])[resource].result()
