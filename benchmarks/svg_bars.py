"""Horizontal bars as SVG: the same figures give the same bytes, so a plot in the repository changes only with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES = 860, 250, 90
TOP, ROW, BAR, GAP = 64, 10, 18, 4
COLOURS = ("#0969da", "#bf3989", "#9a6700", "#8c959f")
STYLE = "text { fill: #1f2328 } .quiet { fill: #57606a; font-size: 12px } .title { font-weight: 600; font-size: 16px }"


@dataclass(frozen=True, slots=True)
class Bars:
    """`rows`: label -> series -> value, in the order of drawing. Stacked, a row is one bar; else one bar a series."""

    title: str
    unit: str
    rows: Mapping[str, Mapping[str, float]]
    stacked: bool = False

    @property
    def series(self) -> Sequence[str]:
        return list(dict.fromkeys(name for values in self.rows.values() for name in values))

    @property
    def most(self) -> float:
        add = sum if self.stacked else max
        return max((add(values.values()) for values in self.rows.values() if values), default=0.0) or 1.0


def draw(bars: Bars) -> str:
    lines, y = [], TOP
    for label, values in bars.rows.items():
        height = BAR if bars.stacked else len(values) * (BAR + GAP) - GAP
        lines.append(_text(LABELS - 10, y + height / 2 + 5, label, 'text-anchor="end"'))
        lines += _stack(bars, values, y) if bars.stacked else _beside(bars, values, y)
        y += height + ROW
    size = f'viewBox="0 0 {WIDTH} {y + 6}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="14">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{y + 6}" fill="#ffffff"/>',
        _text(10, 24, bars.title, 'class="title"'),
        *_legend(bars),
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


def number(value: float) -> str:
    """Three digits that count; whole from 100 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _beside(bars: Bars, values: Mapping[str, float], y: float) -> list[str]:
    lines = []
    for place, (name, value) in enumerate(values.items()):
        top = y + place * (BAR + GAP)
        width = _width(bars, value)
        lines.append(_bar(LABELS, top, width, bars.series.index(name)))
        lines.append(_text(LABELS + width + 6, top + 14, number(value), ""))
    return lines


def _stack(bars: Bars, values: Mapping[str, float], y: float) -> list[str]:
    lines, x = [], float(LABELS)
    for name, value in values.items():
        width = _width(bars, value)
        lines.append(_bar(x, y, width, bars.series.index(name)))
        x += width
    return [*lines, _text(x + 6, y + 14, number(sum(values.values())), "")]


def _legend(bars: Bars) -> list[str]:
    lines, x = [], LABELS
    for place, name in enumerate(bars.series):
        lines.append(_bar(x, 38, 12, place, height=12))
        lines.append(_text(x + 18, 49, name, 'class="quiet"'))
        x += 30 + 7 * len(name)
    return [*lines, _text(LABELS - 10, 49, bars.unit, 'class="quiet" text-anchor="end"')]


def _width(bars: Bars, value: float) -> float:
    return (WIDTH - LABELS - VALUES) * value / bars.most


def _bar(x: float, y: float, width: float, colour: int, *, height: int = BAR) -> str:
    fill = COLOURS[colour % len(COLOURS)]
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height}" rx="2" fill="{fill}"/>'


def _text(x: float, y: float, text: str, attributes: str) -> str:
    space = " " if attributes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{space}{attributes}>{escape(text)}</text>'
