"""Figures of a run: percentiles, medians, and marks that are reached or not."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Protocol


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that `percent` per cent of the values do not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """The median of the repeats' own ratios: what disturbs both sides of one repeat cancels out."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


@dataclass(frozen=True, slots=True)
class Mark:
    """What a figure should reach: at least `limit`, or at most it."""

    title: str
    value: float
    limit: float
    unit: str
    at_least: bool = True

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}

    def __str__(self) -> str:
        wish = "at least" if self.at_least else "at most"
        verdict = "reached" if self.reached else "NOT reached"
        return f"{self.title}: {self.value:.4g}{self.unit} ({wish} {self.limit:g}{self.unit}): {verdict}"


class Measured(Protocol):
    """One answered request, as load.py records it."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def status(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one run of the load client. `p50_ms` and `p99_ms` are over all users; `outcomes` counts status and code."""

    users: int
    requests: int
    seconds: float
    users_per_sec: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    outcomes: dict[str, int]
    unanswered: int

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} x {outcome}" for outcome, count in self.outcomes.items())
        return (
            f"{self.users} users, {self.requests} requests in {self.seconds:.1f} s: "
            f"{self.users_per_sec:.0f} users/s, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, "
            f"max {self.max_ms:.0f} ms\n{outcomes}"
        )


def summarize(records: Iterable[Measured], *, seconds: float | None = None) -> Summary:
    """Rate and latency of final answers. `seconds` is how long the load lasted, if it had breaks."""
    records = list(records)
    outcomes: dict[str, int] = defaultdict(int)
    for record in records:
        outcomes[f"{record.status or 'no answer'} {record.code}".strip()] += 1
    waits_ms = [(record.end - record.start) * 1000 for record in records]
    if seconds is None:
        seconds = max((r.end for r in records), default=0) - min((r.start for r in records), default=0)
    return Summary(
        users=len(records),
        requests=sum(record.attempts for record in records),
        seconds=seconds,
        users_per_sec=len(records) / seconds if seconds else 0,
        p50_ms=percentile(waits_ms, 50),
        p99_ms=percentile(waits_ms, 99),
        max_ms=max(waits_ms, default=math.nan),
        outcomes=dict(sorted(outcomes.items())),
        unanswered=sum(record.status == 0 or record.status in (429, 503) for record in records),
    )
