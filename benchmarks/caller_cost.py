"""What it costs to ask who is calling and how often: the same requests to the product, and to it without both.

Users come with a token each, signed as an issuer would, and an address of their own; a service comes with its API key.
Winners come once, and so do those whom the view refuses: each token is verified. The lobby's refusals, which cost a
tenth of the view's, are measured twice: from users who come for the first time, and, under wrk, from a crowd that asks
again and again, as people do; then both processes remember each token.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from django.conf import settings

from benchmarks.callers import Bearer, make_issuers, request_of, settings_of
from benchmarks.figures import Mark
from benchmarks.http_target import CONNECTIONS, READY_SEC, apply_path
from benchmarks.load import Plan, run_load
from benchmarks.processes import cpu_sec
from benchmarks.services import HOST, WEB_APPLICATION, Service, Services, answers_ok, free_port
from benchmarks.workload import Run, admit_all, open_new
from benchmarks.wrk_load import Aim
from benchmarks.wrk_target import Target

LOBBY = "refusals by the lobby"
ANYBODY = "benchmarks.reference.asgi_anybody:application"
USERS = 400
LOBBY_USERS, CROWD = 2_000, 1_000
AGAIN_SEC = 2
TURNS = 3
"""For each repeat of the run: two servers of one program differ by a tenth for seconds, and less is looked for."""
LEAST = 0.8


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    with tempfile.TemporaryDirectory() as folder:
        bearers: dict[str, Bearer] = make_issuers(Path(folder))
        bearers["API key"] = lambda user: settings.API_KEYS[0]
        with Services(log_folder=run.log_folder, environment=settings_of(Path(folder))) as services:
            pairs = _start(services)
            _measure_slices(run, pairs, bearers)
            report = {f"{kind}, {caller}": pair.report(caller) for kind, pair in pairs.items() for caller in bearers}
            report |= {
                f"{LOBBY}, again, {caller}": _measure_again(run, pairs[LOBBY], bearer)
                for caller, bearer in bearers.items()
            }
    for name, found in report.items():
        run.say(
            f"{name:<37} {found['asked_per_sec']:5.0f}/s, unasked {found['unasked_per_sec']:5.0f}/s: "
            f"{found['ratio']:.3f}; web CPU {found['asked_cpu_ms']:.2f} and {found['unasked_cpu_ms']:.2f} ms a request"
        )
    marks = [Mark(f"asked of unasked: {name}", found["ratio"], LEAST, "x") for name, found in report.items()]
    sizes = {"users_in_a_slice": USERS, "users_in_a_slice_of_the_lobby": LOBBY_USERS, "users_again": CROWD}
    return {**sizes, "connections": CONNECTIONS, "cases": report}, marks


@dataclass(slots=True)
class _Loaded:
    per_sec: float
    cpu_ms: float


class _Side:
    """A web server and the campaign that its users apply to."""

    def __init__(self, service: Service, port: int, campaign: UUID, expected: int) -> None:
        self._service = service
        self._port, self._path, self._expected = port, apply_path(campaign), expected

    def under_wrk(self, bearers: list[str]) -> Target:
        return Target(self._service, Aim(self._port, self._path, bearers), refuses=True)

    def load(self, tokens: dict[str, str], first: int) -> _Loaded:
        address = {"host": HOST, "port": self._port, "path": self._path}
        messages = {user: request_of(user, token, **address) for user, token in tokens.items()}  # type: ignore[arg-type]
        plan = Plan(
            **address,  # type: ignore[arg-type]
            api_key="",
            connections=CONNECTIONS,
            first_user=first,
            users=len(tokens),
            message_of=messages.__getitem__,
        )
        session = self._service.process.pid
        cpu_before = cpu_sec(session)
        records = run_load(plan)
        cpu = cpu_sec(session) - cpu_before
        wrong = [record for record in records if record.status != self._expected]
        if len(wrong) > len(records) / 100:
            raise RuntimeError(f"expected {self._expected}, got {len(wrong)} times another answer, as {wrong[0]}")
        lasted = max(record.end for record in records) - min(record.start for record in records)
        return _Loaded(len(records) / lasted, cpu * 1000 / len(records))


class _Pair:
    """The same path, with and without asking."""

    def __init__(self, asked: _Side, unasked: _Side, *, users: int = USERS) -> None:
        self.asked, self.unasked, self.users = asked, unasked, users
        self._slices = defaultdict[str, list[tuple[_Loaded, _Loaded]]](list)

    def measure(self, caller: str, tokens: dict[str, str], first: int, *, turn: int) -> None:
        """One slice of each, in turn first and second."""
        sides = [self.asked, self.unasked]
        if turn % 2:
            unasked, asked = (side.load(tokens, first) for side in reversed(sides))
        else:
            asked, unasked = (side.load(tokens, first) for side in sides)
        self._slices[caller].append((asked, unasked))

    def forget(self) -> None:
        self._slices.clear()

    def report(self, caller: str) -> dict[str, Any]:
        return _report(self._slices[caller])


def _report(slices: Sequence[tuple[_Loaded, _Loaded]]) -> dict[str, Any]:
    return {
        "ratio": median(asked.per_sec / unasked.per_sec for asked, unasked in slices),
        "asked_per_sec": median(asked.per_sec for asked, _ in slices),
        "unasked_per_sec": median(unasked.per_sec for _, unasked in slices),
        "asked_cpu_ms": median(asked.cpu_ms for asked, _ in slices),
        "unasked_cpu_ms": median(unasked.cpu_ms for _, unasked in slices),
        "slices_per_sec": [(asked.per_sec, unasked.per_sec) for asked, unasked in slices],
    }


def _measure_again(run: Run, pair: _Pair, bearer: Bearer) -> dict[str, Any]:
    """The first round is for each process to see each token, and counts for nothing."""
    tokens = [bearer(str(number)) for number in range(1, run.size(CROWD, 60) + 1)]
    tokens = list(dict.fromkeys(tokens))  # a service has one key for all
    sides = [pair.asked.under_wrk(tokens), pair.unasked.under_wrk(tokens)]
    for side in sides:
        side.wait_for_the_lobby()
        side.warm_up("again-", run.size(AGAIN_SEC, 1))
    for turn in range(run.repeats * run.size(TURNS, 1)):
        for side in reversed(sides) if turn % 2 else sides:
            side.load(f"again-{turn}-", run.size(AGAIN_SEC, 1))
    asked, unasked = ([_Loaded(each["per_sec"], each["web_cpu_us"] / 1_000) for each in side.rounds] for side in sides)
    return _report(list(zip(asked, unasked, strict=True)))


def _measure_slices(run: Run, pairs: dict[str, _Pair], bearers: dict[str, Bearer]) -> None:
    """The first slice of each only warms up, but in the quick run."""
    first = 1
    for turn in range(-run.size(1, 0), run.repeats * run.size(TURNS, 1)):
        for caller, bearer in bearers.items():
            for pair in pairs.values():
                users = run.size(pair.users, 60)
                names: Iterable[int] = range(first, first + users)
                pair.measure(caller, {str(name): bearer(str(name)) for name in names}, first, turn=turn)
                first += users
        if turn < 0:
            for pair in pairs.values():
                pair.forget()


def _start(services: Services) -> dict[str, _Pair]:
    """Each path by two servers that ask and do not; refusals by the view behind none, and by the lobby."""
    sold_out = open_new("sold out", 1)
    admit_all(sold_out, ["first"])
    asked, unasked = (_web(services, name, front=False) for name in ("view-asked", "view-unasked"))
    lobby_asked, lobby_unasked = (_web(services, name, front=True) for name in ("lobby-asked", "lobby-unasked"))
    winners = [open_new(name, 10_000_000) for name in ("asked", "unasked")]
    return {
        "winners": _Pair(_Side(*asked, winners[0], 202), _Side(*unasked, winners[1], 202)),
        "refusals by the view": _Pair(_Side(*asked, sold_out, 409), _Side(*unasked, sold_out, 409)),
        LOBBY: _Pair(_Side(*lobby_asked, sold_out, 409), _Side(*lobby_unasked, sold_out, 409), users=LOBBY_USERS),
    }


def _web(services: Services, name: str, *, front: bool) -> tuple[Service, int]:
    port = free_port()
    application = ANYBODY if name.endswith("unasked") else WEB_APPLICATION
    service = services.start_web(port=port, name=f"bench-{name}", application=application, front=front)
    ready = f"http://{HOST}:{port}/readyz"
    services.wait(name, partial(answers_ok, ready), deadline_sec=READY_SEC, of=service)
    return service, port
