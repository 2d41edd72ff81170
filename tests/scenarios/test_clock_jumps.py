"""Row 27: the clock of a web host jumps around the opening of a campaign: Redis's time decides."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coupons.admission.scripts import admission_redis
from coupons.models import FailEventHistory
from faults.history import Request, read_history
from faults.visits import Habits
from tests.support.matrix import Row
from tests.support.process import ROOT
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.waiting import wait_until

OPENS_IN_SEC = 5.0


class HostClock:
    """The wall clock of the processes that are started with its `environment` (tests/support/shifted_clock)."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(timedelta())
        folder = ROOT / "tests" / "support" / "shifted_clock"
        self.environment = {"PYTHONPATH": str(folder), "SHIFTED_CLOCK_FILE": str(file)}

    def seen_by_a_process(self) -> float:
        command = [sys.executable, "-c", "import datetime; print(datetime.datetime.now().timestamp())"]
        environment = {**os.environ, **self.environment}
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    def jump(self, by: timedelta) -> None:
        """To so much later (or earlier) than the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(by.total_seconds()))
        fresh.rename(self._file)


def test_a_jumping_web_clock_does_not_move_the_opening(service: Service, tmp_path: Path) -> None:
    """Two hours ahead before the opening, behind after it, and ahead again, when the campaign is over by that clock;
    beside a host whose clock is right."""
    clock = HostClock(tmp_path / "clock")
    clock.jump(timedelta(hours=2))
    assert clock.seen_by_a_process() > time.time() + 7_000
    jumping = service.web(**clock.environment)
    jumping_address = service.url
    service.everything()
    before_the_look = time.monotonic()
    seconds, microseconds = admission_redis().time()
    opens_at = seconds + microseconds / 1e6 + OPENS_IN_SEC
    # By our clock it opens somewhere between these two; Redis's clock comes in whole milliseconds.
    earliest, latest = before_the_look + OPENS_IN_SEC - 0.001, time.monotonic() + OPENS_IN_SEC + 0.001
    opening = datetime.fromtimestamp(opens_at, UTC)
    campaign = service.campaign(20_000, opens_at=opening, closes_at=opening + timedelta(hours=1))
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=60))
    row = Row(27, crowd)

    with row.fault("a web host's clock: 2 h ahead before the opening, 2 h behind after it, 2 h ahead again"):
        crowd.wait_for_answers(409, "not-open", times=40)
        assert (crowd.promised, service.left_over().keys() >= {jumping.pid}) == (0, True)
        wait_until(lambda: time.monotonic() > earliest - 1)
        clock.jump(timedelta(hours=-2))
        crowd.wait_for_promises("after the opening", users=100)
        clock.jump(timedelta(hours=2))
        ahead_at = time.monotonic()
        crowd.wait_for_promises("after the closing by that clock", users=60)
        ahead_until = time.monotonic()
        clock.jump(timedelta())
    row.wait_for_promises(users=30)
    assert_history_holds(crowd, campaigns=[campaign])

    for is_jumping in (True, False):
        answers = [
            each for each in read_history(crowd.path).requests if (each.address == jumping_address) == is_jumping
        ]
        promises = [each for each in answers if each.promises]
        not_open = [each for each in answers if each.code == "not-open"]
        assert promises, f"jumping {is_jumping}"
        new = [each for each in promises if each.status == 202]
        assert [each for each in new if ahead_at < each.start < each.end < ahead_until], f"jumping {is_jumping}"
        assert not_open, f"jumping {is_jumping}"
        assert all(each.end > earliest for each in promises), first(promises)
        assert all(each.start < latest for each in not_open), first(not_open)
    assert not FailEventHistory.objects.exists()
    row.write()


def first(requests: list[Request]) -> Request:
    return min(requests, key=lambda request: request.start)
