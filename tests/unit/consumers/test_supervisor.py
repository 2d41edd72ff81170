"""The parent of the worker processes, with small real programs as its children."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import Process
from tests.support.waiting import wait_until

PARENT = """
import logging, sys
from consumers.supervisor import Supervisor
logging.basicConfig(level="INFO", format="%(message)s")
children, final, deaths, *command = sys.argv[1:]
final_exits = frozenset({int(final)})
sys.exit(Supervisor(command, concurrency=int(children), final_exit_codes=final_exits, max_deaths=int(deaths)).run())
"""
# Each child leaves a file named by its pid, so that the test can count and signal it.
WAITS = "import os, pathlib, signal; pathlib.Path(str(os.getpid())).touch(); signal.pause()"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {WAITS}"
POLITE = """
import os, pathlib, signal, sys
signal.signal(15, lambda *_: (pathlib.Path("finished").touch(), sys.exit(0)))
pathlib.Path(str(os.getpid())).touch()
while True:
    signal.pause()
"""
StartParent = Callable[..., Process]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[StartParent]:
    started: list[Process] = []

    def start(child: str, *, children: int = 1, final: int = 3, deaths: int = 20) -> Process:
        inside = f"import os; os.chdir({str(tmp_path)!r})\n{child}"
        command = [sys.executable, "-c", PARENT, str(children), str(final), str(deaths), sys.executable, "-c", inside]
        started.append(Process("supervisor", command, dict(os.environ)))
        return started[-1]

    yield start
    for process in started:
        process.ask_to_end()
        process.close()
    for pid in pids(tmp_path):
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_children(folder: Path, count: int) -> list[int]:
    return wait_until(lambda: found if len(found := pids(folder)) >= count else [], what=f"{count} children")


def test_it_runs_as_many_children_as_asked(parent: StartParent, tmp_path: Path) -> None:
    parent(WAITS, children=3)

    assert len(wait_for_children(tmp_path, 3)) == 3


def test_a_dead_child_is_started_again(parent: StartParent, tmp_path: Path) -> None:
    process = parent(WAITS)
    [first] = wait_for_children(tmp_path, 1)
    os.kill(first, signal.SIGKILL)

    wait_for_children(tmp_path, 2)

    assert "supervisor.died child=1 exit=-9" in process.output


def test_the_first_stop_is_a_term_that_lets_children_finish(parent: StartParent, tmp_path: Path) -> None:
    process = parent(POLITE, children=2)
    wait_for_children(tmp_path, 2)
    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    assert (tmp_path / "finished").exists()
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_the_second_stop_kills(parent: StartParent, tmp_path: Path) -> None:
    process = parent(DEAF)
    [child] = wait_for_children(tmp_path, 1)
    process.signal(signal.SIGINT)
    process.says("supervisor.stopping signal=SIGTERM")
    assert is_alive(child)
    process.signal(signal.SIGINT)

    assert process.wait() == 0
    assert "supervisor.stopping signal=SIGKILL" in process.output
    assert not is_alive(child)


def test_a_child_ending_during_a_stop_is_not_restarted(parent: StartParent, tmp_path: Path) -> None:
    process = parent(WAITS, children=2)
    wait_for_children(tmp_path, 2)
    process.stop()

    assert len(pids(tmp_path)) == 2


def test_a_final_exit_ends_all_with_its_code(parent: StartParent, tmp_path: Path) -> None:
    one_gives_up = (
        "import os, pathlib, signal, sys\n"
        "first = not any(pathlib.Path().iterdir())\n"
        "pathlib.Path(str(os.getpid())).touch()\n"
        "sys.exit(3) if first else signal.pause()\n"
    )
    process = parent(one_gives_up, children=2)

    assert process.wait() == 3
    assert "supervisor.giving_up" in process.output
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_a_child_s_other_exit_is_no_end(parent: StartParent, tmp_path: Path) -> None:
    process = parent("import os, pathlib; pathlib.Path(str(os.getpid())).touch(); raise SystemExit(2)")

    wait_for_children(tmp_path, 2)

    assert process.exit_code is None


def test_a_repeatedly_dying_child_ends_all(parent: StartParent, tmp_path: Path) -> None:
    """Whoever supervises the parent hears of it; before, it is started again later and later."""
    one_dies = (
        "import os, pathlib, signal, sys\n"
        "pathlib.Path(str(os.getpid())).touch()\n"
        "try: pathlib.Path('the-one-that-lives').mkdir()\n"  # both start at once, and one of them is first
        "except FileExistsError: sys.exit(70)\n"
        "signal.pause()\n"
    )
    process = parent(one_dies, children=2, deaths=3)

    assert process.wait() == 70
    assert process.output.count("supervisor.died") == 3
    assert "supervisor.giving_up" in process.output
    assert len(pids(tmp_path)) == 4, "one that lives, and three that died"
    assert not any(is_alive(pid) for pid in pids(tmp_path))
