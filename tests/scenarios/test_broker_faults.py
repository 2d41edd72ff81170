"""Kafka goes away while users apply: nobody is promised what is not in the log, and every place is kept."""

import time
from concurrent.futures import ThreadPoolExecutor

import urllib3
from confluent_kafka.admin import AdminClient

from coupons.messaging import topics
from coupons.messaging.kafka import client_config
from coupons.models import Campaign, FailEventHistory
from tests.support.promises import Promises, apply_all, assert_kept
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_broker_killed_and_then_hanging_while_users_apply(service: Service) -> None:
    """503 `unconfirmed`, at once when the breaker is open; then 200 for the same places, and all are issued."""
    service.everything()
    campaign = service.campaign(100)
    promises = promised(apply(service, campaign, range(5)), expected={202})

    for fault, repair, users in (("kill", "start", range(10, 30)), ("pause", "resume", range(30, 50))):
        service.stack(fault, "kafka")
        refused = apply(service, campaign, users)
        assert {(answer.status, answer.json()["code"]) for answer in refused.values()} == {(503, "unconfirmed")}
        assert all(1 <= int(answer.headers["Retry-After"]) <= 5 for answer in refused.values())
        wait_until(
            lambda users=users: most_are_answered_at_once(service, campaign, users),  # type: ignore[misc]
            what="each process's breaker opens, after five that waited",
        )
        service.stack(repair, "kafka")

        again = wait_until(lambda users=users: all_promised(service, campaign, users), within_sec=40)  # type: ignore[misc]
        promises |= again
        assert set(again) == {str(user) for user in users}

    ledger = assert_kept(campaign, promises, within_sec=60)
    assert (ledger.tickets, ledger.first_sequence, ledger.last_sequence) == (45, 1, 45), (
        "no slot was lost or given twice"
    )
    assert not FailEventHistory.objects.exists()


def test_a_topic_deleted_and_made_anew_gets_again_what_is_pending(service: Service) -> None:
    """The tickets' messages went with the old topic; the running consumer reads the new one from its start."""
    campaign = service.campaign(100)
    consumer = service.consumer()
    promises = apply_all(campaign, range(20))
    assert_kept(campaign, promises)
    consumer.stop()
    promises |= apply_all(campaign, range(20, 40))
    consumer = service.consumer("--max-rate", "1")
    delete_topic(service.topic)
    topics.create_topic()

    service.keeper()
    promises |= apply_all(campaign, range(40, 45))
    consumer.stop()
    service.consumer()

    assert_kept(campaign, promises, within_sec=60)
    assert not FailEventHistory.objects.exists()


def test_a_consumer_goes_on_by_itself_with_a_topic_made_anew(service: Service) -> None:
    campaign = service.campaign(100)
    service.consumer()
    promises = apply_all(campaign, range(20))
    assert_kept(campaign, promises)

    delete_topic(service.topic)
    topics.create_topic()

    promises |= apply_all(campaign, range(20, 40))
    service.keeper()
    assert_kept(campaign, promises, within_sec=60)


def apply(service: Service, campaign: Campaign, users: range) -> dict[str, urllib3.BaseHTTPResponse]:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda user: service.apply(campaign, str(user)), users)
        return {str(user): answer for user, answer in zip(users, answers, strict=True)}


def promised(answers: dict[str, urllib3.BaseHTTPResponse], *, expected: set[int]) -> Promises:
    assert {answer.status for answer in answers.values()} == expected
    return {user: answer.json()["sequence"] for user, answer in answers.items()}


def all_promised(service: Service, campaign: Campaign, users: range) -> Promises | None:
    """Their repeats: each 200, since each has had its place all along."""
    answers = apply(service, campaign, users)
    if any(answer.status == 503 for answer in answers.values()):
        return None
    return promised(answers, expected={200})


def most_are_answered_at_once(service: Service, campaign: Campaign, users: range) -> bool:
    """Nobody waits for Kafka any more, but one request a second and process that looks."""

    def duration(user: int) -> float:
        started = time.monotonic()
        assert service.apply(campaign, str(user)).status == 503
        return time.monotonic() - started

    with ThreadPoolExecutor(8) as pool:
        return sorted(pool.map(duration, users[:8]))[4] < 0.4


def delete_topic(topic: str) -> None:
    administrator = AdminClient(client_config())
    administrator.delete_topics([topic], operation_timeout=10)[topic].result()
    wait_until(lambda: topics.partition_count() is None, what="the topic is gone")
