"""Put another model in the model's place, for `distill` to teach.

Any transformers model of the task's kind: its weights and its tokenizer, image processor or feature extractor come
along. A head for the same labels stays; otherwise one is made for the labels of the model it replaces, and has learned
nothing, so train it next: `distill` with the original as teacher reads each text with the teacher's own tokenizer.
Where in a text an answer stands, only a teacher of the same tokenizer can show.

Vectors of sentences are made as the student's folder says (`modules.json`), or where it doesn't say, as the original's
does, whose files are kept with it. Where they are as wide as the teacher's they turn to them, and vectors that are
stored stay of use; otherwise the student learns how texts lie to each other, and they must be made anew. A model that
fills in or writes tokens has its head already, and must have the original's tokens: figures and teachers compare them
one by one.

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

from compressit import tasks
from compressit.errors import StepError
from compressit.model import Model
from compressit.spec import Location
from compressit.steps import Fact, Notes, StepConfig, StepContext
from compressit.steps._answers import alike_tokens
from compressit.weights import Weights


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    tasks: ClassVar[frozenset[str]] = frozenset(
        {
            "audio-classification",
            "fill-mask",
            "image-classification",
            "question-answering",
            "sentence-similarity",
            "text-classification",
            "text-generation",
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
    if tasks.load(model.task).OUTPUT.PAIRED and not alike_tokens(model, found):
        raise StepError(
            f"{config.model} has another vocabulary than the model",
            hint=f"{model.task} is learned and judged token by token: name a model of the same tokenizer",
        )
    model.become(found)
    return {"student": config.model, "untrained": ", ".join(made) or "nothing"}


def foresee(table: Weights, config: Config) -> None:
    """Give nothing: the student's weights are not looked at before the run."""
