"""Train on the labels of the training split, or for a language model on its text.

Zeros stay zero and shapes stay as they are, so it heals what a pruning step hurt. It is also the control for `distill`:
the same student, as many updates, no teacher. `lora: {rank: 16}` trains two thin matrices beside each linear layer in
its place, and adds their product to it in the end, where it is not zero.

Recipe::

    - step: finetune
      epochs: 2
      learning_rate: 5e-5
"""

from __future__ import annotations

from compressit.model import Model
from compressit.steps import Notes, StepContext
from compressit.steps._adapting import AdaptingConfig, adapted
from compressit.steps._answers import by_labels
from compressit.steps._training import TrainingConfig, train


class Config(TrainingConfig, AdaptingConfig):
    """Fields of the step."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place."""
    with adapted(model, config, context):
        return train(model, config, context, by_labels(model))
