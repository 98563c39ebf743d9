"""Charts as inline SVG: shapes and text of one's own, nothing that a stranger's text could open."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compressit.recipe.problems import clean
from compressit.recipe.quantities import show

ROW = 26
"""Letters that name a row of a grid."""
BIDI = re.compile("[\N{ARABIC LETTER MARK}\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Drawn(str):
    """Markup that is safe as it stands; jinja2 does not escape it."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Bar:
    """One bar of a chart, with its bounds where it has some.

    Attributes:
        shown: What is written beside it.
        original: Whether it stands for the uncompressed model.
    """

    label: str
    value: float | None
    shown: str
    original: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """One point of a scatter plot.

    Attributes:
        mark: The few characters written beside it.
        label: All that it stands for.
        front: Whether no other point is better in one and as good in the other.
    """

    mark: str
    label: str
    x: float
    y: float
    original: bool = False
    front: bool = False
    low: float | None = None
    high: float | None = None


def plain(text: str, longest: int = 400) -> str:
    """Take out of a text what could steer what shows it, and cut it off: controls, turns of direction."""
    text = BIDI.sub("\N{REPLACEMENT CHARACTER}", clean(text))
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def share(value: float | None, whole: float, kind: str) -> Drawn:
    """Draw a small bar for a table's cell: a value as a share of the row's largest."""
    if value is None or not math.isfinite(value) or whole <= 0 or value < 0:
        return Drawn("")
    return Drawn(
        f'<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{100 * value / whole:.2f}" height="4"/></svg>'
    )


def bars(title: str, rows: Sequence[Bar], letters: int = 15) -> Drawn:
    """Draw one bar a row, all from zero, the original's hollow; labels have so many letters at most."""
    label = 6 + 7 * letters
    room, height, width = 150, 22, label + 234
    values = [each for row in rows for each in (row.value, row.high) if each is not None and math.isfinite(each)]
    most = max([*values, 0.0]) or 1.0
    parts = []
    for number, row in enumerate(rows):
        middle = number * height + height / 2
        parts.append(_text(0, middle + 4, plain(row.label, letters)))
        kind = "original" if row.original else "own"
        long = room * (row.value or 0) / most
        if row.value is not None and row.value >= 0:
            parts.append(f'<rect class="{kind}" x="{label}" y="{middle - 6}" width="{max(long, 1):.1f}" height="12"/>')
        end = long
        if row.low is not None and row.high is not None and row.value is not None:
            start, end = room * max(row.low, 0) / most, max(long, room * row.high / most)
            parts.append(_line("whisker", label + start, middle, label + room * row.high / most, middle))
        parts.append(_text(label + end + 6, middle + 4, plain(row.shown, 24), "number"))
    return _svg("bars", title, [f"{row.label} {row.shown}" for row in rows], width, height * len(rows), parts)


def interval(title: str, limit: float, low: float, high: float, value: float | None, *, least: bool) -> Drawn:
    """Draw a bound against its limit: the side that is asked for is shaded, the measured span a line with a dot."""
    ends = [limit, low, high, *([] if value is None else [value])]
    first, last = min(ends), max(ends)
    pad = (last - first or abs(limit) or 1.0) * 0.15
    width, height = 120, 20

    def at(x: float) -> float:
        return width * (x - first + pad) / (last - first + 2 * pad)

    edge = at(limit)
    shade = (edge, width - edge) if least else (0.0, edge)
    parts = [
        f'<rect class="asked" x="{shade[0]:.1f}" y="2" width="{shade[1]:.1f}" height="16"/>',
        _line("limit", edge, 0, edge, height),
        _line("span", at(low), 10, at(high), 10),
    ]
    if value is not None:
        parts.append(f'<circle class="dot" cx="{at(value):.1f}" cy="10" r="3.5"/>')
    return _svg("interval", title, [], width, height, parts)


def scatter(title: str, along: tuple[str, str], up: tuple[str, str], points: Sequence[Point]) -> Drawn:
    """Draw points with bounds in y, and a line through those of the front.

    Args:
        title: What the chart is called.
        along: What lies along the bottom, and its unit.
        up: What rises, and its unit.
        points: In any order.
    """
    width, height, left, bottom, top, right = 420, 280, 72, 44, 14, 20
    xs = _axis([point.x for point in points], zero=True)
    ys = _axis([each for p in points for each in (p.y, p.low, p.high) if each is not None], zero=False)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (width - left - right) * (x - xs[0]) / (xs[1] - xs[0]),
            height - bottom - (height - bottom - top) * (y - ys[0]) / (ys[1] - ys[0]),
        )

    floor = height - bottom
    parts = []
    for value in ys[2]:
        _, y = at(xs[0], value)
        parts += [_line("grid", left, y, width - right, y), _text(left - 8, y + 4, show(value, up[1]), "end")]
    for value in xs[2]:
        x, _ = at(value, ys[0])
        parts += [_line("grid", x, top, x, floor), _text(x, floor + 16, show(value, along[1]), "middle")]
    parts += [_text((left + width - right) / 2, height - 6, along[0], "middle name"), _up(12, (top + floor) / 2, up[0])]
    front = sorted((at(p.x, p.y) for p in points if p.front), key=lambda place: place[0])
    if len(front) > 1:
        parts.append(f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in front)}"/>')
    taken = [(x - 6, x + 6, y + 4) for x, y in (at(point.x, point.y) for point in points)]
    for point in sorted(points, key=lambda each: each.x):
        x, y = at(point.x, point.y)
        if point.low is not None and point.high is not None:
            parts.append(_line("whisker", x, at(point.x, point.low)[1], x, at(point.x, point.high)[1]))
        shape = (
            f'<rect class="mark original" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10">'
            if point.original
            else f'<circle class="mark own" cx="{x:.1f}" cy="{y:.1f}" r="5">'
        )
        tag = "rect" if point.original else "circle"
        parts.append(f"{shape}<title>{_safe(point.label)}</title></{tag}>")
        mark = plain(point.mark, 24)
        long = 6.8 * len(mark)
        turned = x + 10 + long > width
        start = x - 10 - long if turned else x + 10
        put = _free(start, start + long, y + 4, taken)
        taken.append((start, start + long, put))
        parts.append(_text(x - 10 if turned else x + 10, put, mark, "end" if turned else ""))
    return _svg("scatter", title, [point.label for point in points], width, height, parts)


def grid(title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]]) -> Drawn:
    """Draw a table of shares, each cell as dark as its share is large, with the share written in percent."""
    most = max([value for row in cells for value in row if value is not None], default=0.0) or 1.0
    wide, high, left = 46, 20, 12 + 7 * max(map(len, (plain(row, ROW) for row in rows)), default=0)
    top = 16 + 6 * max(map(len, (plain(column, 22) for column in columns)), default=0)
    parts = []
    for number, column in enumerate(columns):
        x = left + number * wide + wide / 2 + 4
        parts.append(f'<text transform="translate({x:.0f} {top - 8}) rotate(-60)">{_safe(plain(column, 22))}</text>')
    for line, (row, values) in enumerate(zip(rows, cells, strict=True)):
        y = top + line * high
        parts.append(_text(left - 8, y + 14, plain(row, ROW), "end"))
        for number, value in enumerate(values):
            x = left + number * wide
            if value is None:
                parts.append(_text(x + wide / 2, y + 14, "\N{MIDDLE DOT}", "middle faint"))
                continue
            dark = value / most
            parts.append(
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{wide - 2}" height="{high - 2}" '
                f'fill-opacity="{0.08 + 0.92 * dark:.3f}"/>'
            )
            parts.append(_text(x + wide / 2, y + 14, percent(value), f"middle{' over' if dark > 0.5 else ''}"))
    width = left + wide * len(columns) + 70
    return _svg("cells", title, [], width, top + high * len(rows) + 4, parts)


def percent(value: float) -> str:
    """Write a share in percent, short."""
    return "0" if value == 0 else f"{100 * value:.0f}" if value >= 0.0995 else f"{100 * value:.1f}"


def _free(start: float, end: float, height: float, taken: Sequence[tuple[float, float, float]]) -> float:
    """Find a height near the wanted one where no other label lies."""
    for off in (0, 13, -13, 26, -26, 39, -39):
        put = height + off
        if not any(abs(put - other) < 13 and start < right and left < end for left, right, other in taken):
            return put
    return height


def _axis(values: Sequence[float], *, zero: bool) -> tuple[float, float, list[float]]:
    """Choose the ends of an axis and round ticks within them."""
    least, most = min(values), max(values)
    least = min(0.0, least) if zero else least
    span = most - least or abs(most) * 0.1 or 1.0
    low, high = (least if zero else least - 0.12 * span), most + 0.12 * span
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    first = math.ceil(low / step - 1e-9)
    return low, high, [(first + n) * step for n in range(int((high - first * step) / step + 1e-9) + 1)]


def _svg(kind: str, title: str, described: Sequence[str], width: float, height: float, parts: Iterable[str]) -> Drawn:
    about = f"<desc>{_safe('; '.join(described))}</desc>" if described else ""
    return Drawn(
        f'<svg class="{kind}" role="img" aria-label="{_safe(title)}" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}"><title>{_safe(title)}</title>{about}{"".join(parts)}</svg>'
    )


def _safe(text: str) -> str:
    return html.escape(plain(text), quote=True)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{_safe(text)}</text>'


def _up(x: float, y: float, text: str) -> str:
    return f'<text class="middle name" transform="translate({x} {y:.1f}) rotate(-90)">{_safe(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
