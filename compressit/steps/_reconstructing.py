"""Let a block whose matrices were rounded give again what the original's block gives, by what is no integer in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compressit import ranks
from compressit.data.walking import Block
from compressit.model.matrices import Matrix
from compressit.model.quantized import Quantized

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]


def reconstruct(
    block: Block,
    matrices: Sequence[Matrix],
    whole: Tensors,
    epochs: int,
    rate: float,
    processes: int = 1,
) -> tuple[float, float]:
    """Learn scales, norms and biases by Adam on the calibration samples; integers and zero points stay.

    A block that would come out worse stays as it is.

    Args:
        block: Of the walk, computing in float32.
        matrices: Those of its matrices that are quantized.
        whole: The original's tensors, by their names within the block, float32.
        epochs: Passes over the samples.
        rate: How far the first update may move a scale, as a share of it, and an element of a norm or a bias.
        processes: How many walk together; each has samples of its own, and all learn from all.

    Returns:
        Squared error of what the block gives, before and after, as a share of how much that varies.
    """
    import torch

    runs, below = block.runs, f"{block.part.name}."
    stored = {matrix.name: block.part.quantized[matrix.name] for matrix in matrices}
    numbers_OGS = {name: _numbers(found).to(runs.device) for name, found in stored.items()}
    scale_OG = {name: found.scale_OG.to(runs.device, torch.float32) for name, found in stored.items()}
    fixed = block.within()
    turn_OG = {name: torch.zeros_like(scale).requires_grad_() for name, scale in scale_OG.items()}
    vectors = [name for name, tensor in runs.block.named_parameters() if tensor.ndim == 1]
    free = {name: fixed[name].clone().requires_grad_() for name in vectors}

    def now() -> dict[str, torch.Tensor]:
        found = {**fixed, **free}
        for parameter in {matrix.parameter for matrix in matrices}:
            found[parameter.removeprefix(below)] = block.computing[parameter].clone()
        for matrix in matrices:
            scaled_OG = scale_OG[matrix.name] * (1 + turn_OG[matrix.name])
            weight_OI = (numbers_OGS[matrix.name] * scaled_OG[..., None]).flatten(1)
            matrix.of({matrix.parameter: found[matrix.parameter.removeprefix(below)]}).copy_(weight_OI)
        return found

    def off(batch: int, tensors: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            wanted = runs.given(batch, whole)
        return (runs.given(batch, tensors) - wanted).square(), (wanted - wanted.mean((0, 1))).square()

    before = _error(off, now(), len(runs.calls), processes)
    learned = [*turn_OG.values(), *free.values()]
    optimizer = torch.optim.Adam(learned, lr=rate)
    updates = ranks.agreed(epochs * len(runs.calls), processes)
    for update in range(updates):
        for settings in optimizer.param_groups:
            settings["lr"] = rate * (1 - update / updates)
        with torch.enable_grad():
            lost, power = off(update % len(runs.calls), now())
            (lost.mean() / power.mean()).backward()
        for each in learned:
            # What no token of one process has met, one of another may have.
            each.grad = ranks.added(torch.zeros_like(each) if each.grad is None else each.grad, processes)
        optimizer.step()
        optimizer.zero_grad()
    after = _error(off, now(), len(runs.calls), processes)
    if after < before:
        for matrix in matrices:
            found, turned = stored[matrix.name], scale_OG[matrix.name] * (1 + turn_OG[matrix.name])
            block.quantize(matrix, replace(found, scale_OG=turned.detach().to(found.scale_OG)))
        for name, tensor in free.items():
            block.set(f"{below}{name}", tensor.detach())
    return before, min(before, after)


def _error(
    off: Callable[[int, Tensors], tuple[torch.Tensor, torch.Tensor]], tensors: Tensors, batches: int, processes: int
) -> float:
    import torch

    sums = torch.zeros(2, dtype=torch.float64)
    for batch in range(batches):
        lost, power = off(batch, tensors)
        sums += torch.stack([lost.cpu().sum(dtype=torch.float64), power.cpu().sum(dtype=torch.float64)])
    # Processes on GPUs add up what lies there.
    sums = ranks.added(sums.to(lost.device) if processes > 1 else sums, processes)
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def _numbers(found: Quantized) -> torch.Tensor:
    """Give numbers less their zero points, in groups that share a scale: (O, G, S), float32."""
    groups_OGS = found.whole_OI.float().unflatten(1, (found.scale_OG.shape[1], -1))
    return groups_OGS if found.zero_OG is None else groups_OGS - found.zero_OG[..., None].float()
