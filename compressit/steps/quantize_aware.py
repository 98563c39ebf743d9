"""Distil while the model computes as int8 will, so that an int8 export answers as it did in training.

Where static int8 loses too much. What each linear layer takes in is rounded to eight bits of the range that calibration
rows have, its weights and the embeddings to eight bits of each output's or token's, and the model learns to live with
it: everything `distill` can do (Jacob et al. 2018, arXiv:1712.05877; Kim et al. 2021, arXiv:2101.01321). The checkpoint
keeps float weights; `export: openvino` with `weights: int8` rounds them by the very same scales.

Put it last: any other change of the weights would make the ranges wrong.

Recipe::

    - step: quantize_aware
      epochs: 1
      learning_rate: 2e-5
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from compressit import data
from compressit.model import Model, ranges
from compressit.steps import Fact, Need, Notes, StepContext, distill


class Config(distill.LearningConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.RANGES})
    tasks: ClassVar[frozenset[str]] = frozenset(
        {
            "audio-classification",
            "image-classification",
            "question-answering",
            "text-classification",
            "token-classification",
        }
    )

    epochs: float = Field(1, gt=0, le=10_000)
    """Passes over the training split."""
    learning_rate: float = Field(2e-5, gt=0, le=1)
    """Peak learning rate of AdamW."""
    samples: int = Field(128, ge=1)
    """Rows of the calibration split that ranges are found on, evenly spread over it."""

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data too."""
        return super().needs() | {Need.CALIBRATION}


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place, and leave the ranges with the model."""
    config.refuse_others(model.task)
    assert context.calibration is not None, "the plan refuses to look for ranges without calibration data"
    rows = data.singles(context.calibration, model, config.samples, context.max_length)
    inputs = ({name: value.to(context.device) for name, value in row.items() if name != "labels"} for row in rows)
    found = ranges.measured(model.module, inputs)
    with ranges.as_int8(model.module, found):
        notes = distill.learn(model, config, context)
    model.ranges = found
    return {**notes, "layers": len(found)}
