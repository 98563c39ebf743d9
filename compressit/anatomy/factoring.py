"""A linear layer as the product of two: put in its place, found again in a checkpoint's tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.anatomy.cutting import mark

if TYPE_CHECKING:
    import torch
    from torch import nn

REDUCE, EXPAND = "reduce", "expand"
"""What the two are called below the name of the one: (R, I), then (O, R) with the bias."""


def factor(module: Any, name: str, reduce_RI: torch.Tensor, expand_OR: torch.Tensor) -> None:
    """Put two linear layers in the place of one, which gives its bias to the second; the config is marked."""
    import torch

    linear = module.get_submodule(name)
    made = _pair(linear, len(reduce_RI))
    with torch.no_grad():
        made.get_submodule(REDUCE).weight.copy_(reduce_RI)
        made.get_submodule(EXPAND).weight.copy_(expand_OR)
        if linear.bias is not None:
            made.get_submodule(EXPAND).bias.copy_(linear.bias)
    _replace(module, name, made)
    mark(module)


def factored(module: Any) -> list[str]:
    """Name the layers that are two."""
    names = {name for name, _ in module.named_modules()}
    return [name for name in names if {f"{name}.{REDUCE}", f"{name}.{EXPAND}"} <= names]


def build(module: Any, ranks: Mapping[str, int]) -> None:
    """Put pairs without weights in the place of the layers that a checkpoint has as two; by name, their ranks."""
    for name, rank in ranks.items():
        _replace(module, name, _pair(module.get_submodule(name), rank))


def ranks(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Find the layers that are two among the shapes of a checkpoint's tensors, and their ranks."""
    end = f".{REDUCE}.weight"
    names = [name.removesuffix(end) for name in shapes if name.endswith(end)]
    return {name: shapes[f"{name}{end}"][0] for name in names if f"{name}.{EXPAND}.weight" in shapes}


def whole(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Give the shapes with those of the layers that two stand for."""
    made = {
        f"{name}.weight": (shapes[f"{name}.{EXPAND}.weight"][0], shapes[f"{name}.{REDUCE}.weight"][1])
        for name in ranks(shapes)
    }
    return {**shapes, **made}


def _pair(linear: nn.Linear, rank: int) -> nn.Module:
    from torch import nn

    class Pair(nn.Sequential):  # type: ignore[misc]
        """Two linear layers, one after the other."""

        @property
        def weight(self) -> torch.Tensor:
            """The matrix that they stand for: some modules ask for its type."""
            found: torch.Tensor = self.get_submodule(EXPAND).weight @ self.get_submodule(REDUCE).weight
            return found

    like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    first = nn.Linear(linear.in_features, rank, bias=False, **like)
    second = nn.Linear(rank, linear.out_features, bias=linear.bias is not None, **like)
    return Pair(OrderedDict([(REDUCE, first), (EXPAND, second)])).train(linear.training)


def _replace(module: Any, name: str, made: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, made)
