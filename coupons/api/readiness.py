"""Judges whether an application would be accepted now, and says which part is at fault and what to do about it."""

from concurrent.futures import Future
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from django.conf import settings

from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.campaign_store import Description, describe_each
from coupons.admission.gate import EpochAhead
from coupons.admission.scripts import cluster_problem, why_it_refuses_writes
from coupons.api.circuit_breakers import kafka_breaker
from coupons.messaging.topics import why_it_takes_no_messages
from coupons.runtime import heartbeats
from coupons.runtime.concurrently import ask_all
from coupons.runtime.heartbeats import CONSUMER, JOBS, KEEPER, SILENT_AFTER

OK = "ok"
MAX_CAMPAIGNS = 200
RECENT_SEC = 10.0
"""For so long a message that was not acknowledged counts against Kafka. Not longer: a process that a load balancer has
taken out gets no application, and so never finds out that Kafka acknowledges again."""

WHAT_TO_DO = {
    "redis": "Bring Redis back, or point REDIS_URL at the server that takes writes.",
    "kafka": "Bring Kafka back. `manage.py create_topic` makes a missing topic; `manage.py check --deploy` says more.",
    "postgresql": "Bring PostgreSQL back. Users are admitted meanwhile, and their coupons are written afterwards.",
    "campaigns": "Start `manage.py run_keeper`, which rebuilds them; its log says what a rebuild waits for.",
    KEEPER: "Start `manage.py run_keeper`. Without it nothing is rebuilt, and no lost message is published again.",
    CONSUMER: "Start `manage.py run_coupon_consumer`. Without it no coupon is written.",
    JOBS: "Run `manage.py crontab add` where cron runs, else start `manage.py run_jobs`. Nothing is retried meanwhile.",
}


class Part(NamedTuple):
    state: str = OK
    stops_admission: bool = False


Parts = dict[str, Part]


def judge() -> dict[str, Any]:
    """Returns the document of /readyz. Its `status` is

    - `unavailable`: applications are answered 503;
    - `degraded`: PostgreSQL is down, and applications are accepted all the same;
    - `attention`: applications are accepted, but a part needs a person;
    - `ready`.
    """
    questions = {"redis": _redis, "kafka": _kafka, "campaigns": _campaigns, "postgresql": _programs}
    answers = ask_all(questions, timeout_sec=settings.HEALTH_TIMEOUT_MS / 1000)
    parts: Parts = {}
    for name, answer in answers.items():
        parts |= _parts_of(name, answer)
    wrong = [name for name, part in parts.items() if part.state != OK]
    if any(part.stops_admission for part in parts.values()):
        status = "unavailable"
    elif "postgresql" in wrong:
        status = "degraded"
    else:
        status = "attention" if wrong else "ready"
    return {
        "status": status,
        "parts": {name: part.state for name, part in parts.items()},
        "what_to_do": {name: WHAT_TO_DO[name] for name in wrong},
    }


def _parts_of(name: str, answer: Future[Parts]) -> Parts:
    if answer.done() and answer.exception() is None:
        return answer.result()
    # No text of the error: it may hold an address, and everybody may ask.
    state = f"down ({type(answer.exception()).__name__})" if answer.done() else "no answer in time"
    if name == "postgresql":
        return {name: Part(state), **dict.fromkeys(SILENT_AFTER, Part("unknown without postgresql"))}
    return {name: Part(state, stops_admission=True)}


def _redis() -> Parts:
    if cluster_problem():
        return {"redis": Part("is a Redis Cluster", stops_admission=True)}
    reason = why_it_refuses_writes()
    return {"redis": Part(f"refuses writes ({reason})", stops_admission=True) if reason else Part()}


def _kafka() -> Parts:
    reason = why_it_takes_no_messages()
    if not reason and kafka_breaker.is_open and kafka_breaker.has_missed_within(RECENT_SEC):
        reason = "acknowledges no messages"
    return {"kafka": Part(reason, stops_admission=True) if reason else Part()}


def _campaigns() -> Parts:
    """Asks for the open ones, of which this process knows without PostgreSQL."""
    if not campaign_cache().wait_until_read(settings.HEALTH_TIMEOUT_MS / 1000):
        return {"campaigns": Part("unknown, as PostgreSQL was down since the start", stops_admission=True)}
    epochs = dict(islice(campaign_cache().admitting().items(), MAX_CAMPAIGNS))
    # With EpochAhead this process is a moment behind a rebuild, and the next application makes it read again.
    stale = [
        campaign_id
        for campaign_id, answer in describe_each(epochs).items()
        if not isinstance(answer, (Description, EpochAhead))
    ]
    if not stale:
        return {"campaigns": Part()}
    state = f"{len(stale)} of {len(epochs)} open campaigns have no current state in Redis"
    return {"campaigns": Part(state, stops_admission=len(stale) == len(epochs))}


def _programs() -> Parts:
    return {"postgresql": Part()} | {name: Part(_beat_state(name, age)) for name, age in heartbeats.ages().items()}


def _beat_state(program: str, age: timedelta | None) -> str:
    if age is None:
        return "has never run"
    return OK if age <= SILENT_AFTER[program] else f"silent for {age.total_seconds():.0f} s"
