"""The documents' examples, run as they stand: they get the place, keep it through an outage, and stop at a refusal."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coupons.campaigns.lifecycle import pause_campaign, resume_campaign
from coupons.models import Campaign, Coupon
from tests.support.process import ROOT, Process
from tests.support.service import API_KEY, Service
from tests.support.tickets import admit, held, issue, ticket
from tests.support.waiting import hold

EXAMPLES = ROOT / "docs" / "examples"
REDEEM = {"py": [sys.executable, "redeem.py"], "mjs": ["node", "redeem.mjs"]}
PROGRAMS = {"sh": ["sh", "apply.sh"], "py": [sys.executable, "apply.py"], "mjs": ["node", "apply.mjs"]}


BY_WHAT_RUNS_THEM = pytest.mark.parametrize(
    "kinds", [("sh", "py"), pytest.param(("mjs",), marks=pytest.mark.system)], ids=" ".join
)


def start(service: Service, kind: str, campaign: Campaign, user: str) -> Process:
    interpreter, file = PROGRAMS[kind]
    assert shutil.which(interpreter) or Path(interpreter).is_file(), f"{interpreter} is missing"
    more = {"API": f"{service.url}/api/v1", "TOKEN": API_KEY}
    return service.start(f"example {kind}", [interpreter, str(EXAMPLES / file), str(campaign.pk), user], **more)


def redeem(service: Service, kind: str, code: str, order: str) -> Process:
    interpreter, file = REDEEM[kind]
    more = {"API": f"{service.url}/api/v1", "KEY": API_KEY}
    return service.start(f"redeem {kind}", [interpreter, str(EXAMPLES / file), code, order], **more)


def succeeded(processes: dict[str, Process]) -> dict[str, dict[str, object]]:
    """What each has printed."""
    assert {kind: process.wait() for kind, process in processes.items()} == dict.fromkeys(processes, 0)
    return {kind: json.loads(process.output) for kind, process in processes.items()}


@BY_WHAT_RUNS_THEM
def test_an_example_keeps_its_place_and_takes_a_refusal(service: Service, kinds: tuple[str, ...]) -> None:
    service.web()
    campaigns = {kind: service.campaign(2) for kind in kinds}

    def users(name: str) -> dict[str, Process]:
        return {kind: start(service, kind, campaigns[kind], name) for kind in kinds}

    places = succeeded(users("anna"))
    assert {(place["status"], place["sequence"]) for place in places.values()} == {("pending", 1)}

    service.stack("pause", "redis")
    waiting, again = users("ben"), users("anna")
    everybody = [*waiting.values(), *again.values()]
    hold(2, lambda: all(process.exit_code is None for process in everybody), "all repeat")
    service.stack("resume", "redis")
    assert succeeded(again) == places
    assert {place["sequence"] for place in succeeded(waiting).values()} == {2}
    assert {held(campaign, "ben")["ben"].sequence for campaign in campaigns.values()} == {2}

    for refused in users("carl").values():
        assert refused.wait() == 1, refused.output
        assert '"sold-out"' in refused.output


@BY_WHAT_RUNS_THEM
def test_an_example_waits_for_opening_and_resumption(service: Service, kinds: tuple[str, ...]) -> None:
    service.web()
    opening = service.campaign(len(kinds), opens_at=datetime.now(UTC) + timedelta(seconds=4))
    paused = service.campaign(len(kinds))
    pause_campaign(campaign_id=paused.pk, actor="test")

    early = [{kind: start(service, kind, campaign, kind) for kind in kinds} for campaign in (opening, paused)]
    hold(2, lambda: all(each.exit_code is None for group in early for each in group.values()), "all wait")
    resume_campaign(campaign_id=paused.pk, actor="test")

    for group in early:
        assert {place["sequence"] for place in succeeded(group).values()} == set(range(1, len(kinds) + 1))


@BY_WHAT_RUNS_THEM
def test_a_redeeming_example_takes_one_order(service: Service, kinds: tuple[str, ...]) -> None:
    service.web()
    campaign = service.campaign(len(kinds))
    for kind, sequence in zip(kinds, admit(campaign, *kinds), strict=True):
        issue(ticket(campaign, kind, sequence))
    codes = dict(Coupon.objects.values_list("user_id", "code"))

    def run(order: str) -> dict[str, Process]:
        return {kind: redeem(service, kind, codes[kind], order) for kind in kinds if kind in REDEEM}

    service.stack("pause", "postgres")
    waiting = run("1001")
    hold(2, lambda: all(process.exit_code is None for process in waiting.values()), "all repeat")
    service.stack("resume", "postgres")
    redeemed = succeeded(waiting)
    assert {each["status"] for each in redeemed.values()} == {"redeemed"}
    assert succeeded(run("1001")) == redeemed
    for refused in run("1002").values():
        assert refused.wait() == 1, refused.output
        assert '"already-redeemed"' in refused.output
