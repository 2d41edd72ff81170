"""The load client: many users apply over HTTP on keep-alive connections; one record a user, and a summary.

A closed loop by default: each connection sends its next user's request when the last one is answered. With --rate an
open loop: users come at fixed times whatever the server does, and a user's time counts from then on, so waiting for a
free connection is part of it. 503, 429 and broken connections are repeated until --patience ends.

    python -m benchmarks.load --url http://127.0.0.1:8000 --campaign ID --users 20000 --connections 64
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.arguments import positive
from benchmarks.figures import summarize
from benchmarks.http_client import BrokenConnection, Connection, Reply, apply_request, connect

REQUEST_TIMEOUT_SEC = 10.0
LONGEST_WAIT_SEC = 1.0
NOT_FINAL = frozenset({429, 503})
START_DELAY_SEC = 0.2
SPAWN_DELAY_SEC = 1.0


class Record(NamedTuple):
    """What one user was told in the end. Times in seconds since 1970; status 0 = no answer, `code` says why.

    `start` is when the first request was due, `sent` when it was sent: later where no connection was free, or the
    client had no time.
    """

    user_id: str
    start: float
    end: float
    status: int
    code: str
    sequence: int | None
    attempts: int
    sent: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process does. It takes every `step`-th user from `first_user` on; without `users`, for `seconds`."""

    host: str
    port: int
    path: str
    api_key: str
    connections: int
    first_user: int = 1
    step: int = 1
    users: int | None = None
    seconds: float | None = None
    rate: float | None = None
    patience_sec: float = 30.0
    user_format: str = "{}"
    message_of: Callable[[str], bytes] | None = None
    """The bytes of a user's request; without it, an application with the API key."""
    start_at: float = 0.0


def run_load(plan: Plan, *, processes: int = 1) -> list[Record]:
    """All records, in no particular order."""
    if processes == 1:
        return asyncio.run(_run(replace(plan, start_at=time.time() + START_DELAY_SEC)))
    plan = replace(plan, start_at=time.time() + SPAWN_DELAY_SEC)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(itertools.chain(*pool.map(run_part, split(plan, processes))))


def run_part(plan: Plan) -> list[Record]:
    return asyncio.run(_run(plan))


def split(plan: Plan, processes: int) -> list[Plan]:
    """The same load as so many plans side by side; users are dealt out in turn."""

    def share(total: int, number: int) -> int:
        return total // processes + (number < total % processes)

    return [
        replace(
            plan,
            connections=max(share(plan.connections, number), 1),
            first_user=plan.first_user + number,
            step=processes,
            users=None if plan.users is None else share(plan.users, number),
            rate=None if plan.rate is None else plan.rate / processes,
        )
        for number in range(processes)
    ]


async def _run(plan: Plan) -> list[Record]:
    await asyncio.sleep(max(plan.start_at - time.time(), 0))
    records: list[Record] = []
    users = _users(plan, time.time())
    await asyncio.gather(*(_apply_in_turn(plan, users, records) for _ in range(plan.connections)))
    return records


def _users(plan: Plan, began: float) -> Iterator[tuple[str, float]]:
    """Each user and when its request is due."""
    numbers = itertools.count() if plan.users is None else range(plan.users)
    for number in numbers:
        due = began + number / plan.rate if plan.rate else time.time()
        if plan.seconds is not None and due - began >= plan.seconds:
            return
        yield plan.user_format.format(plan.first_user + number * plan.step), due


async def _apply_in_turn(plan: Plan, users: Iterator[tuple[str, float]], records: list[Record]) -> None:
    connection: Connection | None = None
    for user_id, due in users:
        if due > time.time():
            await asyncio.sleep(due - time.time())
        sent = time.time()
        message = _message(plan, user_id)
        for attempt in itertools.count(1):
            wait_sec = LONGEST_WAIT_SEC / 4
            try:
                if connection is None or connection.closed:
                    connection = await connect(plan.host, plan.port)
                reply = await connection.request(message, timeout_sec=REQUEST_TIMEOUT_SEC)
            except BrokenConnection as error:
                record = Record(user_id, due, time.time(), 0, str(error), None, attempt, sent)
            else:
                record = _read(reply, user_id, due, attempt, sent)
                wait_sec = min(reply.retry_after_sec() or wait_sec, LONGEST_WAIT_SEC)
            if record.status not in NOT_FINAL | {0} or record.end - due > plan.patience_sec:
                break
            await asyncio.sleep(wait_sec)
        records.append(record)
    if connection is not None:
        connection.close()


def _message(plan: Plan, user_id: str) -> bytes:
    if plan.message_of is not None:
        return plan.message_of(user_id)
    return apply_request(host=plan.host, port=plan.port, path=plan.path, api_key=plan.api_key, user_id=user_id)


def _read(reply: Reply, user_id: str, start: float, attempt: int, sent: float) -> Record:
    end = time.time()
    document = reply.document()
    return Record(user_id, start, end, reply.status, document.get("code", ""), document.get("sequence"), attempt, sent)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    address = urlsplit(options.url)
    plan = Plan(
        host=address.hostname or "",
        port=address.port or 80,
        path=f"{address.path.rstrip('/')}/api/v1/campaigns/{options.campaign}/apply",
        api_key=options.key,
        connections=options.connections,
        first_user=options.first_user,
        users=options.users,
        seconds=options.seconds,
        rate=options.rate,
        patience_sec=options.patience,
        user_format=options.user_format,
    )
    records = run_load(plan, processes=options.processes)
    if options.out is not None:
        with options.out.open("w") as file:
            file.writelines(json.dumps(record._asdict()) + "\n" for record in records)
    summary = summarize(records)
    if options.json:
        print(json.dumps(summary.document()))
    else:
        print(summary)
    return 0 if summary.unanswered == 0 else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", required=True, help="http://host:port of the web server")
    add("--campaign", required=True, help="its id")
    add("--users", type=positive, help="different users; without it, as many as come in --seconds")
    add("--seconds", type=float, help="no new users after so long")
    add("--connections", type=positive, default=64, help="in all (default %(default)s)")
    add("--processes", type=positive, default=1, help="client processes, for more than one core (default 1)")
    add("--rate", type=float, help="users per second, an open loop; default: a closed loop")
    add("--first-user", type=positive, default=1, help="the users are this number and the next ones (default 1)")
    add("--user-format", default="{}", help="the user id of a number, as for str.format (default {})")
    add("--patience", type=float, default=30.0, help="seconds of repeating for one user (default %(default)s)")
    add("--key", default=os.environ.get("COUPON_API_KEYS", "").split(",")[0], help="default: COUPON_API_KEYS's first")
    add("--out", type=Path, help="write the records to this file, one JSON object a line")
    add("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args(arguments)
    if options.users is None and options.seconds is None:
        parser.error("give --users, --seconds or both")
    if urlsplit(options.url).scheme != "http":
        parser.error("--url must start with http://")
    return options


if __name__ == "__main__":
    sys.exit(main())
