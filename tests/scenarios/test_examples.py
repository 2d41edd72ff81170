"""The documents' examples, run as they stand: they get the place, keep it through an outage, and stop at a refusal."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coupons.campaigns.lifecycle import pause_campaign, resume_campaign
from coupons.models import Campaign
from tests.support.process import ROOT, Process
from tests.support.service import API_KEY, Service
from tests.support.tickets import held
from tests.support.waiting import hold

EXAMPLES = ROOT / "docs" / "examples"
PROGRAMS = {"sh": ["sh", "apply.sh"], "py": [sys.executable, "apply.py"], "mjs": ["node", "apply.mjs"]}


@pytest.fixture(params=["sh", "py", pytest.param("mjs", marks=pytest.mark.system)])
def program(request: pytest.FixtureRequest) -> list[str]:
    interpreter, file = PROGRAMS[request.param]
    assert shutil.which(interpreter) or Path(interpreter).is_file(), f"{interpreter} is missing"
    return [interpreter, str(EXAMPLES / file)]


def start(service: Service, program: list[str], campaign: Campaign, user: str) -> Process:
    more = {"API": f"{service.url}/api/v1", "TOKEN": API_KEY}
    return service.start("example", [*program, str(campaign.pk), user], **more)


def test_an_example_keeps_its_place_and_takes_a_refusal(service: Service, program: list[str]) -> None:
    service.web()
    campaign = service.campaign(2)
    first = start(service, program, campaign, "anna")
    assert first.wait() == 0, first.output
    place = json.loads(first.output)
    assert (place["status"], place["sequence"]) == ("pending", 1)

    service.stack("pause", "redis")
    waiting = start(service, program, campaign, "ben")
    again = start(service, program, campaign, "anna")
    hold(2, lambda: waiting.exit_code is None and again.exit_code is None, "both repeat")
    service.stack("resume", "redis")
    assert (waiting.wait(), again.wait()) == (0, 0), waiting.output
    assert json.loads(again.output) == place
    assert held(campaign, "ben")["ben"].sequence == json.loads(waiting.output)["sequence"] == 2

    refused = start(service, program, campaign, "carl")
    assert refused.wait() == 1
    assert '"sold-out"' in refused.output


def test_an_example_waits_for_opening_and_resumption(service: Service, program: list[str]) -> None:
    service.web()
    opening = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(seconds=4))
    paused = service.campaign(1)
    pause_campaign(campaign_id=paused.pk, actor="test")

    early = [start(service, program, campaign, "anna") for campaign in (opening, paused)]
    hold(2, lambda: all(each.exit_code is None for each in early), "both wait")
    resume_campaign(campaign_id=paused.pk, actor="test")

    assert [each.wait() for each in early] == [0, 0], [each.output for each in early]
    assert [json.loads(each.output)["sequence"] for each in early] == [1, 1]
