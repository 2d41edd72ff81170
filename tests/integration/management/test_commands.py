"""The commands: what they print, how they exit, and what they say about bad arguments."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without __all__
from django.conf import LazySettings
from django.core.management import call_command

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.messaging import topics
from coupons.messaging.positions import Position
from coupons.messaging.topics import partition_lags
from coupons.models import Campaign, FailEventHistory, JobRun
from coupons.recovery.rebuild import promise_window_sec
from tests.support.commands import Ran, run
from tests.support.service import Service
from tests.support.tickets import (
    admit,
    consume,
    insert_coupons,
    messages_in_topic,
    pending_users,
    received,
    were_read,
)
from tests.support.waiting import wait_until


def lose_redis(campaign: Campaign) -> None:
    admission_redis().flushall()


@pytest.mark.parametrize(
    "command",
    [
        "open_campaign",
        "pause_campaign",
        "resume_campaign",
        "close_campaign",
        "change_campaign",
        "rebuild_admission",
        "relay_pending_coupons",
        "reconcile_campaigns",
    ],
)
def test_what_is_no_campaign_id_is_named(db: None, command: str) -> None:
    ran = run(command, "42")

    assert ran.code == 1
    assert "'42' is not a campaign id" in ran.err


def test_create_topic_makes_it_once_and_says_so(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = f"{settings.TOPIC}_twice"

    assert run("create_topic") == Ran(0, f"Created topic {settings.TOPIC} with 4 partitions.\n", "")
    assert run("create_topic") == Ran(0, f"Topic {settings.TOPIC} already exists, with 4 partitions.\n", "")


def test_create_topic_repairs_one_that_is_too_small(service: Service, settings: LazySettings) -> None:
    """As one that Kafka made when somebody asked for it. Replicas come by Kafka's own tool."""
    settings.TOPIC = f"{settings.TOPIC}_found"
    made = topics.administrator().create_topics([NewTopic(settings.TOPIC, num_partitions=1)])
    made[settings.TOPIC].result(20)
    settings.TOPIC_MIN_INSYNC_REPLICAS, settings.TOPIC_REPLICATION = 2, 3
    wait_until(topics.partition_count, what="the topic")
    ran = run("create_topic")

    assert ran.code == 1
    assert "replication factor is 1, should be 3" in ran.err
    assert "kafka-reassign-partitions.sh --bootstrap-server" in ran.err
    *said, plan = ran.out.splitlines()
    assert said == [
        f"Topic {settings.TOPIC} already exists, with 4 partitions.",
        "  changed: message.timestamp.type was CreateTime, is LogAppendTime",
        "  changed: partitions were 1, are 4",
    ]
    assert [each["partition"] for each in json.loads(plan)["partitions"]] == [0, 1, 2, 3]
    differing = topics.settings_that_differ()
    assert differing == {"min.insync.replicas": ("1", "2")}, "with one replica, no message would be acknowledged"

    settings.TOPIC_MIN_INSYNC_REPLICAS = settings.TOPIC_REPLICATION = 1
    assert run("create_topic") == Ran(0, f"Topic {settings.TOPIC} already exists, with 4 partitions.\n", "")


def test_create_topic_makes_no_topic_keep_less(service: Service, settings: LazySettings) -> None:
    settings.TOPIC_RETENTION_MS = 3_600_000
    ran = run("create_topic")

    assert ran.code == 0
    left = "  left: retention.ms is 2592000000, more than 3600000; Kafka's kafka-configs lowers it"
    assert ran.out.splitlines()[1:] == [left]
    assert topics.settings_that_differ() == {"retention.ms": ("2592000000", "3600000")}


def test_relay_says_what_it_published(service: Service, settings: LazySettings) -> None:
    settings.RELAY_AFTER_MS = 0
    admit(service.campaign(), "a", "b")

    assert run("relay_pending_coupons") == Ran(0, "Relayed: 2 published again, 0 settled, 0 not acknowledged.\n", "")
    assert messages_in_topic() == 2


def test_rebuild_without_a_stale_campaign_has_nothing_to_do(service: Service) -> None:
    service.campaign()

    ran = run("rebuild_admission")

    assert (ran.code, ran.out) == (0, "Every campaign's state in Redis is current; nothing to rebuild.\n")


def test_rebuild_rebuilds_what_is_stale_and_says_how_many_tickets(service: Service, settings: LazySettings) -> None:
    settings.ACCEPT_TIMEOUT_MS = settings.REDIS_SOCKET_TIMEOUT_MS = 0
    campaign = service.campaign()
    admit(campaign, "a")
    admission_redis().hdel(campaign_keys(campaign.pk).campaign, "quantity")
    ran = run("rebuild_admission")

    assert ran.code == 0
    assert f"{campaign.pk}: 1 tickets, 1 of them pending" in ran.out
    assert f"after a wait of {promise_window_sec():.1f} s" in ran.err
    assert pending_users(campaign) == ["a"]


def test_rebuild_of_a_draft_is_refused(service: Service) -> None:
    ran = run("rebuild_admission", service.campaign(opened=False).pk)

    assert ran.code == 1
    assert "No opened campaign has the id" in ran.err


def healthy(campaign: Campaign) -> None:
    return None


def not_closing(campaign: Campaign) -> None:
    insert_coupons(campaign, [("thief", 7)])


@pytest.mark.parametrize(
    ("spoil", "code"), [(healthy, 0), (not_closing, 1), (lose_redis, 2)], ids=["closes", "does not", "could not check"]
)
def test_reconcile_s_exit_code_is_its_verdict(service: Service, spoil: Callable[[Campaign], None], code: int) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    spoil(campaign)

    assert run("reconcile_campaigns").code == code
    assert run("reconcile_campaigns", campaign.pk).code == code


def test_reconcile_prints_the_sum_and_each_difference_with_its_meaning(service: Service) -> None:
    campaign = service.campaign()
    not_closing(campaign)
    ran = run("reconcile_campaigns")

    assert ran.code == 1, ran.err
    out = ran.out
    assert "tickets 0 = issued 0 + failed 0 + pending 0 (quantity 10): DOES NOT CLOSE" in out
    assert "written-never-admitted x 1: a coupon without a ticket" in out
    assert "thief #7" in out
    assert f"-> manage.py rebuild_admission {campaign.pk}" in out


def test_reconcile_says_what_heals_by_itself_and_when(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    admission_redis().zadd(campaign_keys(campaign.pk).pending, {"a": 5.0})
    ran = run("reconcile_campaigns")

    assert ran.code == 0
    assert "admitted-never-published x 1: a pending ticket, and no message of it is in the topic." in ran.out
    assert "-> heals by itself: the keeper publishes it again within 11 s." in ran.out


def test_reconcile_counts_messages_that_left_no_trace(service: Service) -> None:
    service.produce(b"no JSON")
    were_read(*(Position(number, 0) for number, lag in partition_lags().items() if lag.end))
    ran = run("reconcile_campaigns")

    assert ran.code == 1
    assert "topic: 1 messages that were read, that name no ticket of a known campaign" in ran.out


def test_reconcile_as_json_is_one_document(service: Service) -> None:
    campaign = service.campaign()
    consume(received(campaign, "a", admit(campaign, "a")[0]))
    document: dict[str, Any] = json.loads(run("reconcile_campaigns", "--json").out)

    assert document["closes"] is True
    assert document["campaigns"][0] | {"name": ""} == {
        "campaign_id": str(campaign.pk),
        "name": "",
        "quantity": 10,
        "tickets": 1,
        "issued": 1,
        "failed": 0,
        "pending": 0,
        "unread": 0,
        "first_sequence": 1,
        "last_sequence": 1,
        "statuses": {"unused": 1, "held": 0, "redeemed": 0, "revoked": 0, "expired": 0},
        "closes": True,
        "unloaded": False,
        "differences": [],
    }
    assert document["orphans"] == {"differences": [], "closes": True}


def test_reconcile_of_an_unknown_campaign_could_not_look(service: Service) -> None:
    assert run("reconcile_campaigns", uuid4()).code == 2


def test_a_draft_s_ledger_closes_with_nothing_in_it(service: Service) -> None:
    ran = run("reconcile_campaigns", service.campaign(opened=False).pk)

    assert ran.code == 0
    assert "tickets 0 = issued 0 + failed 0 + pending 0 (quantity 10): closes" in ran.out


def test_one_stale_campaign_does_not_stop_reconciling_the_others(service: Service) -> None:
    stale, other = service.campaign(), service.campaign()
    admission_redis().delete(campaign_keys(stale.pk).campaign)

    ran = run("reconcile_campaigns")

    assert ran.code == 2
    assert str(other.pk) in ran.out
    assert f"Could not check: campaign {stale.pk}: Redis's state is not current (missing)" in ran.err


def test_retry_prints_its_result_and_records_its_run(service: Service, settings: LazySettings) -> None:
    settings.RETRY_BASE_DELAY_SEC = 0
    campaign = service.campaign(1)
    admit(campaign, "a")
    Campaign.objects.update(issued_count=1)
    consume(received(campaign, "a", 1))
    Campaign.objects.update(issued_count=0)
    ran = run("retry_failed_coupons")

    assert ran == Ran(0, "Retried: 1 succeeded, 0 failed again, 0 taken over by another run.\n", "")
    job = JobRun.objects.get(pk="retry_failed_coupons")
    assert (job.succeeded, job.result) == (True, "1 succeeded, 0 failed again, 0 taken over by another run")
    assert job.finished_at is not None


def test_a_retry_without_redis_exits_2_and_records_failure(service: Service, settings: LazySettings) -> None:
    settings.RETRY_BASE_DELAY_SEC = 0
    campaign = service.campaign(1)
    admit(campaign, "a")
    Campaign.objects.update(issued_count=1)
    consume(received(campaign, "a", 1))
    service.stack("pause", "redis")

    assert run("retry_failed_coupons").code == 2
    assert JobRun.objects.get().succeeded is False
    assert "GateUnavailable" in JobRun.objects.get().result
    assert FailEventHistory.objects.get().attempts == 0


def test_run_jobs_once_runs_what_cron_would(service: Service) -> None:
    assert run("run_jobs", "--once").code == 0
    assert dict(JobRun.objects.values_list("name", "succeeded")) == {"retry_failed_coupons": True, "tidy_holds": True}


def test_run_jobs_logs_a_failed_job_and_goes_on(service: Service, settings: LazySettings) -> None:
    settings.CRONJOBS = [
        ("* * * * *", "django.core.management.call_command", ["no_such_command"]),
        ("* * * * *", "django.core.management.call_command", ["retry_failed_coupons"]),
    ]

    assert run("run_jobs", "--once").code == 0
    assert JobRun.objects.filter(succeeded=True).count() == 1


def test_run_keeper_once_gives_what_needs_care_its_care(service: Service, settings: LazySettings) -> None:
    settings.RELAY_AFTER_MS = 0
    settings.ACCEPT_TIMEOUT_MS = settings.REDIS_SOCKET_TIMEOUT_MS = 0
    campaign = service.campaign()
    admit(campaign, "a")
    admission_redis().hset(campaign_keys(campaign.pk).campaign, "run_id", "0")
    Campaign.objects.update(quantity=11, revision=5)
    ran = run("run_keeper", "--once")

    assert (ran.code, ran.out) == (0, "Checked all campaigns and made the repairs that were needed.\n")
    assert messages_in_topic() == 1
    assert run("reconcile_campaigns").code == 0


def test_run_keeper_once_exits_2_without_an_answer(service: Service) -> None:
    service.campaign()
    service.stack("pause", "redis")

    assert run("run_keeper", "--once").code == 2


def test_the_consumer_names_a_topic_without_a_handler(service: Service) -> None:
    ran = run("run_coupon_consumer", "--topic", "nope")

    assert ran.code == 1
    assert "--topic: no handler is registered for topic 'nope'" in ran.err


@pytest.mark.parametrize(
    "name",
    [
        "create_campaign",
        "create_topic",
        "rebuild_admission",
        "reconcile_campaigns",
        "relay_pending_coupons",
        "retry_failed_coupons",
        "run_coupon_consumer",
        "run_jobs",
        "run_keeper",
        "tidy_holds",
        "change_campaign",
    ],
)
def test_every_command_s_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command(name, "--help")

    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"manage.py {name}" in shown
