"""bin/stack: it never takes another process for its own, and a real server lives through its verbs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stack_parts import cli, ports, processes, settings
from stack_parts.home import Home
from stack_parts.redis import Redis


def wait_until(condition: Callable[[], bool], *, timeout_sec: float = 10) -> None:
    deadline = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty stack of its own; no variable of the caller's decides anything."""
    for name in (*Home(tmp_path / "other").settings_of(Home(tmp_path / "other").state()), "STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "a stack"))
    return Home.current()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child, and a word in its command line to know it by."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", program, "the-marker"], start_new_session=True) as process:
        wait_until(lambda: len(processes.children_of(process.pid)) == 1)
        child = processes.children_of(process.pid)[0]
        yield process
        processes.kill_tree(process.pid)
        # a test may have killed the parent alone
        processes.send([child], signal.SIGKILL)


def test_a_process_is_ours_while_it_runs_and_no_longer(sleeper: subprocess.Popen[bytes]) -> None:
    record = processes.record_process(sleeper.pid, marker="the-marker")
    assert record is not None
    assert processes.is_ours(record)
    sleeper.kill()
    # a zombie until its parent asks: as good as gone
    wait_until(lambda: not processes.is_ours(record))


def test_a_process_is_gone_when_its_last_thread_is() -> None:
    """As a killed JVM, which holds its port for a moment after its main thread has ended."""
    program = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    with subprocess.Popen([sys.executable, "-c", program + "ctypes.CDLL(None).pthread_exit(None)"]) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert not processes.wait_gone([process.pid], timeout_sec=0)

        process.kill()

        assert processes.wait_gone([process.pid], timeout_sec=10)


@pytest.mark.parametrize(
    "other", [{"started_ticks": 1}, {"boot_id": "another-boot"}, {"marker": "another-stack"}], ids=str
)
def test_a_pid_that_was_used_again_is_not_ours(
    sleeper: subprocess.Popen[bytes], other: dict[str, object], tmp_path: Path
) -> None:
    record = processes.record_process(sleeper.pid, marker="the-marker")
    assert record is not None
    file = tmp_path / "record.json"
    file.write_text(json.dumps({**vars(record), **other}))
    loaded = processes.load(file)
    assert loaded is not None
    assert not processes.is_ours(loaded)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": 1}'])
def test_a_damaged_record_is_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(text)
    assert processes.load(tmp_path / "record.json") is None


def test_a_stale_record_is_never_signalled(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    record = processes.record_process(sleeper.pid, marker="the-marker")
    assert record is not None
    reused = processes.ProcessRecord(sleeper.pid, record.started_ticks + 1, record.boot_id, "the-marker")
    processes.save(home.record_file("redis"), reused)
    for verb in ("kill", "pause", "resume"):
        assert cli.main([verb, "redis"]) == 1
    assert cli.main(["stop", "redis"]) == 0
    assert sleeper.poll() is None
    assert not processes.is_stopped(sleeper.pid)


def test_freeze_and_thaw_reach_the_children_too(sleeper: subprocess.Popen[bytes]) -> None:
    child = processes.children_of(sleeper.pid)[0]
    assert processes.freeze(sleeper.pid) == [sleeper.pid, child]
    wait_until(lambda: processes.is_stopped(sleeper.pid) and processes.is_stopped(child))
    processes.thaw(sleeper.pid)
    wait_until(lambda: not processes.is_stopped(sleeper.pid) and not processes.is_stopped(child))


def test_only_a_stopped_process_counts_as_frozen(
    sleeper: subprocess.Popen[bytes],
) -> None:
    assert not processes.wait_frozen([sleeper.pid], timeout_sec=0.05)
    tree = processes.freeze(sleeper.pid)
    assert processes.wait_frozen(tree, timeout_sec=10)

    os.kill(tree[1], signal.SIGKILL)  # a zombie from now on: its parent is frozen
    wait_until(lambda: not processes.is_stopped(tree[1]))
    assert processes.wait_frozen(tree, timeout_sec=10)


def test_kill_leaves_no_child_behind(sleeper: subprocess.Popen[bytes]) -> None:
    tree = processes.kill_tree(sleeper.pid)
    assert len(tree) == 2
    assert processes.wait_gone(tree, timeout_sec=10)
    assert sleeper.wait() == -signal.SIGKILL


# --- a server of its own: Redis, the quickest


def test_redis_lives_through_the_verbs(home: Home) -> None:
    server = Redis(home)
    try:
        assert cli.main(["start", "redis"]) == 0
        assert server.state() == "up"
        assert cli.main(["wipe", "redis"]) == 1
        assert cli.main(["pause", "redis"]) == 0
        assert server.state() == "paused"
        assert cli.main(["stop", "redis"]) == 0
        assert server.state() == "stopped"
        assert cli.main(["start", "redis"]) == 0
        assert cli.main(["kill", "redis"]) == 0
        assert server.state() == "stopped"
        assert cli.main(["wipe", "redis"]) == 0
        assert not home.data("redis").exists()
    finally:
        server.stop()


def test_a_server_whose_record_was_lost_is_found_again(home: Home) -> None:
    server = Redis(home)
    try:
        server.start()
        record = server.record()
        home.record_file("redis").unlink()
        assert server.record() == record
    finally:
        server.stop()


def test_a_foreign_listener_on_the_remembered_port_is_left_alone(home: Home) -> None:
    server = Redis(home)
    port = server.port()
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, port))
        other.listen(1)
        try:
            server.start()
            assert server.port() != port
            assert server.answers()
        finally:
            server.stop()


def test_a_failed_start_shows_the_end_of_the_log(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(settings.REDIS_SETTINGS, "appendfsync", "sometimes")
    assert cli.main(["start", "redis"]) == 1
    told = capsys.readouterr().err
    assert "ended right after its start" in told
    assert "appendfsync" in told
    assert "bin/stack wipe redis" in told


def test_down_where_nothing_was_ever_started_makes_nothing(home: Home) -> None:
    assert cli.main(["down"]) == 0
    assert cli.main(["status"]) == 1
    assert not home.root.exists()
