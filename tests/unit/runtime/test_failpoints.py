"""Failpoints: what may be armed, done once among all processes, nothing at all when off."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from coupons.runtime import failpoints
from coupons.runtime.failpoints import POINTS, WEB_ADMITTED, WEB_PRODUCED, InjectedDefect, failpoint
from faults.failpoints import arm, disarm, done_by

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    failpoints.switch_on(tmp_path)
    yield tmp_path
    failpoints.switch_on(None)


def passing(folder: Path, times: int = 1) -> subprocess.Popen[bytes]:
    """Another process that passes the point so often, and then ends with 0."""
    program = f"""
from pathlib import Path
from coupons.runtime import failpoints
failpoints.switch_on(Path({str(folder)!r}))
for _ in range({times}):
    failpoints.failpoint({WEB_ADMITTED!r})
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kill", ("kill", 0, 1)),
        ("stop@2", ("stop", 0, 2)),
        ("raise", ("raise", 0, 1)),
        ("raise@10\n", ("raise", 0, 10)),
        ("sleep:1500@3", ("sleep", 1500, 3)),
    ],
)
def test_an_action_may_name_the_passage_it_waits_for(text: str, expected: tuple[str, int, int]) -> None:
    assert failpoints.parse_action(text) == expected


@pytest.mark.parametrize(
    "text", ["", "explode", "sleep", "sleep:", "sleep:-1", "kill@0", "kill@", "kill@x", "kill kill"]
)
def test_an_unknown_action_names_itself_and_the_known_ones(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"action '{text}' is none of kill, stop, raise, sleep:MS"):
        arm(tmp_path, WEB_ADMITTED, text)
    assert not list(tmp_path.iterdir())


def test_an_unknown_point_names_itself_and_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"failpoint 'web\.typo' is none of .*, web\.admitted, "):
        arm(tmp_path, "web.typo", "kill")


def test_an_armed_failpoint_acts_once(folder: Path) -> None:
    failpoint(WEB_ADMITTED)
    assert done_by(folder, WEB_ADMITTED) is None
    for _ in range(2):
        arm(folder, WEB_ADMITTED, "raise")
        assert done_by(folder, WEB_ADMITTED) is None
        failpoint(WEB_PRODUCED)
        with pytest.raises(InjectedDefect, match=WEB_ADMITTED):
            failpoint(WEB_ADMITTED)
        failpoint(WEB_ADMITTED)
        assert done_by(folder, WEB_ADMITTED) == os.getpid()
        assert done_by(folder, WEB_PRODUCED) is None


def test_only_the_passage_that_was_named_acts(folder: Path) -> None:
    for _ in range(2):
        arm(folder, WEB_ADMITTED, "raise@3")
        failpoint(WEB_ADMITTED)
        failpoint(WEB_ADMITTED)
        with pytest.raises(InjectedDefect):
            failpoint(WEB_ADMITTED)


def test_what_is_disarmed_does_not_happen(folder: Path) -> None:
    arm(folder, WEB_ADMITTED, "raise")
    assert disarm(folder, WEB_ADMITTED)
    assert not disarm(folder, WEB_ADMITTED)
    failpoint(WEB_ADMITTED)


def test_a_delay_lasts_as_long_as_it_says(folder: Path) -> None:
    arm(folder, WEB_ADMITTED, "sleep:100")
    started = time.monotonic()
    failpoint(WEB_ADMITTED)
    assert time.monotonic() - started >= 0.1


def test_exactly_one_of_many_processes_is_killed(tmp_path: Path) -> None:
    arm(tmp_path, WEB_ADMITTED, "kill")
    processes = [passing(tmp_path, times=100) for _ in range(6)]

    codes = [process.wait(30) for process in processes]

    assert sorted(codes) == [-signal.SIGKILL, 0, 0, 0, 0, 0]
    assert done_by(tmp_path, WEB_ADMITTED) == processes[codes.index(-signal.SIGKILL)].pid


def test_a_stopped_process_goes_on_when_resumed(tmp_path: Path) -> None:
    arm(tmp_path, WEB_ADMITTED, "stop")
    process = passing(tmp_path)

    _, status = os.waitpid(process.pid, os.WUNTRACED)

    assert os.WIFSTOPPED(status)
    assert done_by(tmp_path, WEB_ADMITTED) == process.pid
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0


def test_failpoints_are_ignored_unless_switched_on(tmp_path: Path) -> None:
    arm(tmp_path, WEB_ADMITTED, "raise")
    failpoint(WEB_ADMITTED)
    assert done_by(tmp_path, WEB_ADMITTED) is None


def test_only_a_database_of_tests_may_have_failpoints() -> None:
    assert failpoints.reason_against("test_coupons") is None
    assert "'coupons' is no test's" in str(failpoints.reason_against("coupons"))
    assert "no test's" in str(failpoints.reason_against("latest_test_coupons"))


def test_each_point_stands_in_the_code() -> None:
    sources = [path for part in ("coupons", "consumers") for path in (ROOT / part).rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"^ +failpoint\((\w+)\)$", path.read_text(), re.MULTILINE)}
    assert {getattr(failpoints, name) for name in used - {"point"}} == POINTS
