"""A checkpoint's matrices, block by block: how many weights are zero and how far they moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressit.report import Layer, tables
from compressit.report.html import svg
from compressit.report.html.svg import Drawn

COLUMNS = 20
"""Kinds of matrices in a block beyond which a chart of them helps nobody."""
ROWS = 400
"""Matrices that the page lists; report.json has all."""
SOME = 0.001
"""Share of zeros from which they are shown in a chart."""


@dataclass(frozen=True)
class Layers:
    """Charts of the blocks, the table of all matrices, and a summary."""

    charts: Sequence[tuple[str, Drawn]]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def shown(layers: Sequence[Layer]) -> Layers | None:
    """Show what became of each matrix; None where the report doesn't say."""
    if not layers:
        return None
    made, gone = [layer for layer in layers if layer.after], [layer for layer in layers if not layer.after]
    charts = []
    for title, of, least in (
        ("how far the weights moved, in % of their norm", lambda layer: layer.moved, 0.0),
        ("zeros, in %", lambda layer: layer.zeros, SOME),
    ):
        drawn = _grid(title, made, of, least)
        if drawn is not None:
            charts.append((title, drawn))
    rows = [*map(_row, made), *_taken_out(gone)]
    notes = _notes(made, gone)
    if len(rows) > ROWS:
        notes.append(f"the first {ROWS:,} are listed; report.json has all")
    return Layers(charts, rows[:ROWS], notes)


def _grid(title: str, layers: Sequence[Layer], of: Callable[[Layer], float | None], least: float) -> Drawn | None:
    inside = {(layer.block, below(layer)): of(layer) for layer in layers if layer.block}
    blocks = list(dict.fromkeys(block for block, _ in inside if block))
    columns = list(dict.fromkeys(column for _, column in inside))
    values = [value for value in inside.values() if value is not None]
    if not values or max(values) <= least or len(columns) > COLUMNS:
        return None
    cells = [[inside.get((block, column)) for column in columns] for block in blocks]
    return svg.grid(title, _both(blocks, layers), columns, cells)


def _both(blocks: Sequence[str], layers: Sequence[Layer]) -> list[str]:
    """Name blocks, and say what number one had in the original where it has another now."""
    was = {now: before for before, now in tables.renamed(layers).items() if before}
    names = named([*blocks, *(was[block] for block in blocks if block in was)])
    before = iter(names[len(blocks) :])
    return [
        f"{name} (was {next(before).removeprefix('block ')})" if block in was else name
        for block, name in zip(blocks, names, strict=False)
    ]


def below(layer: Layer) -> str:
    """Name a matrix within its block."""
    return layer.name.removeprefix(f"{layer.block}.")


def named(blocks: Sequence[str]) -> list[str]:
    """Name blocks by what they don't have in common."""
    parts = [block.split(".") for block in blocks]
    shared = 0
    while len({path[shared] if shared < len(path) - 1 else "" for path in parts}) == 1 and shared < len(parts[0]) - 1:
        shared += 1
    return [f"block {'.'.join(path[shared:])}" for path in parts]


def _row(layer: Layer) -> list[str]:
    name = layer.name if layer.was is None else f"{layer.name} (was {layer.was})"
    same = layer.before == layer.after
    shape = _shape(layer.after) if same else f"{_shape(layer.before)} \N{RIGHTWARDS ARROW} {_shape(layer.after)}"
    zeros = "" if layer.zeros is None else f"{layer.zeros:.2%}"
    moved = "" if layer.moved is None else f"{'about ' if layer.sampled else ''}{layer.moved:.2%}"
    return [name, layer.kind, shape, zeros, moved]


def _taken_out(gone: Sequence[Layer]) -> list[list[str]]:
    """Give a row to each block that is gone, and to each matrix outside such a block."""
    whole = {layer.block: sum(other.block == layer.block for other in gone) for layer in gone if layer.block}
    rows = [[block, "", f"taken out: {count:,} {'matrices' if count > 1 else 'matrix'}", "", ""]
            for block, count in whole.items()]  # fmt: skip
    rest = [[layer.name, "", f"{_shape(layer.before)}, taken out", "", ""] for layer in gone if not layer.block]
    return [*rows, *rest]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "new" if shape is None else " \N{MULTIPLICATION SIGN} ".join(f"{size:,}" for size in shape)


def _notes(made: Sequence[Layer], gone: Sequence[Layer]) -> list[str]:
    """Sum up, and say what the figures are not."""
    notes = []
    cut = sum(layer.before is not None and layer.before != layer.after for layer in made)
    new = sum(layer.before is None for layer in made)
    still = sum(layer.moved == 0 for layer in made)
    blocks = {layer.block for layer in gone if layer.block}
    said = [f"{len(made):,} matrices"]
    said += [f"{cut:,} of another shape than before"] if cut else []
    said += [f"{new:,} that the original doesn't have"] if new else []
    said += [f"{still:,} that didn't move at all"] if still else []
    notes.append(", ".join(said))
    if gone:
        where = f", with {len(blocks)} block{'s' if len(blocks) > 1 else ''}" if blocks else ""
        notes.append(f"{len(gone):,} were taken out{where}")
    if not any((layer.zeros or 0) > SOME for layer in made):
        notes.append("hardly any weight is zero")
    if cut:
        notes.append("how far weights moved is not known where the shape changed")
    if any(layer.sampled for layer in made):
        notes.append("of large matrices, rows spread evenly over them stand for all in how far they moved")
    return notes
