"""`STACK=docker bin/stack`: each command, on the container engine of tests/support/engine.py."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engine import PROJECT, Engine, until_it_works

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
HOME = "/var/lib/coupons-stack"


class Stack:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def fails(self, *words: str) -> str:
        """Returns why."""
        done = self._run(*words)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def __call__(self, *words: str) -> str:
        done = self._run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_up(self) -> bool:
        return self._run("status").returncode == 0

    def redis(self, *words: str) -> str:
        return self.engine.run("docker", "exec", self.container("redis"), "redis-cli", *words).stdout.strip()

    def container(self, part: str) -> str:
        asked = ["--filter", f"label=com.docker.compose.service={part}", "--quiet", "--all"]
        (found,) = self.engine.run("docker", "ps", *asked).stdout.split()
        return found

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"STACK": "docker", "STACK_HOME": HOME}
        return self.engine.run("python3", f"{PROJECT}/bin/stack", *words, env=env, check=False)


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[Stack]:
    made = Stack(engine)
    made("up")
    yield made
    made("down")
    made("wipe", "postgres", "redis", "kafka")


def test_all_three_answer_and_their_checks_log_no_error(stack: Stack) -> None:
    stack("status")

    log = stack.engine.run("docker", "inspect", "--format", "{{json .State.Health.Log}}", stack.container("redis"))
    assert {check["Output"] for check in json.loads(log.stdout)} == {""}


def test_a_paused_server_is_started_and_stopped(stack: Stack) -> None:
    stack("pause", "redis")
    stack("pause", "redis")
    stack.fails("status")
    stack("start", "redis")
    stack("status")

    stack("pause", "redis")
    stack("stop", "redis")
    assert "redis is not running, nothing to resume" in stack.fails("resume", "redis")
    stack("start", "redis")


def test_a_paused_server_is_resumed(stack: Stack) -> None:
    stack("pause", "postgres", "kafka")
    stack("resume", "postgres", "kafka")
    stack("resume", "postgres")

    # docker calls a container unhealthy that was paused, until its next check
    until_it_works(stack.is_up, what="all three to be healthy")


def test_a_paused_and_killed_server_starts_with_its_data(stack: Stack) -> None:
    stack.redis("set", "kept", "1")
    stack("pause", "redis")
    stack("kill", "redis")
    assert "redis is not running, nothing to kill" in stack.fails("kill", "redis")
    stack("start", "redis")

    assert stack.redis("get", "kept") == "1"


def test_a_wiped_server_starts_empty(stack: Stack) -> None:
    stack.redis("set", "wiped", "1")
    stack("stop", "redis")
    stack("wipe", "redis")
    stack("start", "redis")

    assert stack.redis("dbsize") == "0"
    assert "redis is running; `bin/stack stop redis`" in stack.fails("wipe", "redis")


def test_logs_have_as_many_lines_as_asked_for(stack: Stack) -> None:
    assert len(stack("logs", "-n", "2", "kafka").splitlines()) == 2
