"""The weight matrices of a module, whatever holds them: linear layers, GPT-2's transposed ones, stacks of experts.

Convolutions are matrices too, for who asks for them by `convolutions`: what they multiply is patches of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit import anatomy
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Matrix:
    """One weight matrix: outputs by inputs, a view into the parameter that holds it.

    Attributes:
        name: Full name, as a checkpoint spells it but for what `anatomy` spells otherwise; without ".weight".
        parameter: Full name of the parameter.
        transposed: The parameter is inputs by outputs.
        expert: Its place in a parameter that stacks experts.
        rows: Which rows are its own, where another matrix lies below it.
    """

    name: str
    parameter: str
    transposed: bool = False
    expert: int | None = None
    rows: tuple[int, int] | None = None

    def of(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """View it in the tensor that holds it: (O, I)."""
        tensor = tensors[self.parameter]
        if self.expert is not None:
            tensor = tensor[self.expert]
        if self.rows is not None:
            tensor = tensor[slice(*self.rows)]
        if tensor.dim() == 4:
            tensor = tensor.view(len(tensor), -1)
        return tensor.T if self.transposed else tensor

    @property
    def product(self) -> tuple[str, int | None]:
        """Name the product that computes it: matrices that lie in one tensor are multiplied at once."""
        return self.parameter, self.expert


def matrices(module: Any, prefix: str = "") -> Iterator[Matrix]:
    """List the matrices of a transformers model below a name, in the module's order."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    model_type = module.config.model_type
    experts = anatomy.known(model_type).experts
    for name, part in module.named_modules():
        if not f"{name}.".startswith(prefix) or anatomy.is_left(model_type, name):
            continue
        if isinstance(part, nn.Linear | Conv1D):
            yield Matrix(name, f"{name}.weight", transposed=isinstance(part, Conv1D))
        elif experts is not None and name.endswith(f".{experts.module}"):
            yield from _of_experts(name, part, experts)


def convolutions(module: Any) -> Iterator[Matrix]:
    """List the convolutions of a module in its order: outputs by inputs x height x width, unless in groups."""
    from torch import nn

    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and part.groups == 1:
            yield Matrix(name, f"{name}.weight")


def _of_experts(name: str, part: Any, spelled: anatomy.Experts) -> Iterator[Matrix]:
    held = {leaf for leaf, _ in part.named_parameters()}
    if held != {"gate_up_proj", "down_proj"}:
        raise StepError(f"the experts in {name} are laid out in a way that is not known: {', '.join(sorted(held))}")
    count, doubled, _ = part.gate_up_proj.shape
    half = doubled // 2
    for expert in range(count):
        for leaf, rows in zip(spelled.gate_up, ((0, half), (half, doubled)), strict=True):
            yield Matrix(f"{name}.{expert}.{leaf}", f"{name}.gate_up_proj", expert=expert, rows=rows)
        yield Matrix(f"{name}.{expert}.{spelled.down}", f"{name}.down_proj", expert=expert)
