"""Runs one round: users apply, the schedule's faults are injected, all faults end, and every promise is checked."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from coupons.campaigns.lifecycle import create_campaign, open_campaign
from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.messaging.topics import partition_lags
from coupons.reconciliation.ledger import Ledger
from coupons.runtime.failpoints import POINTS
from faults import failpoints
from faults.crowd import Crowd
from faults.history import History, HistoryWriter, read_history
from faults.history_check import check_files
from faults.ledgers import is_at_rest, reconcile
from faults.links import brokers
from faults.redemption_check import IN_FORCE, answered_without
from faults.soak.deployment import API_KEY, Deployment
from faults.soak.injection import Injection
from faults.soak.schedule import Step
from faults.verdict import Inconclusive
from faults.visits import Habits

QUIET_SEC = 120.0
LAST_ANSWERS_SEC = 60.0
ENOUGH_CHECKOUTS = 10


@dataclass(slots=True)
class Round:
    """The plan of a round and its result. Every promise is explained when `findings` is empty."""

    number: int
    seconds: float
    steps: Sequence[Step]
    quantities: Sequence[int]
    habits: Habits
    until_sold_out: bool = False
    campaigns: list[UUID] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def run_round(
    task: Round, deployment: Deployment, *, folder: Path, database: str, url: str, say: Callable[[str], None]
) -> None:
    """Fills the round's figures and findings. A fault that could not be injected is a finding too."""
    for number, quantity in enumerate(task.quantities):
        campaign = create_campaign(name=f"soak {task.number}.{number}", quantity=quantity, actor="soak")
        task.campaigns.append(open_campaign(campaign_id=campaign.pk, actor="soak").pk)
    history = HistoryWriter(folder / f"history-{task.number:02}.jsonl")
    crowd = Crowd(
        addresses=deployment.addresses,
        campaign_ids=task.campaigns,
        api_key=API_KEY,
        history=history,
        habits=task.habits,
        name=f"r{task.number}-",
    )
    injection = Injection(deployment, crowd, task.campaigns, database=database, url=url)
    began = time.monotonic()
    with crowd:
        _inject_all(task, injection, crowd, began, say)
        _sleep_until(began + task.seconds)
        _heal(deployment)
        healed = time.monotonic()
        if task.until_sold_out:
            crowd.wait_for_answers(409, "sold-out", times=50, within_sec=600)
        crowd.stop(within_sec=LAST_ANSWERS_SEC)
    stopped = time.monotonic()
    quiet = _wait_until_quiet(task)
    task.figures = _figures(task, crowd, history.path, healed=healed, began=began)
    task.figures["quiet_after_sec"] = round(time.monotonic() - stopped, 1)
    history.close()
    if quiet is not None:
        task.findings.append(quiet)
    task.findings += deployment.unexplained
    deployment.unexplained.clear()
    _verify(task, history.path)


def _inject_all(task: Round, injection: Injection, crowd: Crowd, began: float, say: Callable[[str], None]) -> None:
    """Runs each step on a thread of its own, since steps overlap. Returns when all have ended."""
    # A restart of a server may take longer than the schedule allows for: the next fault of that part waits.
    free = {part: threading.Lock() for step in task.steps for part in step.fault.touches}

    def one(step: Step) -> None:
        _sleep_until(began + step.at_sec)
        what = f"{step.fault.part}: {step.fault.name} {step.fault.target}".strip()
        try:
            with ExitStack() as held:
                for part in sorted(step.fault.touches):  # one order for all, or two steps could deadlock
                    held.enter_context(free[part])
                held.enter_context(crowd.history.during(what, **injection.details(step)))
                say(f"    {step}")
                undo = injection.inject(step)
                with crowd.history.during(f"{IN_FORCE}{what}"):
                    _sleep_until(began + step.end_sec)
                undo()
        except Exception as error:  # noqa: BLE001  any error means that the schedule was not carried out
            task.findings.append(f"could not inject {step}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(step,), daemon=True) for step in task.steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(task.seconds + 300)


def _heal(deployment: Deployment) -> None:
    for part in ("postgres", "redis", *brokers()):
        deployment.stack("start", part)  # resumes a paused server and does nothing to a running one
    for proxies in deployment.proxies.values():
        for proxy in proxies:
            proxy.let_pass()
    for point in POINTS:
        failpoints.disarm(deployment.failpoints, point)
    deployment.resume_all()
    for name in deployment.programs:
        deployment.start_again(name)
        deployment.step_clock(name, 0)


def _wait_until_quiet(task: Round) -> str | None:
    """Waits until all messages are read and no ticket is pending. Returns a finding if that takes too long."""
    deadline = time.monotonic() + QUIET_SEC
    state = ""
    while time.monotonic() < deadline:
        connection.close()
        try:
            unread = sum(lag.lag for lag in partition_lags().values())
            ledgers = _ledgers(task)
            state = f"{unread} unread; {[ledger.document() for ledger in ledgers]}"
            if unread == 0 and all(map(is_at_rest, ledgers)):
                return None
        except (RetryLater, *DATABASE_DOWN) as error:
            state = f"{type(error).__name__}: {error}"
        time.sleep(1)
    return f"not at rest {QUIET_SEC:.0f} s after the last user: {state}"


def _ledgers(task: Round) -> list[Ledger]:
    return list(reconcile(campaign_ids=task.campaigns))


def _verify(task: Round, path: Path) -> None:
    connection.close()
    try:
        ledgers, verdict = _ledgers(task), check_files([path])
    except (RetryLater, Inconclusive, *DATABASE_DOWN) as error:
        task.findings.append(f"could not check: {error}")
        return
    task.findings += [f"ledger: {ledger.document()}" for ledger in ledgers if not ledger.closes]
    task.findings += [str(finding) for finding in verdict.findings]
    asked, answered = task.figures["checkouts"]["without_redis_or_kafka"].values()
    if asked >= ENOUGH_CHECKOUTS and answered < asked / 2:
        task.findings.append(f"without Redis or Kafka only {answered} of {asked} requests of shops were answered")
    task.figures["failed_events_with_ticket"] = sum(ledger.failed for ledger in ledgers)
    task.figures["issued"] = sum(ledger.issued for ledger in ledgers)


def _figures(task: Round, crowd: Crowd, path: Path, *, healed: float, began: float) -> dict[str, Any]:
    history = read_history(path)
    seconds = history.answer_seconds()
    return {
        "round": task.number,
        "steps": [str(step).strip() for step in task.steps],
        "seconds": round(healed - began, 1),
        "requests": len(seconds),
        "promised": crowd.promised,
        "gave_up": crowd.tally.gave_up,
        "answers": {f"{status} {code}".strip(): times for (status, code), times in crowd.answers.most_common()},
        "checkouts": _checkouts(history),
        "p50_sec": round(seconds[len(seconds) // 2], 3),
        "p99_sec": round(seconds[max(round(len(seconds) * 0.99) - 1, 0)], 3),
    }


def _checkouts(history: History) -> dict[str, Any]:
    """Counts what the shops were answered, and what they were while Redis or Kafka was away, which they do not need."""
    answers = Counter(f"{each.action} {each.status} {each.code}".strip() for each in history.checkouts)
    answered, asked = answered_without(history, ("redis", "kafka"))
    return {
        "requests": len(history.checkouts),
        "without_redis_or_kafka": {"requests": asked, "answered": answered},
        "answers": dict(answers.most_common()),
    }


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))
