"""Data of one or of two servers is lost at once: what docs/decisions/0013 promises then, and nothing more.

PostgreSQL comes back from an older dump by the commands of docs/runbook.md, "Back up and restore".
"""

import subprocess
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from django.db import connection

from coupons.admission.scripts import admission_redis
from coupons.messaging import topics
from coupons.messaging.kafka import client_config
from coupons.models import Campaign, Coupon
from tests.support.process import Process
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.tickets import held
from tests.support.timeouts import RELAY_SOON
from tests.support.waiting import wait_until


@pytest.mark.parametrize("lost", ["nothing else", "redis", "kafka"])
def test_an_older_dump_costs_no_promise(service: Service, tmp_path: Path, lost: str) -> None:
    """Also with Redis or Kafka lost at the same time. Users and sequences are the same; younger codes are others."""
    campaign = service.campaign(100)
    consumer = service.consumer("--solo")
    promises = apply_all(campaign, range(20))
    wait_until(lambda: issued(campaign) == 20)
    codes = codes_of(campaign)
    pg_dump(service, tmp_path / "dump")
    promises |= apply_all(campaign, range(20, 40))
    wait_until(lambda: issued(campaign) == 40)
    consumer.stop()
    promises |= apply_all(campaign, range(40, 45))

    pg_restore(service, tmp_path / "dump")
    lose(lost, service)
    assert codes_of(campaign) == codes, "the older copy"
    succeed(service.run("rebuild_admission", "--all"))
    service.consumer("--solo")
    service.keeper(**RELAY_SOON)

    assert_kept(campaign, promises)
    assert codes.items() <= codes_of(campaign).items()
    assert apply_all(campaign, range(45)) == promises, "and a repeat gets the same place"


def test_consumers_write_again_what_the_dump_lacks(service: Service, tmp_path: Path) -> None:
    """The offsets came back with the dump, so they read on from there."""
    campaign = service.campaign(100)
    consumer = service.consumer("--solo")
    promises = apply_all(campaign, range(20))
    wait_until(lambda: issued(campaign) == 20)
    pg_dump(service, tmp_path / "dump")
    promises |= apply_all(campaign, range(20, 40))
    wait_until(lambda: issued(campaign) == 40)
    consumer.stop()

    pg_restore(service, tmp_path / "dump")
    assert issued(campaign) == 20
    service.consumer("--solo").says("consumer.offset_was_moved")

    assert_kept(campaign, promises)


def test_coupons_beyond_the_dump_s_quantity_wait_for_an_operator(service: Service, tmp_path: Path) -> None:
    """The quantity was raised after the dump: all who are in stay in, and PostgreSQL refuses until it is raised."""
    campaign = service.campaign(10)
    pg_dump(service, tmp_path / "dump")
    succeed(service.run("change_campaign", str(campaign.pk), "--quantity", "15"))
    promises = apply_all(campaign, range(15))

    pg_restore(service, tmp_path / "dump")
    succeed(service.run("rebuild_admission", "--all"))
    consumer = service.consumer("--solo")
    wait_until(lambda: issued(campaign) == 10)
    told = service.run("reconcile_campaigns", str(campaign.pk))
    command = f"manage.py change_campaign {campaign.pk} --quantity 15"
    assert (told.exit_code, command in told.output) == (1, True), told.output
    succeed(service.run(*command.split()[1:]))
    wait_until(lambda: issued(campaign) + failed_events(campaign) == 15)
    Campaign.objects.get(pk=campaign.pk).faileventhistory_set.update(next_attempt_at="2026-01-01T00:00:00Z")
    succeed(service.run("retry_failed_coupons"))

    assert_kept(campaign, promises)
    assert consumer.stop() == 0


def test_losing_redis_and_kafka_loses_only_pending_tickets(service: Service) -> None:
    campaign = service.campaign(30)
    consumer = service.consumer("--solo")
    promises = apply_all(campaign, range(20))
    wait_until(lambda: issued(campaign) == 20)
    consumer.stop()
    lost = apply_all(campaign, range(20, 25))

    lose("redis", service)
    lose("kafka", service)
    keeper = service.keeper()
    keeper.says("rebuild.done")

    assert set(held(campaign, *promises, *lost)) == set(promises)
    promises |= apply_all(campaign, range(25, 35))
    service.consumer("--solo")
    ledger = assert_kept(campaign, promises)
    assert ledger.tickets == 30, "the places of those who are gone went to others, and nobody is beyond the quantity"


def pg_dump(service: Service, file: Path) -> None:
    run_program("pg_dump", service.environment["DATABASE_URL"], "--format=custom", f"--file={file}")


def pg_restore(service: Service, file: Path) -> None:
    connection.close()
    url = service.environment["DATABASE_URL"]
    run_program("pg_restore", f"--dbname={url}", "--clean", "--if-exists", "--single-transaction", str(file))


def run_program(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def lose(part: str, service: Service) -> None:
    """All that it has of this test."""
    if part == "redis":
        admission_redis().flushall()
    elif part == "kafka":
        administrator = AdminClient(client_config())
        administrator.delete_topics([service.topic], operation_timeout=10)[service.topic].result()
        wait_until(lambda: topics.partition_count() is None, what="the topic is gone")
        topics.create_topic()


def succeed(process: Process) -> None:
    assert process.exit_code == 0, process.output


def codes_of(campaign: Campaign) -> dict[str, str]:
    return dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "code"))


def failed_events(campaign: Campaign) -> int:
    return campaign.faileventhistory_set.exclude(event_status="SUCCESS").count()
