"""Computes percentiles and medians, and compares figures with their marks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], percent: float) -> float:
    """The lowest value that `percent` per cent of the values do not exceed (nearest rank); NaN without values."""
    if not values:
        return math.nan
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """The median of the repeats' ratios, so that a disturbance of both sides of a repeat cancels out."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


def number(value: float) -> str:
    """Formats a value with three significant digits; from 100 on as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A figure's target: at least `limit`, or at most `limit`."""

    title: str
    value: float
    limit: float
    unit: str
    at_least: bool = True

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        wish = "at least" if self.at_least else "at most"
        verdict = "reached" if self.reached else "NOT reached"
        return f"{self.title}: {self.value:.4g}{self.unit} ({wish} {self.limit:g}{self.unit}): {verdict}"


def at_most(title: str, value: float, limit: float, unit: str) -> Mark:
    return Mark(title, value, limit, unit, at_least=False)
