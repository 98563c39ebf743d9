"""What each part of a checkpoint costs by itself: a chart of the worst, and a table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressit.report import Layer, Sensitivity, Swap, tables
from compressit.report.html import svg
from compressit.report.html.layers import ROWS, named
from compressit.report.html.svg import Bar, Drawn

WORST = 20
"""Parts in the chart; the table has all."""
LETTERS = 40
FEWEST = 12
"""Letters that the part below a block has, however long the block's name is."""


@dataclass(frozen=True)
class Costs:
    """The chart, the table, and what should be known.

    Attributes:
        renamed: Whether blocks have other names in the checkpoint.
    """

    asked: str
    charts: Sequence[tuple[str, Drawn]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    renamed: bool


def shown(found: Sensitivity | None, layers: Sequence[Layer]) -> Costs | None:
    """Show what each part costs; None where nobody asked, or nothing was measured."""
    if found is None:
        return None
    head, rows = tables.sensitivity(found, layers)
    swaps = [swap for swap in tables.costly(found) if swap.moved]
    now = tables.renamed(layers)
    names = _blocks(found, now)
    bars = [
        Bar(_label(swap, names, renamed=bool(now)), swap.moved, tables.apart(swap.moved or 0.0))
        for swap in swaps[:WORST]
    ]
    title = tables.MEASURES[found.measure] + (f", the worst {WORST} of {len(swaps):,}" if len(swaps) > WORST else "")
    charts = [(title, svg.bars(title, bars, LETTERS))] if bars else []
    return Costs(tables.asked_of(found), charts, head, rows[:ROWS], _notes(found, len(rows)), bool(now))


def _blocks(found: Sensitivity, now: Mapping[str | None, str]) -> dict[str, str]:
    """Call each of the original's blocks by its number there and, where it has another now, by both."""
    blocks = list(dict.fromkeys(swap.block for swap in found.swaps if swap.block))
    if not blocks:
        return {}
    both = [*blocks, *(now[block] for block in blocks if block in now)]
    short = dict(zip(both, named(both), strict=True))
    return {
        block: f"{short[block]} (now {short[now[block]].removeprefix('block ')})" if block in now else short[block]
        for block in blocks
    }


def _label(swap: Swap, names: dict[str, str], *, renamed: bool) -> str:
    """Call a part by its block's number and what it is called there."""
    if swap.block is None:
        return _end(swap.name, LETTERS)
    block = names[swap.block]
    below = swap.name.removeprefix(swap.block).lstrip("., ")
    if not below:
        return f"{block}{' of the original' if renamed else ''} left out"
    return f"{block} {_end(below, max(FEWEST, LETTERS - len(block) - 1))}"


def _end(name: str, longest: int) -> str:
    """Shorten a name from its start, whose parts many share: at a dot where there is one."""
    if len(name) <= longest:
        return name
    kept = name[1 - longest :]
    _, dot, rest = kept.partition(".")
    return f"\N{HORIZONTAL ELLIPSIS}{rest if dot and rest else kept}"


def _notes(found: Sensitivity, count: int) -> list[str]:
    still = sum(swap.moved == 0 for swap in found.swaps)
    unknown = sum(swap.moved is None for swap in found.swaps)
    notes = ["losses of parts don't add up: together they may cancel, or make each other worse"]
    notes += [f"{still:,} move nothing: they are as they were, or their change reaches no answer"] if still else []
    notes += [f"{unknown:,} can't be put into the original by themselves; the table says why"] if unknown else []
    notes += [f"the first {ROWS:,} are listed; report.json has all"] if count > ROWS else []
    return notes
