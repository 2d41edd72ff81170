"""Processes that stand still at random: only those of the tests' stacks, and each goes on again."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.pauses import ROOT, main, running, stand_still
from tests.support.waiting import wait_until


@contextmanager
def sleeper(*, at: Path, home: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], cwd=at, env={**os.environ, "STACK_HOME": home}
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def may_be_stopped(pid: int) -> bool:
    return pid in dict(running())


def test_processes_of_the_tests_stacks_are_found_and_no_others(tmp_path: Path) -> None:
    with (
        sleeper(at=ROOT, home=".stack/test-2") as ours,
        sleeper(at=ROOT, home=".stack") as the_shop_s,
        sleeper(at=tmp_path, home=".stack/test") as another_checkout_s,
    ):
        wait_until(lambda: may_be_stopped(ours), what="it has its command line")
        assert not may_be_stopped(the_shop_s)
        assert not may_be_stopped(another_checkout_s)


def test_who_stands_still_is_left_alone_and_goes_on_again() -> None:
    with sleeper(at=ROOT, home=".stack/test") as pid:
        wait_until(lambda: may_be_stopped(pid), what="it has its command line")
        stopped = threading.Thread(target=stand_still, args=(pid, 0.5))
        stopped.start()
        wait_until(lambda: state(pid) == "T" or not stopped.is_alive(), what="it stands still")
        if stopped.is_alive():
            assert not may_be_stopped(pid)
        stopped.join()
        wait_until(lambda: state(pid) != "T", what="it goes on")


def test_it_ends_with_its_command_and_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--", "sh", "-c", "exit 5"]) == 5
    assert capsys.readouterr().out.startswith("seed 7: ")
