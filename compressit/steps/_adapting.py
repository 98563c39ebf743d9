"""Train thin matrices beside the linear layers in place of the layers (LoRA, Hu et al. 2021, arXiv:2106.09685).

A layer computes W + (alpha / rank) * B A, of which A and B alone are trained, by `peft`; in the end that sum is the
layer's weight, and the model is as it was made. Where a weight is zero the sum is held at zero, too, from the first
pass on: what is saved is what was trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compressit import machine
from compressit.errors import RecipeError, StepError
from compressit.model import Model, cast
from compressit.model.matrices import Matrix
from compressit.spec import Spec
from compressit.steps import StepConfig, StepContext, _sharding

if TYPE_CHECKING:
    import torch

LIBRARY = {"peft": "lora"}
NAME = "default"
"""What peft calls the one adapter of a layer."""


class Lora(Spec):
    """How thin the matrices are, and which layers have them."""

    rank: int = Field(16, ge=1)
    """Inner width of the two matrices."""
    alpha: int | None = Field(None, ge=1)
    """Over the rank, what their product is multiplied by (default: twice the rank)."""
    layers: tuple[str, ...] = ()
    """Glob patterns of layers that are trained so (default: every linear layer inside the blocks)."""


class AdaptingConfig(StepConfig):
    """Fields of every step that may train so."""

    lora: Lora | None = None
    """Train two thin matrices beside each linear layer, and what classifies, and nothing else: an optimizer holds far
    less then, and rates are some ten times higher. `rank` (16) is their inner width; `alpha` (twice that), over it,
    what their product is multiplied by; `layers` are glob patterns (default: every linear layer in the blocks)."""

    def packages(self) -> Mapping[str, str]:
        """Name the library that thin matrices are trained with."""
        return {**super().packages(), **(LIBRARY if self.lora else {})}


@contextlib.contextmanager
def adapted(model: Model, config: AdaptingConfig, context: StepContext) -> Iterator[None]:
    """Have a model train as `lora` says, and be as it was made afterwards, with other weights.

    Raises:
        MissingExtra: peft is not installed.
        RecipeError: a layer can't be trained so, or patterns match none.
        StepError: weights are spread over processes.
    """
    if config.lora is None:
        yield
        return
    import torch

    machine.need(LIBRARY)
    if context.processes > 1 and _sharding.asked():
        raise StepError(f"{config.step}: lora does not go with FSDP", hint=_sharding.HINT)
    chosen, dtype = _chosen(model, config.lora), model.module.dtype
    # Sums are made in the type that they were trained in.
    cast(model.module, torch.float32)
    trained = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    heads = _heads(model.module)
    _inject(model.module, chosen, config.lora)
    for parameter in heads:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for name in chosen:
            _merge(model.module, name)
        del model.module.peft_config
        for name, parameter in model.module.named_parameters():
            parameter.requires_grad_(trained.get(name, True))
        cast(model.module, dtype)


def is_added(name: str) -> bool:
    """Tell a matrix that was added by its module's name."""
    return name.endswith((f".lora_A.{NAME}", f".lora_B.{NAME}"))


def _chosen(model: Model, lora: Lora) -> Mapping[str, Matrix]:
    chosen = model.matrices(lora.layers)
    stacked = [name for name, matrix in chosen.items() if matrix.expert is not None]
    if stacked:
        raise RecipeError(
            f"lora: {stacked[0]} lies in one tensor with other experts, which peft trains no thin matrices beside",
            hint='name layers that are on their own: layers: ["*self_attn*"]',
        )
    table = getattr(model.module.get_input_embeddings(), "weight", None)
    state = dict(model.module.named_parameters(remove_duplicate=False))
    for name, matrix in chosen.items():
        if state[matrix.parameter] is table:
            raise RecipeError(f"lora: {name} is the embeddings' own matrix, too", hint="leave it out of layers")
    return chosen


def _heads(module: Any) -> list[torch.Tensor]:
    """Give the parameters of what a task has put on a model; those of what writes tokens come with the model."""
    if module.get_output_embeddings() is not None:
        return []
    inner = f"{module.base_model_prefix}."
    return [parameter for name, parameter in module.named_parameters() if not name.startswith(inner)]


def _inject(module: Any, chosen: Mapping[str, Matrix], lora: Lora) -> None:
    import peft

    how = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,
        target_modules=list(chosen),
        fan_in_fan_out=any(matrix.transposed for matrix in chosen.values()),
    )
    peft.inject_adapter_in_model(how, module, NAME)
    for name in chosen:
        layer = module.get_submodule(name)
        zero = layer.base_layer.weight.detach() == 0
        if bool(zero.any()):
            layer.register_buffer("zero", zero, persistent=False)
            layer.forward = partial(_as_merged, layer)


def _delta(layer: Any) -> torch.Tensor:
    """Give what is added to a layer's weight."""
    found: torch.Tensor = layer.get_delta_weight(NAME)
    return found.masked_fill(layer.zero, 0) if hasattr(layer, "zero") else found


def _as_merged(layer: Any, x: torch.Tensor) -> torch.Tensor:
    from torch.func import functional_call

    found: torch.Tensor = functional_call(layer.base_layer, {"weight": layer.base_layer.weight + _delta(layer)}, (x,))
    return found


def _merge(module: Any, name: str) -> None:
    above, _, leaf = name.rpartition(".")
    layer = module.get_submodule(name)
    layer.base_layer.weight.data += _delta(layer).detach()
    setattr(module.get_submodule(above), leaf, layer.base_layer)
