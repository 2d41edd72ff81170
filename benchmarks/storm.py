"""The consumer while a storm of refusals runs: what each leaves to the other, and what the consumer's process takes.

The storm is wrk's slices of a second, one after another. Those before the consumer starts are the storm alone; those
that lie between its first row and its last are the storm beside it. The consumer's rate is measured as always.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from uuid import UUID

from django.db.models import Max, Min

from benchmarks.consumer_speed import DEADLINE_SEC, pace
from benchmarks.figures import Mark
from benchmarks.http_target import apply_path
from benchmarks.processes import pss_mib
from benchmarks.services import MANAGE, ServiceFailed, Services
from benchmarks.workload import Run, admit_all, eight_digits, open_new, publish_all
from benchmarks.wrk_load import Aim
from benchmarks.wrk_target import Target, api_key, start_product, start_reference
from coupons.models import Campaign, Coupon

SLICE_SEC = 1.0
BARE_SEC = 3.0
ALONE = 4
"""Slices of the storm before the consumer starts."""
ROWS_PER_SEC, AT_BARE_PER_SEC = 5_000, 2_400
"""So many rows a second on a machine whose bare DRF view answers so many requests a second."""
CONSUMER_MIB = 90.0


def measure(run: Run) -> tuple[dict[str, Any], list[Mark]]:
    repeats = []
    with Services(log_folder=run.log_folder) as services:
        sold_out = open_new("sold out", 1)
        admit_all(sold_out, ["first"])
        service, port = start_reference(services, "bare DRF")
        bare = Target(service, Aim(port, apply_path("any"), api_key()), refuses=False)
        web, port = start_product(services)
        storm = Target(web, Aim(port, apply_path(sold_out), api_key()), refuses=True)
        for target in (bare, storm, storm):
            target.warm_up("warm-up-", run.size(2, 1))
        for number in range(run.repeats):
            found = _repeat(run, services, bare, storm, number)
            repeats.append(found)
            run.say(
                f"storm {found['storm_alone_per_sec']:.0f}/s, {found['storm_beside_per_sec']:.0f}/s with the consumer; "
                f"consumer {found['rows_per_sec']:.0f} rows/s; bare DRF {found['bare_drf_per_sec']:.0f}/s; "
                f"consumer's process {found['consumer_pss_mib']:.0f} MiB, web {pss_mib(web.process.pid):.0f} MiB"
            )

    def middle(name: str) -> float:
        return median(found[name] for found in repeats)

    return {"rows": _rows(run), "medians": {name: middle(name) for name in repeats[0]}, "repeats": repeats}, [
        Mark(
            f"consumer in the storm: rows a second, of {ROWS_PER_SEC} scaled by bare DRF / {AT_BARE_PER_SEC}",
            middle("rows_of_scaled"),
            1,
            "x",
        ),
        Mark("storm beside the consumer, against the storm alone", middle("storm_kept"), 0.6, "x"),
        Mark("consumer's process after the storm", middle("consumer_pss_mib"), CONSUMER_MIB, " MiB", at_least=False),
    ]


def _rows(run: Run) -> int:
    return run.size(100_000, 30_000)


def _repeat(run: Run, services: Services, bare: Target, storm: Target, number: int) -> dict[str, float]:
    rows = _rows(run)
    campaign_id = open_new(f"storm {number}", rows)
    publish_all(admit_all(campaign_id, eight_digits(rows)))
    bare_per_sec = bare.load(f"bare-{number}-", run.size(3, 1))["per_sec"]
    with _storming(storm) as slices:
        _wait_until(lambda: len(slices) >= run.size(ALONE, 2))
        alone = [per_sec for _, _, per_sec in slices]
        consumer = services.start("bench-consumer", [*MANAGE, "run_coupon_consumer", "--solo"])
        issued = Campaign.objects.filter(pk=campaign_id, issued_count=rows)
        services.wait("The coupons", issued.exists, deadline_sec=DEADLINE_SEC, of=consumer)
    memory_mib = pss_mib(consumer.process.pid)
    services.stop(consumer)
    beside = median(_during_the_writing(slices, campaign_id))
    rows_per_sec = pace(campaign_id)
    return {
        "bare_drf_per_sec": bare_per_sec,
        "storm_alone_per_sec": median(alone),
        "storm_beside_per_sec": beside,
        "storm_kept": beside / median(alone),
        "rows_per_sec": rows_per_sec,
        "rows_of_scaled": rows_per_sec / (ROWS_PER_SEC * bare_per_sec / AT_BARE_PER_SEC),
        "consumer_pss_mib": memory_mib,
    }


@contextmanager
def _storming(storm: Target) -> Iterator[list[tuple[float, float, float]]]:
    """The slices so far: start and end in seconds since 1970, and requests a second."""
    slices: list[tuple[float, float, float]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def load() -> None:
        try:
            while not done.is_set():
                began = time.time()
                found = storm.load(f"storm-{began:.0f}-", SLICE_SEC)
                slices.append((began, time.time(), found["per_sec"]))
        except Exception as error:  # noqa: BLE001  raised by the thread that waits
            failures.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        yield slices
    finally:
        done.set()
        thread.join()
    if failures:
        raise failures[0]


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceFailed("The storm's first slices: not within 60 s.")
        time.sleep(0.05)


def _during_the_writing(slices: list[tuple[float, float, float]], campaign_id: UUID) -> list[float]:
    """The slices between the first row and the last; one that is half inside if there is no other."""
    times = Coupon.objects.filter(campaign_id=campaign_id).aggregate(first=Min("issued_at"), last=Max("issued_at"))
    first, last = times["first"].timestamp(), times["last"].timestamp()
    inside = [per_sec for began, ended, per_sec in slices if began >= first and ended <= last]
    if not inside:
        overlaps = [(min(ended, last) - max(began, first), per_sec) for began, ended, per_sec in slices]
        widest, per_sec = max(overlaps)
        if widest < SLICE_SEC / 2:
            raise ServiceFailed(f"The consumer was done after {last - first:.1f} s: too soon for a slice of the storm.")
        inside = [per_sec]
    return inside
