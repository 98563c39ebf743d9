"""What each part of a checkpoint costs by itself: a chart of the worst, and a table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressit.report import Sensitivity, Swap, tables
from compressit.report.html import svg
from compressit.report.html.layers import ROWS, named
from compressit.report.html.svg import Bar, Drawn

WORST = 20
"""Parts in the chart; the table has all."""
LETTERS = 34


@dataclass(frozen=True)
class Costs:
    """The chart, the table, and what should be known."""

    asked: str
    charts: Sequence[tuple[str, Drawn]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def shown(found: Sensitivity | None) -> Costs | None:
    """Show what each part costs; None where nobody asked, or nothing was measured."""
    if found is None:
        return None
    head, rows = tables.sensitivity(found)
    swaps = [swap for swap in tables.costly(found) if swap.moved]
    blocks = dict.fromkeys(swap.block for swap in found.swaps if swap.block)
    names = dict(zip(blocks, named(list(blocks)), strict=True)) if blocks else {}
    bars = [Bar(_label(swap, names), swap.moved, tables.apart(swap.moved or 0.0)) for swap in swaps[:WORST]]
    title = tables.MEASURES[found.measure] + (f", the worst {WORST} of {len(swaps):,}" if len(swaps) > WORST else "")
    charts = [(title, svg.bars(title, bars, LETTERS))] if bars else []
    return Costs(tables.asked_of(found), charts, head, rows[:ROWS], _notes(found, len(rows)))


def _label(swap: Swap, names: dict[str, str]) -> str:
    """Call a part by its block's number and what it is called there."""
    if swap.block is None:
        return swap.name
    below = swap.name.removeprefix(swap.block).lstrip("., ")
    return f"{names[swap.block]} {below or 'left out'}"


def _notes(found: Sensitivity, count: int) -> list[str]:
    still = sum(swap.moved == 0 for swap in found.swaps)
    unknown = sum(swap.moved is None for swap in found.swaps)
    notes = ["losses of parts don't add up: together they may cancel, or make each other worse"]
    notes += [f"{still:,} move nothing: they are as they were, or their change reaches no answer"] if still else []
    notes += [f"{unknown:,} can't be put into the original by themselves; the table says why"] if unknown else []
    notes += [f"the first {ROWS:,} are listed; report.json has all"] if count > ROWS else []
    return notes
