"""Data of one or of two servers is lost at once: what docs/decisions/0013 promises then, and nothing more.

PostgreSQL comes back from an older dump by the commands of docs/runbook.md, "Back up and restore".
"""

import subprocess
from pathlib import Path

import pytest
import urllib3
from confluent_kafka.admin import AdminClient
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse

from coupons.admission.scripts import admission_redis
from coupons.auth.api_keys import create_api_key, revoke_api_key
from coupons.auth.revocations import share_revoked_keys
from coupons.management.command import EXIT_UNAVAILABLE
from coupons.messaging import topics
from coupons.messaging.kafka import client_config
from coupons.models import ApiKey, AuditEntry, Campaign, Coupon, Scope
from tests.support.process import Process
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.tickets import held
from tests.support.timeouts import RELAY_SOON
from tests.support.waiting import wait_until


@pytest.mark.parametrize("lost", ["nothing else", "redis", "kafka"])
def test_an_older_dump_costs_no_promise(service: Service, tmp_path: Path, lost: str) -> None:
    """Also with Redis or Kafka lost at the same time. Users, sequences and codes are the same, also of coupons that the
    dump lacks: what a user wrote down can be redeemed."""
    campaign = service.campaign(100)
    consumer = service.consumer("--solo")
    promises = apply_all(campaign, range(20))
    wait_until(lambda: issued(campaign) == 20)
    codes = codes_of(campaign)
    pg_dump(service, tmp_path / "dump")
    promises |= apply_all(campaign, range(20, 40))
    wait_until(lambda: issued(campaign) == 40)
    consumer.stop()
    later_codes = codes_of(campaign)
    promises |= apply_all(campaign, range(40, 45))

    pg_restore(service, tmp_path / "dump")
    lose(lost, service)
    assert codes_of(campaign) == codes, "the older copy"
    succeed(service.run("rebuild_admission", "--all"))
    service.consumer("--solo")
    service.keeper(**RELAY_SOON)

    assert_kept(campaign, promises)
    assert later_codes.items() <= codes_of(campaign).items()
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


def test_what_was_revoked_after_the_dump_stays_so(service: Service, tmp_path: Path) -> None:
    """A revoked key and a switched-off operator are valid again in the copy. A kept key and a kept operator go on."""
    campaign = service.campaign(10)
    stolen, key = create_api_key(name="partner", scopes=Scope.values, actor="test")
    _, good = create_api_key(name="shop", scopes=Scope.values, actor="test")
    kim, anna = (User.objects.create_superuser(name) for name in ("dumped-kim", "dumped-anna"))
    web = service.web()
    pg_dump(service, tmp_path / "dump")
    switch_off(kim, by=anna)
    revoke_api_key(prefix=stolen.prefix, actor="test", reason="stolen")
    wait_until(lambda: stolen.digest in share_revoked_keys(), what="Redis knows the revocation")
    web.stop()

    pg_restore(service, tmp_path / "dump")
    stolen.refresh_from_db()
    kim.refresh_from_db()
    assert (stolen.revoked_at, kim.is_active) == (None, True), "the older copy"

    listed = service.run("revoke_after_restore")
    assert listed.exit_code == 1, listed.output
    assert f"! {stolen.prefix}  partner" in listed.output
    assert (
        "! dumped-kim  is_active, is_staff, is_superuser: has lost since, as Redis remembers: is_active"
        in listed.output
    )
    assert "  dumped-anna  is_active" in listed.output
    service.web()  # too early: even so the key opens nothing
    assert ask(service, campaign, key) == 401
    assert ask(service, campaign, good) == 200

    succeed(service.run("revoke_after_restore", "--yes", "--reason", "last night's dump"))

    stolen.refresh_from_db()
    kim.refresh_from_db()
    assert (stolen.revoked_reason, kim.is_active) == ("last night's dump", False)
    assert User.objects.get(username="dumped-anna").is_active
    assert not Session.objects.exists()
    assert AuditEntry.objects.filter(what="Switched off after a restore", object_name="dumped-kim").count() == 1
    succeed(service.run("revoke_after_restore"))


def test_without_redis_all_but_the_named_lose_their_rights(service: Service) -> None:
    keys = [create_api_key(name=name, scopes=[Scope.APPLY], actor="test")[0] for name in ("shop", "partner")]
    for name in ("kim", "anna"):
        User.objects.create_superuser(name)
    service.stack("stop", "redis")
    assert service.run("revoke_after_restore").exit_code == EXIT_UNAVAILABLE
    command = ("revoke_after_restore", "--yes", "--reason", "all is lost", "--all-but")
    unknown = service.run(*command, keys[0].prefix, "ana")
    assert (unknown.exit_code, "is named ana" in unknown.output) == (1, True)

    succeed(service.run(*command, keys[0].prefix, "anna"))

    assert list(ApiKey.objects.filter(revoked_at=None)) == keys[:1]
    assert [user.username for user in User.objects.filter(is_active=True)] == ["anna"]


def switch_off(account: User, *, by: User) -> None:
    """In the admin, as an operator does."""
    browser = Client()
    browser.force_login(by)
    joined = account.date_joined
    values = {"username": account.username, "is_staff": "on", "is_superuser": "on", "reason": "has left"}
    when = {"date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}"}
    browser.post(reverse("admin:auth_user_change", args=[account.pk]), {**values, **when})
    account.refresh_from_db()
    assert not account.is_active


def ask(service: Service, campaign: Campaign, key: str) -> int:
    url = f"{service.url}/api/v1/campaigns/{campaign.pk}"
    return urllib3.request("GET", url, headers={"Authorization": f"Bearer {key}"}, timeout=10).status


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
