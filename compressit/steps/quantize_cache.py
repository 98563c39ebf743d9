"""Find scales by which a runtime keeps keys and values as floats of 8 bits, in half the memory of 16.

What a language model keeps of the tokens it has read takes more memory than its weights where texts are long. Each
attention gets two scales, such that the largest key and the largest value of the calibration data become the largest
float (E4M3, Micikevicius et al. 2022, arXiv:2209.05433); compressed-tensors calls that `kv_cache_scheme`, and vLLM goes
by it (`--kv-cache-dtype fp8`). Weights stay as they are: quantize them before.

Plain transformers opens the checkpoint, but does not always round: version 5.23 does by compressed-tensors 0.20, unless
weights are quantized and all alike; in 5.24 that finds no attention, as what it looks for has another name there. A
run's figures are those of the version that it runs on; the report says so where the rounding isn't in them. The step
itself rounds keys and values, on some of the calibration data, and notes how far the model's answers move
(`kl_divergence`, in nats a token).

Recipe::

    - step: quantize_cache
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import intake
from compressit.algorithms.floats import MOST_8
from compressit.data.walking import samples
from compressit.errors import StepError
from compressit.model import Model, caches
from compressit.steps import CAVEAT, Fact, Need, Notes, StepConfig, StepContext

if TYPE_CHECKING:
    import torch

__all__ = ["Config", "claim", "run"]

UNROUNDED = (
    "the figures are without the rounding of keys and values, as the installed transformers and compressed-tensors "
    "don't apply the scales to this checkpoint; what it costs is the step's kl_divergence"
)
"""What a report says beside its figures where the reader leaves the rounding out."""


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.CACHE})
    keeps: ClassVar[frozenset[Fact]] = frozenset(Fact) - {Fact.RANGES}
    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "multiple-choice"})

    judged: int = Field(8, ge=1)
    """Batches of calibration data on which the answers with and without rounding are compared."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data."""
        return frozenset({Need.CALIBRATION})


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Find the scales, and what they cost; no weight is changed."""
    import torch

    config.refuse_others(model.task)
    assert context.calibration is not None, "the plan refuses to look for scales without calibration data"
    batches = samples(context.calibration, model, context.max_length, **context.fields)
    most: dict[str, tuple[float, float]] = {}

    def see(name: str, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        largest = (float(keys.abs().max()), float(values.abs().max()))
        most[name] = (max(largest[0], most.get(name, (0, 0))[0]), max(largest[1], most.get(name, (0, 0))[1]))
        return keys, values

    moved = count = 0.0
    with torch.inference_mode(), context.progress.bar(config.step, len(batches)) as advance:
        for batch in batches:
            _answers(model, batch, see, context.device)
            advance(1)
        found = {name: caches.Scales(*(_scale(name, each) for each in both)) for name, both in most.items()}
        if {*caches.attentions(model.module).values()} - found.keys():
            raise StepError(f"not every attention of a {model.module.config.model_type} keeps keys and values")
        for batch in batches[: config.judged]:
            before = _answers(model, batch, see, context.device)
            after = _answers(model, batch, caches.rounded(found), context.device)
            moved += float((before.exp() * (before - after)).sum())
            count += before.shape[0] * before.shape[1]
    model.caches = found
    notes: dict[str, float | int | str | bool] = {"layers": len(found), "kl_divergence": float(f"{moved / count:.3g}")}
    if not caches.applied(model.module, [each.scheme for each in model.quantized.values()]):
        context.progress.say(f"warning: {UNROUNDED}")
        notes[CAVEAT] = UNROUNDED
    return notes


def _answers(model: Model, batch: dict[str, Any], change: caches.Change, device: str) -> torch.Tensor:
    inputs = {name: value.to(device) for name, value in batch.items()}
    logits: torch.Tensor = model.module(**inputs, **caches.changing(model.module, change)).logits
    return logits.double().log_softmax(-1)


def _scale(name: str, largest: float) -> float:
    if not math.isfinite(largest):
        raise StepError(f"the keys or values of {name} are not finite")
    return largest / MOST_8 if largest > 0 else 1.0


def claim(folder: Path, config: Config) -> str | None:
    """Find the scales in the saved files."""
    said = intake.described(folder).get("quantization_config", {}).get("kv_cache_scheme")
    if said is None or (said["num_bits"], said["type"], said["dynamic"]) != (8, "float", False):
        return "config.json names no scheme of keys and values"
    found = caches.read(folder)
    depth = intake.described(folder).get("num_hidden_layers")
    return None if len(found) == depth else f"{len(found)} of {depth} attentions have scales"
