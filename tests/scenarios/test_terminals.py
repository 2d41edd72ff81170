"""Terminals without UTF-8, closed pipes, full disks: a command's exit code says what it did, not what it printed."""

import os
import subprocess
import sys
from typing import Any

import pytest

from coupons.campaigns.lifecycle import open_campaign
from coupons.models import Campaign, CampaignState
from tests.support.process import ROOT
from tests.support.service import Service

NAME = "겨울 쿠폰 café 🎉"
FULL_DISK = "/dev/full"


def run(service: Service, *arguments: str, encoding: str = "", **more: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**service.environment, **({"PYTHONIOENCODING": encoding} if encoding else {})}
    options: dict[str, Any] = {"stdout": subprocess.PIPE, **more}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, timeout=60, check=False, **options
    )


@pytest.fixture
def campaign(service: Service) -> Campaign:
    campaign = service.campaign(3, opened=False)
    Campaign.objects.filter(pk=campaign.pk).update(name=NAME)
    return open_campaign(campaign_id=campaign.pk, actor="test")


def state(campaign: Campaign) -> str:
    campaign.refresh_from_db()
    return campaign.state


@pytest.mark.parametrize("encoding", ["euc-kr", "latin-1", "ascii:strict"])
def test_a_name_that_cannot_be_printed_is_escaped(service: Service, campaign: Campaign, encoding: str) -> None:
    paused = run(service, "pause_campaign", str(campaign.pk), encoding=encoding)
    closes = run(service, "reconcile_campaigns", str(campaign.pk), encoding=encoding)

    assert (paused.returncode, state(campaign)) == (0, CampaignState.PAUSED), paused.stderr
    assert rb"\U0001f389) is paused." in paused.stdout
    assert closes.returncode == 0, closes.stderr


def test_a_reader_who_has_gone_changes_nothing(service: Service, campaign: Campaign) -> None:
    """As `manage.py ... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        paused = run(service, "pause_campaign", str(campaign.pk), stdout=writing)
        closes = run(service, "reconcile_campaigns", "--json", stdout=writing)
    finally:
        os.close(writing)

    assert (paused.returncode, state(campaign)) == (0, CampaignState.PAUSED), paused.stderr
    assert (closes.returncode, b"written" in paused.stderr + closes.stderr) == (0, False), closes.stderr


def test_a_full_disk_is_said_and_changes_nothing_else(service: Service, campaign: Campaign) -> None:
    with open(FULL_DISK, "wb") as full:  # noqa: PTH123
        paused = run(service, "pause_campaign", str(campaign.pk), stdout=full)

    assert (paused.returncode, state(campaign)) == (0, CampaignState.PAUSED)
    assert b"The output could not be written: No space left on device." in paused.stderr


def test_a_closed_output_changes_nothing(service: Service, campaign: Campaign) -> None:
    paused = run(service, "pause_campaign", str(campaign.pk), preexec_fn=lambda: os.close(1))

    assert (paused.returncode, state(campaign)) == (0, CampaignState.PAUSED), paused.stderr


def test_a_refusal_keeps_its_exit_code(service: Service, campaign: Campaign) -> None:
    with open(FULL_DISK, "wb") as full:  # noqa: PTH123
        refused = run(service, "resume_campaign", str(campaign.pk), stdout=full, encoding="ascii")

    assert refused.returncode == 1, refused.stderr


def test_an_argument_in_another_encoding_is_refused_by_name(service: Service) -> None:
    before = Campaign.objects.count()

    refused = run(service, "create_campaign", "--quantity", "1", "--name", os.fsdecode("쿠폰".encode("euc-kr")))

    assert (refused.returncode, Campaign.objects.count()) == (2, before)
    assert rb"what follows --name is no text in utf-8: '\udcc4" in refused.stderr
    assert b"Traceback" not in refused.stderr
