"""Watch which matrices a forward pass multiplies with what.

Every product of activations with a weight passes through here, whatever module makes it: linear layers, GPT-2's
transposed ones, one expert out of a stack, convolutions, whose inputs are shown as patches. A matrix is known by where
its weights lie in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

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


class Calls(Protocol):
    """Answers calls instead of their being made, and takes down those that are."""

    def answer(self, function: Any, given: Any) -> tuple[bool, Any]:
        """Give whether a call is answered, and with what."""

    def note(self, function: Any, given: Any, output: Any) -> None:
        """Take down a call that was made."""


def watching(known: Mapping[int, Key], see: Callable[[Key, torch.Tensor], None], calls: Calls) -> Any:
    """Give a context in which `see` is told of every product before it is made: its key and the inputs (..., I).

    Args:
        known: From `products`.
        see: Told of products.
        calls: Told of every function call.
    """
    return _mode()(known, see, calls)


@functools.cache
def _mode() -> Any:
    """Make the class; once, for a class holds on to itself, and to what it closes over, until garbage is collected."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    # Which arguments are the inputs and the weight.
    where = {functional.linear: (0, 1), torch.addmm: (1, 2), functional.conv2d: (0, 1)}

    class Watching(TorchFunctionMode):  # type: ignore[misc]
        def __init__(self, known: Mapping[int, Key], see: Callable[[Key, torch.Tensor], None], calls: Calls) -> None:
            super().__init__()
            self.known, self.see, self.calls = known, see, calls

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            answered, output = self.calls.answer(function, (args, kwargs))
            if answered:
                return output
            places = where.get(function)
            if places is not None:
                key = self.known.get(args[places[1]].data_ptr())
                if key is not None:
                    patches = _patches(*args) if function is functional.conv2d else None
                    self.see(key, args[places[0]] if patches is None else patches)
            output = function(*args, **(kwargs or {}))
            self.calls.note(function, (args, kwargs), output)
            return output

    return Watching


def _patches(
    pictures: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> torch.Tensor:
    """Lay out what a convolution multiplies with, place by place: (B, C, H, W) -> (B, places, C x k x k)."""
    from torch.nn import functional

    columns = functional.unfold(pictures, weight.shape[2:], dilation, padding, stride)
    return columns.transpose(1, 2)
