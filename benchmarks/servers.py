"""Compares web servers with the real application: refusals and winners a second, each beside bin/web in turn.

    bin/stack exec -- .venv/bin/python -m benchmarks.servers \\
        --server 'gunicorn 2x8=gunicorn couponsite.wsgi -k gthread -w 2 --threads 8 -b 127.0.0.1:{port}'
"""

import argparse
import itertools
import shlex
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING
from uuid import UUID

from benchmarks import sandbox
from benchmarks.arguments import positive
from benchmarks.services import HOST, Service, ServiceFailed, Services, answers_ok, free_port, log_folder

if TYPE_CHECKING:
    from benchmarks.http_target import Target

READY_SEC = 30.0
SLICES = 3


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with sandbox.sandbox():
            compare(dict(options.server), rounds=options.rounds, seconds=options.seconds)
    except (sandbox.NotReady, ServiceFailed) as error:
        print(f"servers: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_text = "NAME=COMMAND; {port} stands for the port, variables may come before the command"
    parser.add_argument("--server", action="append", required=True, type=name_and_command, help=help_text)
    parser.add_argument("--rounds", type=positive, default=3, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.2, help="of load in a slice (default %(default)s)")
    return parser.parse_args(arguments)


def name_and_command(text: str) -> tuple[str, str]:
    name, _, command = text.partition("=")
    if not command:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=COMMAND")
    return name, command


def compare(commands: dict[str, str], *, rounds: int, seconds: float) -> None:
    """Prints a table in Markdown: medians over the rounds; each ratio is to bin/web in slices in turn."""
    from benchmarks.workload import admit_all, open_new

    sold_out, winners = open_new("sold out", 1), open_new("winners", 10_000_000)
    admit_all(sold_out, ["first"])
    kinds = {"refusals": (sold_out, "409 sold-out"), "winners": (winners, "202")}
    found = defaultdict[str, list[dict[str, float]]](list)
    users = itertools.count(1, 1_000_000)
    with Services(log_folder=log_folder()) as services:
        base = _start(services, "bin-web", ["bin/web"])
        for number in range(rounds):
            for name, command in commands.items():
                server = _start(services, name, shlex.split(command))
                figures: dict[str, float] = {}
                for kind, (campaign, outcome) in kinds.items():
                    mine, others = server.target(campaign, outcome), base.target(campaign, outcome)
                    measured = _measure(mine, others, users, seconds)
                    figures |= {f"{kind} {figure}": value for figure, value in measured.items()}
                services.stop(server.service)
                found[name].append(figures)
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
    print("| server | refusals | p50 / p99 ms | CPU ms | winners | p50 / p99 ms | CPU ms |")
    print("|---|---|---|---|---|---|---|")
    for name, repeats in found.items():
        print("|", " | ".join([name, *_cells("refusals", repeats), *_cells("winners", repeats)]), "|")


@dataclass(frozen=True, slots=True)
class _Server:
    service: Service
    port: int

    def target(self, campaign_id: UUID, outcome: str) -> "Target":
        from benchmarks.http_target import Target, apply_path

        return Target(self.service, self.port, apply_path(campaign_id), outcome)


def _start(services: Services, name: str, command: list[str]) -> _Server:
    port = free_port()
    words = [word.format(port=port) for word in command]
    service = services.start(f"sweep-{name.replace(' ', '-')}", ["env", f"WEB_PORT={port}", *words])
    ready = f"http://{HOST}:{port}/readyz"
    services.wait(f"{name} at /readyz", lambda: answers_ok(ready), deadline_sec=READY_SEC, of=service)
    return _Server(service, port)


def _measure(target: "Target", base: "Target", users: Iterator[int], seconds: float) -> dict[str, float]:
    from benchmarks.http_target import Users

    ratios = []
    for number in range(SLICES + 1):
        mine, others = Users(next(users)), Users(next(users))
        ratios.append(target.load(mine, seconds=seconds) / base.load(others, seconds=seconds))
        if number == 0:  # to warm up
            target.take_figures()
            base.take_figures()
    return {**target.take_figures(), "ratio": median(ratios[1:])}


def _cells(kind: str, repeats: list[dict[str, float]]) -> list[str]:
    def middle(figure: str) -> float:
        return median(repeat[f"{kind} {figure}"] for repeat in repeats)

    return [
        f"{middle('per_sec'):.0f}/s, {middle('ratio'):.2f}x",
        f"{middle('p50_ms'):.0f} / {middle('p99_ms'):.0f}",
        f"{middle('web_cpu_ms_per_request'):.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
