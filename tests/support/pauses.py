"""Runs a command while processes of the tests' stacks stand still at random, as they do on a busy machine.

    python -m tests.support.pauses --seed 1 -- COMMAND ...

Each is stopped (SIGSTOP) for up to LONGEST_SEC, one at a time: servers, web workers, consumers, pytest itself. A test
that turns red under it, and is right about the service, takes a pause for a defect. Exit code: the command's.
"""

import argparse
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STACKS = str(ROOT / ".stack" / "test")  # and -2, -3 beside it
MEAN_SEC, LONGEST_SEC = 0.5, 1.6
BETWEEN_SEC = (0.3, 1.2)
# What starts and stops servers must get to its end, and a shell only waits for others.
NEVER = ("bin/stack", "bin/venv", "bin/pip-locked", "tests.support.pauses")
SHELLS = ("sh", "bash", "make", "env")


class Pauses:
    """`one()` stops one process and lets it go on. The same seed draws the same numbers, of whatever runs then."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.made: Counter[str] = Counter()
        self.long = 0

    def one(self) -> None:
        by_program: dict[str, list[int]] = {}
        for pid, program in running():
            by_program.setdefault(program, []).append(pid)
        seconds = min(self._random.expovariate(1 / MEAN_SEC), LONGEST_SEC)
        if not by_program:
            return
        program = self._random.choice(sorted(by_program))  # the many sessions of PostgreSQL count as one
        with suppress(ProcessLookupError):
            stand_still(self._random.choice(by_program[program]), seconds)
            self.made[program] += 1
            self.long += seconds > MEAN_SEC

    def rest_sec(self) -> float:
        return self._random.uniform(*BETWEEN_SEC)


def stand_still(pid: int, seconds: float) -> None:
    """Raises ProcessLookupError when it has ended."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def running() -> Iterator[tuple[int, str]]:
    """pid and program of each process of the tests' stacks that may be stopped; not who stands still already."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (folder / "stat").read_text().rpartition(") ")[2][0]
            if state not in "TtZ" and words != [""] and _is_of_the_tests(folder, words):
                yield int(folder.name), _program(words)


def _is_of_the_tests(folder: Path, words: Sequence[str]) -> bool:
    line = " ".join(words)
    if Path(words[0]).name in SHELLS or any(name in line for name in NEVER):
        return False
    at = str((folder / "cwd").readlink())
    if at.startswith(STACKS) or STACKS in line:  # a server, or a session of PostgreSQL
        return True
    environment = (folder / "environ").read_bytes().split(b"\0")
    return at.startswith(str(ROOT)) and any(
        name.startswith((b"STACK_HOME=.stack/test", f"STACK_HOME={STACKS}".encode())) for name in environment
    )


def _program(words: Sequence[str]) -> str:
    for name in ("run_coupon_consumer", "run_keeper", "couponsite.web_server", "pytest"):
        if any(word.endswith(name) for word in words):
            return name
    return Path(words[0]).name.split(":")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    pauses = Pauses(options.seed)
    process = subprocess.Popen(options.command)
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(pauses.rest_sec())
            break
        pauses.one()
    each = ", ".join(f"{program} {count}" for program, count in pauses.made.most_common())
    print(f"seed {options.seed}: {pauses.made.total()} pauses, {pauses.long} longer than {MEAN_SEC} s: {each}")
    return process.returncode


if __name__ == "__main__":
    raise SystemExit(main())
