"""The commands of a campaign's life: what they print, how they exit, and what they say about bad arguments."""

import re
from uuid import UUID, uuid4

import pytest

from coupons.models import Campaign
from tests.support.commands import Ran, run
from tests.support.service import Service


def test_create_campaign_prints_the_id_and_nothing_else(service: Service) -> None:
    ran = run("create_campaign", "--name", "Winter", "--quantity", 5)

    assert (ran.code, ran.err) == (0, "")
    campaign = Campaign.objects.get(pk=UUID(ran.out.strip()))
    assert (campaign.name, campaign.quantity, campaign.state) == ("Winter", 5, "draft")


def test_create_campaign_opens_it_at_once_if_asked(service: Service) -> None:
    ran = run("create_campaign", "--name", "x", "--quantity", 5, "--open")

    assert Campaign.objects.get(pk=UUID(ran.out.strip())).state == "open"


def test_create_campaign_takes_times_with_an_offset(service: Service) -> None:
    run("create_campaign", "--name", "x", "--quantity", 5, "--opens-at", "2030-12-01T10:00:00+09:00")

    assert Campaign.objects.get().opens_at.isoformat() == "2030-12-01T01:00:00+00:00"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--opens-at", "tomorrow"], "--opens-at: 'tomorrow' is not a time with an offset"),
        (["--opens-at", "2030-12-01T10:00:00"], "--opens-at: .*not a time with an offset"),
        (["--closes-at", "2030-13-01T10:00:00Z"], "--closes-at: .*not a time with an offset"),
        (["--quantity", "0"], "--quantity: 0 is out of range: from 1 to 10000000"),
        (["--quantity", "many"], "--quantity: 'many' is not a whole number"),
        (["--closes-at", "2020-12-01T10:00:00Z"], "closes_at: it must be later than opens_at"),
        (["--name", " "], "name: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_values_name_the_argument_and_make_no_campaign(db: None, arguments: list[str], named: str) -> None:
    given = dict([("--name", "x"), ("--quantity", "5"), *zip(arguments[::2], arguments[1::2], strict=True)])
    ran = run("create_campaign", *(item for pair in given.items() for item in pair))

    assert ran.code == 1
    assert re.search(named, ran.err), ran.err
    assert not Campaign.objects.exists()


@pytest.mark.parametrize("command", ["open_campaign", "pause_campaign", "resume_campaign", "close_campaign"])
def test_a_campaign_that_does_not_exist_is_refused(db: None, command: str) -> None:
    missing = uuid4()

    assert run(command, missing) == Ran(1, "", f"There is no campaign {missing}.")


def test_each_step_prints_what_it_did(service: Service) -> None:
    campaign = service.campaign(opened=False)
    said = [
        run(f"{step}_campaign", campaign.pk).out.strip().removeprefix(f"Campaign {campaign.pk} (test) ")
        for step in ("open", "pause", "resume", "close")
    ]

    assert said == ["is open.", "is paused.", "is open again.", "is closed."]


def test_a_change_says_what_it_changed(service: Service) -> None:
    campaign = service.campaign(5)
    ran = run("change_campaign", campaign.pk, "--quantity", 9)

    assert ran.code == 0
    assert "changed: quantity 9" in ran.out
    assert Campaign.objects.get().quantity == 9


def test_a_change_of_nothing_says_what_could_be(service: Service) -> None:
    ran = run("change_campaign", service.campaign().pk)

    assert ran.code == 1
    assert "give at least one of --name, --quantity, --opens-at, --closes-at, --valid-from, " in ran.err


def test_a_change_missing_in_redis_exits_2_and_is_saved(service: Service) -> None:
    campaign = service.campaign(5)
    service.stack("pause", "redis")
    ran = run("change_campaign", campaign.pk, "--quantity", 9)

    assert ran.code == 2
    assert "Saved, but Redis has not heard of it yet" in ran.err
