"""Watch which matrices a forward pass multiplies with what.

Every product of activations with a weight passes through here, whatever module makes it: linear layers, GPT-2's
transposed ones, one expert out of a stack. A matrix is known by where its weights lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from compressit.model.matrices import Matrix

Key = tuple[str, int | None]
"""A product: the parameter, and which expert of it."""


class Stopped(Exception):
    """Raised inside a forward pass that has shown what it was run for."""


def products(tensors: Mapping[str, torch.Tensor], matrices: Mapping[str, Matrix]) -> dict[int, Key]:
    """Find where the weights of each product lie."""
    found = {}
    for matrix in matrices.values():
        tensor = tensors[matrix.parameter]
        place = tensor if matrix.expert is None else tensor[matrix.expert]
        found[place.data_ptr()] = matrix.product
    return found


def watching(known: Mapping[int, Key], see: Callable[[Key, torch.Tensor], None]) -> Any:
    """Give a context in which `see` is told of every product before it is made: its key and the inputs (..., I)."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    # Which arguments are the inputs and the weight.
    where = {functional.linear: (0, 1), torch.addmm: (1, 2)}

    class Watching(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            places = where.get(function)
            if places is not None:
                key = known.get(args[places[1]].data_ptr())
                if key is not None:
                    see(key, args[places[0]])
            return function(*args, **(kwargs or {}))

    return Watching()
