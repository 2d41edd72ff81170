"""An older version's processes beside the new ones, under load: each understands what the other has written.

Also while the migrations run that the older version does not know.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3
from django.db import connection

from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.models import Campaign, Coupon
from coupons.redemption.codes import FORMER_LENGTH
from coupons.runtime.failpoints import CONSUMER_INSERTED
from harness import free_port
from tests.support.checkout import waits_for_a_lock
from tests.support.process import ROOT, Process
from tests.support.promises import assert_history_holds
from tests.support.service import HEADERS, Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system
OLDER = "54c004914c52"
"""Its messages, scripts and tables are understood as the present ones are. Move it when that ends, and say in the
changelog in which order to update from it."""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Its checkout; `migrate` of the present version has run on the database."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", OLDER], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"this clone has no history: `git fetch --unshallow` brings commit {OLDER}")
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive.stdout, check=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def start_older(service: Service, folder: Path) -> list[Process]:
    """Web, consumer and keeper."""
    port = free_port()
    file = str(ROOT / os.environ["COUPON_ENV_FILE"])  # bin/web goes to its own folder
    of_web = {"WEB_PORT": str(port), "COUPON_WEB_WORKERS": "1", "COUPON_ENV_FILE": file}
    web = service.start("older web", [str(folder / "bin" / "web")], **of_web)
    manage = [sys.executable, str(folder / "manage.py")]
    consumer = service.start("older consumer", [*manage, "run_coupon_consumer", "--solo"])
    keeper = service.start("older keeper", [*manage, "run_keeper", "--interval-ms", "300"])
    consumer.says("consumer.assigned")
    keeper.says("keeper: one round")
    web.says("Started worker-1")
    service.addresses.append(f"http://127.0.0.1:{port}")
    return [consumer, keeper, web]


def test_two_versions_side_by_side_lose_nothing(service: Service, older: Path) -> None:
    campaign = service.campaign(quantity=20_000)
    former = start_older(service, older)
    crowd = service.crowd(campaign)
    crowd.wait_for_promises("by the older version", users=50)

    new_consumer = service.consumer("--solo")
    service.keeper()
    crowd.wait_for_promises("with both consumers and keepers", users=50)
    service.web()
    crowd.wait_for_promises("by both versions", users=100)
    service.stack("kill", "redis")
    service.stack("start", "redis")
    crowd.wait_for_promises("after a rebuild by one of the keepers", users=50)

    for process in former:
        assert process.stop() == 0
    service.addresses.pop(0)
    crowd.wait_for_promises("by the new version alone", users=50)
    assert_history_holds(crowd, campaigns=[campaign], within_sec=90)
    assert service.run("reconcile_campaigns").exit_code == 0
    assert new_consumer.stop() == 0


BEFORE_REDEMPTIONS = "0013"
ROUNDS = 2


def test_migrations_run_while_an_older_version_serves(service: Service, older: Path) -> None:
    """There and back, under load, and first in the middle of a batch: the older web and consumer go on, and PostgreSQL
    breaks no deadlock. What they made is good in the new version: campaigns without a code key, and their codes."""
    campaign = service.campaign(quantity=100_000)
    deadlocks = count_deadlocks()
    migrate(service, BEFORE_REDEMPTIONS)  # takes the campaign's code key away, so it is as the older version made it
    try:
        former = start_older(service, older)
        crowd = service.crowd(campaign)
        crowd.wait_for_promises("by the older version, before", users=50)
        for turn in range(ROUNDS):
            if turn == 0:
                migrate_in_the_middle_of_a_batch(service)
            else:
                migrate(service)
            crowd.wait_for_promises(f"by the older version, after migration {turn}", users=50)
            if turn < ROUNDS - 1:
                migrate(service, BEFORE_REDEMPTIONS)
                crowd.wait_for_promises(f"by the older version, back again {turn}", users=50)
        web = service.addresses[0]
        made = older_operator_works(web, campaign)
        assert_older_admin_shows_campaigns(service, older)
        mixed = open_campaign(campaign_id=make_draft().pk, actor="test")
        assert post(web, f"campaigns/{mixed.pk}/apply", user_id="42").status == 202
        wait_until(lambda: Coupon.objects.filter(campaign=mixed).exists(), what="the older consumer has written it")

        consumer = service.consumer("--solo")
        service.web()
        for process in former:
            assert process.stop() == 0
        service.addresses.pop(0)
        crowd.wait_for_promises("by the new version alone", users=50)
        assert_history_holds(crowd, campaigns=[campaign], within_sec=90)
        assert count_deadlocks() == deadlocks
        assert Campaign.objects.get(pk=campaign.pk).code_key == Campaign.objects.get(pk=made).code_key == ""
        for each in (campaign, mixed):
            assert_redeemable(service, each)
        assert consumer.stop() == 0
    finally:
        migrate(service)


def migrate(service: Service, *to: str) -> None:
    done = service.run("migrate", "coupons", *to)
    assert done.exit_code == 0, done.output


def migrate_in_the_middle_of_a_batch(service: Service) -> None:
    """The consumer has written coupons and locked its campaign: the migration waits for it, and it for nothing."""
    service.arm(CONSUMER_INSERTED, "stop")
    service.wait_for(CONSUMER_INSERTED)
    migration = service.manage("migrate", "coupons")
    wait_until(lambda: waits_for_a_lock() > 0, what=lambda: f"the migration waits:\n{migration.output}")
    service.resume(CONSUMER_INSERTED)
    assert migration.wait() == 0, migration.output


def count_deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def older_operator_works(web: str, campaign: Campaign) -> str:
    """Raises a quantity, and makes and opens a campaign that admits; its id."""
    path = f"campaigns/{campaign.pk}"
    assert urllib3.request("PATCH", f"{web}/api/v1/{path}", headers=HEADERS, json={"quantity": 100_001}).status == 200
    for action in ("pause", "resume"):
        assert post(web, f"{path}/{action}").status == 200
    made = str(post(web, "campaigns", name="older", quantity=10).json()["id"])
    assert post(web, f"campaigns/{made}/open").status == 200
    assert post(web, f"campaigns/{made}/apply", user_id="42").status == 202

    def is_issued() -> bool:
        answer = urllib3.request("GET", f"{web}/api/v1/campaigns/{made}/tickets/42", headers=HEADERS)
        return bool(answer.json()["status"] == "issued")

    wait_until(is_issued, what="the coupon, on the ticket")
    return made


def post(web: str, path: str, **body: object) -> urllib3.BaseHTTPResponse:
    return urllib3.request("POST", f"{web}/api/v1/{path}", headers=HEADERS, json=body)


def assert_older_admin_shows_campaigns(service: Service, older: Path) -> None:
    admin = service.start("older admin", [sys.executable, "-P", "-c", LOOK_AT_CAMPAIGNS], PYTHONPATH=str(older))
    assert admin.wait() == 0, admin.output
    assert admin.output.splitlines()[-1] == f"{older} 200 200 200", admin.output


LOOK_AT_CAMPAIGNS = """
import django
django.setup()
from pathlib import Path
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
import coupons
from coupons.models import Campaign
browser = Client(SERVER_NAME="127.0.0.1")
browser.force_login(User.objects.create_superuser("older"))
pages = [
    reverse("admin:coupons_campaign_changelist"),
    reverse("admin:coupons_campaign_change", args=[Campaign.objects.first().pk]),
    reverse("admin:coupons_coupon_changelist"),
]
print(Path(coupons.__file__).parents[1], *(browser.get(page).status_code for page in pages))
"""


def make_draft() -> Campaign:
    return create_campaign(name="by the new version", quantity=10, actor="test")


def assert_redeemable(service: Service, campaign: Campaign) -> None:
    """With the code of the older consumer, which knows no other kind."""
    coupon = Coupon.objects.filter(campaign=campaign).order_by("sequence")[0]
    assert len(coupon.code) == FORMER_LENGTH
    redeemed = service.post_json("redemptions", {"code": coupon.code, "order_ref": "1001", "user_id": coupon.user_id})
    assert (redeemed.status, redeemed.json()["status"]) == (201, "redeemed")
    assert service.post_json(f"redemptions/{redeemed.json()['id']}/return", {"reason": "test"}).status == 200
    assert service.post_json("coupons/revoke", {"code": coupon.code, "reason": "test"}).status == 200
