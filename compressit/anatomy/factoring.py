"""A linear layer of low rank as two: put in its place, found again in a checkpoint's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.anatomy.cutting import mark

if TYPE_CHECKING:
    import torch
    from torch import nn

REDUCE, EXPAND, ORDER = "reduce", "expand", "order"
"""What is found below its name: R of the outputs from the inputs, (R, I); the others from these, (O - R, R); and where
each output lies among the ones and the others, (O,). The bias stays where it was."""


def factor(module: Any, name: str, reduce_RI: torch.Tensor, expand_PR: torch.Tensor, order_O: torch.Tensor) -> None:
    """Put two linear layers in the place of one; the config is marked."""
    import torch

    linear = module.get_submodule(name)
    made = _pair(linear, len(reduce_RI))
    with torch.no_grad():
        made.get_submodule(REDUCE).weight.copy_(reduce_RI)
        made.get_submodule(EXPAND).weight.copy_(expand_PR)
        made.get_buffer(ORDER).copy_(order_O)
        if linear.bias is not None:
            made.get_parameter("bias").copy_(linear.bias)
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
        f"{name}.weight": (rank + shapes[f"{name}.{EXPAND}.weight"][0], shapes[f"{name}.{REDUCE}.weight"][1])
        for name, rank in ranks(shapes).items()
    }
    return {**shapes, **made}


def _pair(linear: nn.Linear, rank: int) -> nn.Module:
    import torch
    from torch import nn

    like = {"device": linear.weight.device, "dtype": linear.weight.dtype}

    class Pair(nn.Module):  # type: ignore[misc]
        """Two linear layers: the second makes of what the first gives the other outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.add_module(REDUCE, nn.Linear(linear.in_features, rank, bias=False, **like))
            self.add_module(EXPAND, nn.Linear(rank, linear.out_features - rank, bias=False, **like))
            order_O = torch.arange(linear.out_features, dtype=torch.int32, device=linear.weight.device)
            self.register_buffer(ORDER, order_O)
            self.register_parameter(
                "bias", None if linear.bias is None else nn.Parameter(torch.empty_like(linear.bias))
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            some = self.get_submodule(REDUCE)(inputs)
            both = torch.cat([some, self.get_submodule(EXPAND)(some)], -1)
            # Whole rows are taken in less than half of the time that onnxruntime needs for columns.
            found = both.transpose(-1, -2).index_select(-2, self.get_buffer(ORDER)).transpose(-1, -2).contiguous()
            return found if self.bias is None else found + self.bias

        @property
        def weight(self) -> torch.Tensor:
            """The matrix that they stand for: some modules ask for its type."""
            some = self.get_submodule(REDUCE).weight
            return torch.cat([some, self.get_submodule(EXPAND).weight @ some])[self.get_buffer(ORDER)]

    return Pair().train(linear.training)


def _replace(module: Any, name: str, made: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, made)
