"""Put another model in the model's place, for `distill` to teach.

Any transformers model of the task's kind: its weights and its tokenizer, image processor or feature extractor come
along. A head for the same labels stays; otherwise one is made for the labels of the model it replaces, and has learned
nothing, so train it next: `distill` with the original as teacher reads each text with the teacher's own tokenizer.
Where in a text an answer stands, only a teacher of the same tokenizer can show.

A smaller student of the same family, started from the teacher's own blocks, is what `drop_layers`, `prune_ffn`,
`prune_heads` and `prune_width` make.

Recipe::

    - step: student
      model: google/bert_uncased_L-2_H-128_A-2
    - step: distill
      epochs: 5
      learning_rate: 1e-4
"""

from __future__ import annotations

from typing import ClassVar

from compressit.model import Model
from compressit.spec import Location
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.weights import Weights


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    tasks: ClassVar[frozenset[str]] = frozenset(
        {
            "audio-classification",
            "image-classification",
            "question-answering",
            "text-classification",
            "token-classification",
        }
    )
    refers_to: ClassVar[tuple[str, ...]] = ("model",)

    model: Location
    """Hub id, folder or demo:NAME of the student."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Replace the model, in place."""
    config.refuse_others(model.task)
    assert context.student is not None, "a run always knows where to look"
    found, made = context.student(config.model, model.module.config.id2label)
    model.module, model.processor = found.module, found.processor
    model.quantized.clear()
    return {"student": config.model, "untrained": ", ".join(made) or "nothing"}


def foresee(table: Weights, config: Config) -> None:
    """Give nothing: the student's weights are not looked at before the run."""
