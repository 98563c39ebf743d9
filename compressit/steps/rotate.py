"""Turn what flows through a language model so that no channel stands out, ahead of a quantization; it says the same.

QuaRot (Ashkboos et al. 2024, arXiv:2404.00456), the part of it that costs nothing when the model runs: what flows
between blocks is multiplied by a Hadamard matrix with random signs, and so is what each head's values are, by one of
their width. Both go into the weights before and behind, exactly; norms' weights go into the matrices that read them.
Where a few channels are much larger than the others, what is left is alike in all of them, which is what rounding
inputs to few bits, and weights to few bits without groups, wants. What would have to be turned while the model runs
(queries and keys, the inputs of the last matrix of a network) is left as it is. Of a Llama of 6M parameters perplexity
rises by 1.6% in place of 2.6% when weights are rounded to 4 bits by channel, and by 0.4% in place of 0.5% with
`quantize_gptq`; where inputs are rounded to 4 bits too, by 19% in place of 21%, and by 17% with `smooth` into neurons
between the two (`tests/benchmarks/bench_steps_lm.py`).

Norms must subtract no mean, and matrices alone may read them: Llama, Mistral, Qwen, Gemma 1, Phi-3, Mixtral and their
kin; not Gemma 2 and 3, whose blocks add up what norms give. Logits whose matrix is the embeddings' get one of their
own, as one has taken over the last norm's weights and the other has not: the checkpoint grows by that much.

Cut heads, neurons, channels and experts before, not afterwards. Zeros don't go with it at all: it fills those that were
made before, and leaves no weight to stand out, which is what pruning goes by. Whole blocks may go before or afterwards,
for what flows between them says the same.

Recipe::

    - step: rotate
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from compressit import anatomy, checkpoint, intake
from compressit.algorithms.hadamard import hadamard, rotation
from compressit.errors import RecipeError, StepError
from compressit.model import Model
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.weights import Weights

__all__ = ["Config", "claim", "foresee", "run"]


class Config(StepConfig):
    """Fields of the step."""

    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.DTYPE})
    turns: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "multiple-choice"})

    values: bool = True
    """Turn what each head's values are, too."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Turn the weights in place."""
    config.refuse_others(model.task)
    if model.quantized:
        raise StepError(f"{config.step} would undo the quantization of the model", hint="take it first")
    module = model.module
    found = anatomy.turnable(module)
    untied = anatomy.untie(module)
    # The matrix of the logits reads the channels by itself now.
    found = anatomy.turnable(module) if untied else found
    anatomy.free_norms(module, found)
    anatomy.rotate_channels(module, found, rotation(found.count, context.seed))
    turned = 0
    if config.values:
        for number, (name, _) in enumerate(model.blocks(), 1):
            width = anatomy.head_width(module, name)
            turned += anatomy.rotate_values(module, name, rotation(width, context.seed + number))
    return {
        "channels": found.count,
        "hadamard": hadamard(found.count) is not None,
        "attentions": turned,
        "untied": untied,
    }


def foresee(before: Weights, config: Config) -> Weights:
    """Give the logits a matrix of their own."""
    if why := anatomy.fixed(before.model_type):
        raise RecipeError(why, hint="leave this step out")
    matrices = [each for each in before.tensors if len(each.shape) == 2]
    outside = [each for each in matrices if anatomy.block_name(before.model_type, each.name) is None]
    if len(outside) != 1:
        return before
    return before.changed((*before.tensors, replace(outside[0], name="lm_head.weight")))


def claim(folder: Path, config: Config) -> str | None:
    """Find out whether the logits have a matrix of their own; a later step may fold into norms again."""
    model_type = str(intake.described(folder).get("model_type", "unknown"))
    if why := anatomy.fixed(model_type):
        return why
    matrices = [name for name, shape in checkpoint.shapes(folder).items() if len(shape) == 2]
    outside = [name for name in matrices if anatomy.block_name(model_type, name) is None]
    return None if len(outside) > 1 else "the matrix of the logits is still that of the embeddings"
