"""From a module in memory to a graph with free batch and length: what every traced format shares."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError
from compressit.weights import Weights, of_shapes

if TYPE_CHECKING:
    import torch


def plain(module: Any) -> Any:
    """Give the module in float32 on the CPU; a copy where it is not that already."""
    import torch

    if module.dtype == torch.float32 and module.device.type == "cpu":
        return module
    return copy.deepcopy(module).to("cpu", torch.float32)


def made_of(module: Any) -> Weights:
    """Tell of what kinds of weights a module is made."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return of_shapes(module.config.model_type, shapes)


def traced(
    exporter: Any,
    config: Any,
    module: Any,
    inputs: Sequence[Mapping[str, torch.Tensor]],
    name: str,
    longest: int | None = None,
    **fields: Any,
) -> Any:
    """Trace the module with one of transformers' exporters.

    Args:
        exporter: Its class.
        config: The class of its settings.
        module: What `plain` gave.
        inputs: Collated batches; the largest is traced.
        name: The export's, for the error.
        longest: Most tokens of an example, for a format that takes one at a time; batch and length are free otherwise.
        fields: Of its settings.

    Raises:
        StepError: the graph can't be traced.
    """
    import torch

    largest = max(inputs, key=lambda batch: next(iter(batch.values())).numel())
    examples = tokens = torch.export.Dim.DYNAMIC
    if longest is None:
        # A dimension of size one would be taken for a constant.
        sample = {key: torch.cat([value, value]) if len(value) == 1 else value for key, value in largest.items()}
    else:
        sample = {key: value[:1] for key, value in largest.items()}
        examples, tokens = None, torch.export.Dim("tokens", min=2, max=longest)
    shapes = {key: {0: examples, 1: tokens} if value.dim() == 2 else {0: examples} for key, value in sample.items()}
    try:
        return exporter().export(module, sample, config(dynamic_shapes=shapes, **fields))
    except Exception as error:  # torch.export and the formats' own converters raise many kinds
        raise StepError(f"{name}: the model can't be traced: {' '.join(str(error).split())[:400]}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' prints, logs and warnings off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
