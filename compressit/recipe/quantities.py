"""Numbers with units: `70 MB`, `5 ms`, `1 %`."""

from __future__ import annotations

import math
import re

UNITS: dict[str, dict[str, float]] = {
    "bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "seconds": {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1},
    "examples/s": {"/s": 1, "examples/s": 1},
    "bits": {"bit": 1, "bits": 1},
    "count": {"k": 1e3, "M": 1e6, "B": 1e9},
    "": {"%": 0.01},
}
WITHOUT = ("", "bits", "examples/s", "count")
"""Units that may be left out: nobody reads another into a bare number."""
QUANTITY = re.compile(r"\s*([-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?)\s*([^\s\d]*)\s*")


def parse(value: float | str, unit: str) -> float:
    """Read a bound of a target in its metric's base unit.

    Raises:
        ValueError: not a number, or the unit is missing or not one of the metric's.
    """
    known = UNITS[unit]
    if isinstance(value, int | float):
        if unit not in WITHOUT:
            raise ValueError(f"{value} needs a unit: one of {', '.join(known)}")
        return float(value)
    found = QUANTITY.fullmatch(value)
    if not found:
        raise ValueError(f"{value!r} is not a number with a unit")
    number, written = float(found.group(1)), found.group(2)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is too large a number")
    if not written:
        return parse(number, unit)
    if written not in known:
        raise ValueError(f"{value!r} has no unit of this metric; expected {', '.join(known)}")
    return number * known[written]


def show(value: float, unit: str) -> str:
    """Write a value for people, three digits where they matter."""
    if value != value:
        return "NaN"
    if unit == "bytes":
        name, size = next(((n, s) for n, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if abs(value) >= s), ("B", 1))
        return f"{value / size:.3g} {name}" if abs(value / size) < 1000 else f"{value / size:.0f} {name}"
    if unit == "seconds":
        name, size = next(((n, s) for n, s in (("s", 1.0), ("ms", 1e-3)) if abs(value) >= s), ("µs", 1e-6))
        return f"{value / size:.3g} {name}"
    if unit == "examples/s":
        return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"
    if unit == "count":
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
