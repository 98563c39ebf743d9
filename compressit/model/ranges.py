"""What the linear layers of a model take in, from least to greatest, and the model computing as if it were int8."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.algorithms import int8
from compressit.algorithms.int8 import Range

if TYPE_CHECKING:
    import torch
    from torch import nn

FILE = "activation_ranges.json"


def linears(module: nn.Module) -> dict[str, Any]:
    """List the linear layers by name, each once."""
    from torch import nn

    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def measured(module: Any, inputs: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, Range]:
    """Run a model over inputs without padding; give the mean of their least and greatest numbers, by linear layer.

    A layer that none of them reaches is left out.
    """
    import torch

    rows: list[dict[str, Range]] = []

    def watch(name: str) -> Any:
        def look(part: Any, given: tuple[torch.Tensor, ...]) -> None:
            low, high = (float(each) for each in given[0].aminmax())
            before = rows[-1].get(name, (low, high))
            rows[-1][name] = min(low, before[0]), max(high, before[1])

        return look

    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in linears(module).items()]
    try:
        with torch.inference_mode():
            for row in inputs:
                rows.append({})
                module(**row)
    finally:
        for hook in hooks:
            hook.remove()
    seen = {name: [row[name] for row in rows if name in row] for name in linears(module)}
    return {name: _mean(each) for name, each in seen.items() if each}


@contextmanager
def as_int8(module: Any, ranges: Mapping[str, Range], *, traced: bool = False) -> Iterator[None]:
    """Round, for a while, what the linear layers take in, their weights, and the embeddings, to what int8 holds.

    Args:
        module: A transformers model.
        ranges: By linear layer; others are left as they are.
        traced: Compute it through real integers, which exporters understand and training does not.
    """
    from torch import nn
    from torch.nn import functional

    values, rows = (int8.through, int8.through_rows) if traced else (int8.rounded, int8.rounded_rows)

    def linear(part: Any, found: Range, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(values(x, *found), rows(part.weight), part.bias)

    def embedding(part: Any, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, rows(part.weight), part.padding_idx)

    changed = []
    for name, part in module.named_modules():
        if name in ranges:
            part.forward = partial(linear, part, ranges[name])
        elif type(part) is nn.Embedding:
            part.forward = partial(embedding, part)
        else:
            continue
        changed.append(part)
    try:
        yield
    finally:
        for part in changed:
            del part.forward


def write(ranges: Mapping[str, Range], folder: Path) -> None:
    """Write them beside a checkpoint, where there are any."""
    if ranges:
        (folder / FILE).write_text(json.dumps(ranges, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Range]:
    """Read what `write` wrote; nothing where it wrote nothing."""
    file = folder / FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: (low, high) for name, (low, high) in found.items()}


def _mean(each: list[Range]) -> Range:
    return sum(low for low, _ in each) / len(each), sum(high for _, high in each) / len(each)
