"""Lets a test kill, stop or delay a process at a named line, to show that nothing is lost there.

COUPON_FAILPOINTS names a folder. A process that passes a point whose `POINT.armed` is in the folder, and succeeds in
renaming that file to `POINT.done-PID`, performs the action in it: kill, stop, raise or sleep:MS, or `kill@3` at its
third passage. So only one of all processes acts (a worker that its parent restarts would die again), and tests arm
points while processes run (faults/failpoints.py).

Outside tests failpoints are off (check coupons.E006), and a passage costs 30 to 50 ns.
"""

import os
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from django.core.exceptions import ImproperlyConfigured

# The name says what has just happened.
WEB_ADMITTED: Final = "web.admitted"  # Redis holds the ticket, nothing is produced
WEB_PRODUCED: Final = "web.produced"  # the message is in the producer's queue, not acknowledged
WEB_ACKNOWLEDGED: Final = "web.acknowledged"  # Kafka has the message, the gate has not confirmed the ticket
WEB_CONFIRMED: Final = "web.confirmed"  # the gate holds the ticket, the user has no answer
CONSUMER_INSERTED: Final = "consumer.inserted"  # the batch's coupons are inserted, the transaction is open
CONSUMER_FAILURES_RECORDED: Final = "consumer.failures-recorded"  # its FAIL rows too, the transaction is open
CONSUMER_COMMITTED: Final = "consumer.committed"  # the database has committed, Redis has them pending still
CONSUMER_SETTLED: Final = "consumer.settled"  # off pending, the group's offset has not moved
RETRY_CLAIMED: Final = "retry.claimed"  # a batch of rows is PROCESSING and committed, none is tried
RETRY_ISSUED: Final = "retry.issued"  # its coupons are inserted, the transaction is open
RETRY_COMMITTED: Final = "retry.committed"  # its rows are SUCCESS, or FAIL again, and committed; not settled in Redis
RETRY_SETTLED: Final = "retry.settled"  # settled in Redis, the next batch is not claimed
REBUILD_BEGUN: Final = "rebuild.begun"  # Redis has closed the campaigns, PostgreSQL has the old epoch
REBUILD_EPOCH_RAISED: Final = "rebuild.epoch-raised"  # PostgreSQL has the new epoch, nothing is read
REBUILD_ENDS_ASKED: Final = "rebuild.ends-asked"  # the topic's ends are known to the rebuilder, nothing is noted
REBUILD_LOG_READ: Final = "rebuild.log-read"  # the topic is read, PostgreSQL is not
REBUILD_BUILT: Final = "rebuild.built"  # one campaign's new state lies in Redis beside the old one
REBUILD_SWAPPED: Final = "rebuild.swapped"  # one campaign admits again, the others of the pass are closed
PUSH_COMMITTED: Final = "push.committed"  # PostgreSQL has an operator's change, Redis not
PUSH_LOWERED: Final = "push.lowered"  # Redis stops at a lower quantity, PostgreSQL has not committed it
REDEMPTION_WRITTEN: Final = "redemption.written"  # a step of a coupon's life is written, the transaction is open
REDEMPTION_COMMITTED: Final = "redemption.committed"  # PostgreSQL has committed the step, the client has no answer
ERASURE_COMMITTED: Final = "erasure.committed"  # PostgreSQL has the pseudonym, Redis the user's id
RELAY_PUBLISHED: Final = "relay.published"  # Kafka has acknowledged, the tickets are not marked

POINTS: Final = frozenset(value for name, value in list(globals().items()) if name.isupper() and "." in str(value))


class InjectedDefect(Exception):
    """Raised at a failpoint, like a defect in the code there."""


class Action(NamedTuple):
    verb: str
    milliseconds: int
    passage: int


def failpoint(point: str) -> None:
    """Performs the action that a test has armed for this point, if any."""
    if _folder is not None:
        _pass(_folder, point)


def switch_on(folder: Path | None) -> None:
    """Uses this folder from now on; None switches failpoints off."""
    global _folder  # noqa: PLW0603  one folder for each process; a global costs least at every passage
    _folder = folder


def reason_against(database_name: str) -> str | None:
    """Returns why failpoints must be off in a service of this database; None if it is a test's database."""
    if database_name.startswith("test_"):
        return None
    return f"COUPON_FAILPOINTS is set, and the database {database_name!r} is no test's: its name would begin with test_"


def parse_action(text: str) -> Action:
    match = _ACTION.fullmatch(text.strip())
    if match is None:
        raise ImproperlyConfigured(
            f"failpoint action {text!r} is none of kill, stop, raise, sleep:MS, each with @N if wanted."
        )
    return Action(match["verb"] or "sleep", int(match["ms"] or 0), int(match["passage"] or 1))


_ACTION = re.compile(r"(?:(?P<verb>kill|stop|raise)|sleep:(?P<ms>\d+))(?:@(?P<passage>[1-9]\d*))?")
_folder: Path | None = None
_passages: Counter[tuple[str, int]] = Counter()
_lock = threading.Lock()


def _pass(folder: Path, point: str) -> None:
    armed = folder / f"{point}.armed"
    try:
        with armed.open() as file:
            armed_at = os.fstat(file.fileno()).st_mtime_ns  # armed again => the count starts anew
            action = parse_action(file.read())
        with _lock:
            _passages[point, armed_at] += 1
            if _passages[point, armed_at] != action.passage:
                return
        armed.rename(folder / f"{point}.done-{os.getpid()}")
    except FileNotFoundError:  # not armed, or another process was first
        return
    match action.verb:
        case "kill":
            signal.raise_signal(signal.SIGKILL)
        case "stop":
            signal.raise_signal(signal.SIGSTOP)  # sent to this thread, which stops at once
        case "raise":
            raise InjectedDefect(point)
        case "sleep":
            time.sleep(action.milliseconds / 1000)
