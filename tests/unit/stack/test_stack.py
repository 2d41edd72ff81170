"""bin/stack: its choice of ports and its settings file."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from stack_parts import cli, envfile, packages, ports, settings
from stack_parts.errors import StackError
from stack_parts.home import CHECKOUT, Home

from couponsite.env_file import parse, read_env_file

AWKWARD_VALUES = [
    "",
    "plain-value_1.2/3:4@5",
    "postgres://coupons:secret@127.0.0.1:25000/coupons",
    "127.0.0.1,localhost,[::1]",
    "/a folder/with  spaces",
    "/it's here",
    'it\'s $HOME, `pwd` and "quotes" with a \\ and a # too',
    "# no comment",
    "*",
    "a=b&c;d|e",
    "a\\b\\",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty stack of its own; no variable of the caller's decides anything."""
    for name in (*Home(tmp_path / "other").settings_of(Home(tmp_path / "other").state()), "STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "a stack"))
    return Home.current()


# --- ports


def test_a_port_on_which_somebody_listens_is_not_chosen() -> None:
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen(1)
        taken = other.getsockname()[1]
        assert not ports.is_free(taken)
        with pytest.raises(StackError, match="no free port"):
            ports.choose(first=taken, count=1, seed="x")
    assert ports.is_free(taken)


def test_the_search_goes_round_the_whole_range() -> None:
    wanted = 107
    assert ports.choose(first=100, count=10, seed="a", free=lambda port: port == wanted) == wanted
    assert ports.choose(first=100, count=3, seed="a", taken={100, 102}, free=lambda _: True) == 101


def test_two_checkouts_rarely_want_the_same_port() -> None:
    chosen = {ports.choose(first=25000, count=1000, seed=f"/src/{n}/.stack", free=lambda _: True) for n in range(30)}
    assert len(chosen) > 25


def test_port_ranges_are_disjoint_and_not_ephemeral() -> None:
    ranges = sorted(settings.PORT_RANGES.values())
    ends = [first + count for first, count in ranges]
    assert all(end <= following[0] for end, following in zip(ends, ranges[1:], strict=False))
    assert ends[-1] <= 32768


def test_an_older_stack_gets_newly_added_ports(home: Home) -> None:
    before = dict(home.state().ports)
    older = json.loads(home.state_file.read_text())
    del older["ports"]["kafka_proxy"]
    home.state_file.write_text(json.dumps(older))

    assert home.state().ports == before


def test_three_brokers_are_parts_and_settings_of_their_stack(home: Home) -> None:
    assert home.parts == ["postgres", "redis", "kafka"]
    home.set_brokers(3)

    assert home.parts == ["postgres", "redis", "kafka", "kafka-2", "kafka-3"]
    own = home.settings_of(home.state())
    assert len(set(own["KAFKA_BOOTSTRAP_SERVERS"].split(","))) == 3
    assert (own["COUPON_TOPIC_REPLICATION"], own["COUPON_TOPIC_MIN_INSYNC_REPLICAS"]) == ("3", "2")


def test_the_number_of_brokers_is_kept_with_their_data(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.state()
    home.data("kafka").mkdir()

    assert cli.main(["up", "--brokers", "3"]) == 1
    assert "bin/stack wipe kafka`" in capsys.readouterr().err
    assert cli.main(["kill", "kafka-2"]) == 1
    assert "this stack has one broker" in capsys.readouterr().err


def test_a_stack_moves_only_a_taken_port(home: Home) -> None:
    before = dict(home.state().ports)
    assert home.state().ports == before
    moved = home.move_port("redis")
    assert moved != before["redis"]
    assert home.state().ports == {**before, "redis": moved}
    assert f"REDIS_URL=redis://127.0.0.1:{moved}/0\n" in home.env_file.read_text()


# --- the settings file


@pytest.mark.parametrize("value", AWKWARD_VALUES)
def test_shell_and_service_read_what_was_written(value: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(envfile.render({"STACK_TEST_VALUE": value}))
    script = 'set -a; . "$1"; printf %s "$STACK_TEST_VALUE"'
    by_shell = subprocess.run(["sh", "-c", script, "sh", file], capture_output=True, text=True, check=True)
    assert by_shell.stdout == value
    assert read_env_file(file) == {"STACK_TEST_VALUE": value}


def test_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        envfile.quote("two\nlines")


def test_bin_stack_reads_dot_env_as_the_service_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("COUPON_API_KEYS='a key'  # of the shop\nCOUPON_LIMITS=false\n")
    monkeypatch.setattr("stack_parts.home.CHECKOUT", tmp_path)
    for name in ("COUPON_API_KEYS", "COUPON_LIMITS"):
        monkeypatch.delenv(name, raising=False)
    home = Home(tmp_path / ".stack")

    found = home.effective_settings()
    assert (found["COUPON_API_KEYS"], found["COUPON_LIMITS"]) == ("a key", "false")

    (tmp_path / ".env").write_text("COUPON_API_KEYS='hunter2\n")
    with pytest.raises(StackError, match="line 1: its value has no closing quote") as caught:
        home.effective_settings()
    assert "hunter2" not in str(caught.value)


def test_only_the_owner_may_read_the_secrets(home: Home) -> None:
    home.state()
    for file in (home.env_file, home.state_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_stack_has_secrets_of_its_own(tmp_path: Path) -> None:
    one, other = Home(tmp_path / "1").state(), Home(tmp_path / "2").state()
    assert not set(one.secrets.values()) & set(other.secrets.values())


def test_the_env_file_is_made_again_with_the_same_values(home: Home) -> None:
    home.state()
    before = home.env_file.read_text()
    home.env_file.unlink()
    home.state()
    assert home.env_file.read_text() == before


def test_a_variable_that_is_set_wins(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    assert cli.main(["env"]) == 0
    shown = parse(capsys.readouterr().out)
    assert shown == {**read_env_file(home.env_file), "REDIS_URL": "redis://elsewhere:1/2"}


def test_a_command_gets_settings_and_returns_its_exit_code(home: Home) -> None:
    program = "import os, sys; print(os.environ['KAFKA_BOOTSTRAP_SERVERS']); sys.exit(7)"
    done = subprocess.run(
        [CHECKOUT / "bin/stack", "exec", "--", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (f"127.0.0.1:{home.state().ports['kafka']}", 7)


def test_a_missing_program_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "can_install", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(StackError) as raised:
        packages.ensure([packages.Need("Frobnicator >= 3", lambda: None, "redis")])
    assert "Frobnicator >= 3" in str(raised.value)
    assert "apt-get install -y --no-install-recommends redis-server" in str(raised.value)


def test_printing_changes_no_exit_code_and_no_path(home: Home, tmp_path: Path) -> None:
    stack = {"STACK_HOME": str(tmp_path / "쿠폰"), "PYTHONIOENCODING": "ascii"}
    command = [str(CHECKOUT / "bin/stack"), "env"]
    shown = subprocess.run(command, env={**os.environ, **stack}, capture_output=True, check=True)
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        lost = subprocess.run(command, env={**os.environ, **stack}, stdout=full, stderr=subprocess.PIPE, check=False)

    assert "쿠폰/metrics".encode() in shown.stdout
    assert (lost.returncode, b"No space left on device" in lost.stderr) == (0, True)
