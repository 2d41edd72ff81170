"""The crowd and the history checker with the real service."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from coupons.campaigns.lifecycle import pause_campaign, resume_campaign
from coupons.models import Coupon, Redemption
from faults.crowd import Crowd, WaitTimedOut
from faults.history import NO_ANSWER, Action, Request, read_history
from faults.history_check import check_history
from faults.history_rows import load_rows
from faults.verdict import Kind
from faults.visits import Habits
from tests.support.life_corruptions import past_every_trigger
from tests.support.process import ROOT
from tests.support.promises import assert_history_holds, change_quantity, issued
from tests.support.service import PYTHON, Service
from tests.support.waiting import wait_until

QUICK = Habits(users_per_sec=150, connections=8, repeat_share=0.2, duplicate_share=0.2)


def test_several_campaigns_a_raise_and_a_pause_hold(service: Service) -> None:
    service.web()
    service.consumer("--solo")
    small, large = service.campaign(30), service.campaign(10_000)
    crowd = service.crowd(small, large, habits=QUICK)

    crowd.wait_for_answers(409, "sold-out")
    change_quantity(crowd, small, 60)
    crowd.wait_for_promises("after the raise", users=15, campaign_id=small.pk)
    crowd.wait_for_answers(409, "sold-out")
    with crowd.history.during("pause"):
        pause_campaign(campaign_id=large.pk, actor="test")
        crowd.wait_for_answers(409, "paused", times=5)
        resume_campaign(campaign_id=large.pk, actor="test")
    crowd.wait_for_promises("after the pause", campaign_id=large.pk)
    change_quantity(crowd, small, 61)

    verdicts = assert_history_holds(crowd, campaigns=[small, large])
    assert verdicts[small.pk].sold_out >= 40
    assert verdicts[small.pk].promised == issued(small) >= 60
    assert verdicts[large.pk].promised == issued(large)
    assert crowd.tally.gave_up == 0
    assert_somebody_came_back_and_somebody_asked_twice(read_history(crowd.path).requests)


def assert_somebody_came_back_and_somebody_asked_twice(requests: list[Request]) -> None:
    """And was told 200, the one after the promise, the other at the same time."""
    admitted = {request.user_id: request for request in requests if request.status == 202}
    # Whose promise came too late for its own answer was told 503, then 200.
    repeats = [
        (admitted[request.user_id], request)
        for request in requests
        if request.status == 200 and request.user_id in admitted
    ]
    assert any(repeat.start > first.end for first, repeat in repeats)
    assert any(repeat.start < first.end and first.start < repeat.end for first, repeat in repeats)


def test_shops_use_the_coupons_and_the_history_of_it_holds(service: Service) -> None:
    service.web()
    service.consumer("--solo")
    campaign = service.campaign(10_000)
    habits = replace(QUICK, users_per_sec=40, shops=4)
    crowd = service.crowd(campaign, habits=habits)

    def answers() -> list[int]:
        seen = Counter((each.action, each.status) for each in read_history(crowd.path).checkouts)
        return [seen[way] for way in ways]

    ways = [(Action.REDEEM, 201), (Action.REDEEM, 200), (Action.REDEEM, 409), (Action.REDEEM, 403), (Action.HOLD, 201),
            (Action.CONFIRM, 200), (Action.RETURN, 200)]  # fmt: skip
    wait_until(lambda: min(answers()) >= 3, within_sec=60, what=lambda: f"each of {ways}: {answers()}")

    verdicts = assert_history_holds(crowd, campaigns=[campaign])
    assert verdicts[campaign.pk].redeemed >= 12
    history = read_history(crowd.path)
    with past_every_trigger():
        Redemption.objects.filter(coupon__campaign=campaign, state="redeemed")._raw_delete("default")
    spoilt = check_history(history, load_rows([campaign.pk]))
    assert {finding.kind for finding in spoilt.findings} == {Kind.REDEMPTION_LOST}


def test_a_broken_connection_leads_to_the_next_address(service: Service) -> None:
    first, _ = service.web(), service.web()
    service.consumer("--solo")
    campaign = service.campaign(10_000)
    crowd = service.crowd(campaign, habits=QUICK)
    wait_until(lambda: answering(crowd) == set(service.addresses), what="both have promised something")

    os.killpg(first.pid, signal.SIGKILL)  # its workers, too: they outlive a parent that is killed
    first.wait()
    crowd.wait_for_answers(NO_ANSWER, times=4)
    crowd.wait_for_promises("at the other one", users=60)
    service.web()
    wait_until(lambda: service.url in answering(crowd), what="the third one gets its share")

    assert_history_holds(crowd, campaigns=[campaign])
    assert answering(crowd) == set(service.addresses)


def answering(crowd: Crowd) -> set[str]:
    return {request.address for request in read_history(crowd.path).requests if request.status == 202}


def test_no_new_users_come_while_all_connections_wait(service: Service) -> None:
    """Kafka hangs: eight users repeat, and no ninth comes. Then their places are confirmed."""
    web = service.web()
    service.consumer()  # with a supervisor, which replaces a client that Kafka's pause has silenced for good
    campaign = service.campaign(10_000)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=150, connections=8, repeat_share=0, duplicate_share=0))
    crowd.wait_for_promises("at first")

    service.stack("pause", "kafka")
    crowd.wait_for_answers(503, "unconfirmed", times=24)
    hanging, promised = time.monotonic(), crowd.promised

    def asking() -> set[str]:
        return {request.user_id for request in read_history(crowd.path).requests if request.start > hanging}

    wait_until(lambda: len(asking()) >= 8, what="each of the eight has repeated")
    crowd.wait_for_answers(503, "unconfirmed", times=24)
    assert len(asking()) == 8
    with pytest.raises(WaitTimedOut, match="0 of 1 more users were promised a coupon while Kafka hangs"):
        crowd.wait_for_promises("while Kafka hangs", users=1, within_sec=0.5)
    assert crowd.promised == promised
    service.stack("resume", "kafka")
    crowd.stop(within_sec=30)

    assert_history_holds(crowd, campaigns=[campaign], within_sec=120)
    assert crowd.tally.gave_up == 0
    assert web.exit_code is None


def test_the_checker_finds_a_coupon_that_was_taken_away(service: Service) -> None:
    """As a program of its own, on the running stack's database: 0 = holds, 1 = does not, 2 = could not check."""
    service.web()
    service.consumer("--solo")
    campaign = service.campaign(10_000)
    crowd = service.crowd(campaign, habits=QUICK)
    crowd.wait_for_promises()
    assert_history_holds(crowd, campaigns=[campaign])
    assert "promised, 0 answers sold out, 0 untracked tickets: holds" in _look(service, crowd.path, 0)

    victim = Coupon.objects.filter(campaign=campaign).earliest("sequence")
    with_other_sequence = Coupon.objects.filter(campaign=campaign).latest("sequence")
    Coupon.objects.filter(pk=with_other_sequence.pk).update(sequence=9_999)
    victim.delete()
    said = _look(service, crowd.path, 1)
    assert f"lost x 1 in campaign {campaign.pk}" in said
    assert f"{victim.user_id} #{victim.sequence}" in said
    assert "other-sequence x 1" in said

    for nowhere in ("no-campaign", str(uuid4())):
        request = {"campaign_id": nowhere, "user_id": "1", "start": 1, "end": 2, "status": 202}
        crowd.path.write_text(json.dumps({"request": request}) + "\n")
        assert f"no such campaigns: ['{nowhere}']" in _look(service, crowd.path, 2)


def _look(service: Service, history: Path, exit_code: int) -> str:
    command = [PYTHON, "-m", "faults.history_check", str(history)]
    environment = {**os.environ, **service.environment}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == exit_code, ended
    return ended.stdout + ended.stderr


def test_what_a_killed_crowd_wrote_is_there(service: Service, tmp_path: Path) -> None:
    """Every request that it counted before SIGKILL is a line."""
    service.web()
    service.consumer("--solo")
    campaign = service.campaign(10_000)
    program = f"""
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4
from faults.crowd import Crowd
from faults.history import HistoryWriter
crowd = Crowd(addresses=["{service.url}"], campaign_ids=["{campaign.pk}"], api_key="test-key",
              history=HistoryWriter(Path("{tmp_path / "history"}")))
with crowd:
    while True:
        crowd.wait_for_promises(users=5)
        print("promised", crowd.promised, flush=True)
"""
    crowd = service.start("crowd", [PYTHON, "-c", program])
    crowd.says("promised 2")
    counted = int(crowd.output.split()[-1])
    os.kill(crowd.pid, signal.SIGKILL)
    assert crowd.wait() == -signal.SIGKILL
    promised = {request.user_id for request in read_history(tmp_path / "history").requests if request.promises}
    assert len(promised) >= counted
