"""Train on what a teacher says of each example or next token and on how it gets there, and on the labels.

The loss is `logits` * (alpha * CE(student, label) + (1 - alpha) * T^2 * KL(teacher / T || student / T)), averaged over
examples, or over tokens for a language model (Hinton et al. 2015, arXiv:1503.02531), and, where they are given a
weight:

* `hidden`: the mean squared difference of hidden states, normalised, after blocks that `layers` pairs, and ahead of
  the first (Jiao et al. 2020, arXiv:1909.10351); where widths differ, through a matrix that is learned and left behind;
* `relations`: the KL of how queries, keys and values of the last block relate to each other (MiniLMv2, Wang et al.
  2021, arXiv:2012.15828); neither heads nor widths need match.

The teacher is the model as the recipe found it, or any other of the same labels or vocabulary; of several, the mean of
their probabilities counts, and the first shows how it gets there. Logits of a classifier are computed once for each
example, with the teacher's own tokenizer or processor; those of a language model batch by batch, since a
vocabulary has too many to keep, and so are those that come with hidden states or relations anyhow. Rows without a
label learn from the teacher alone.

Vectors of sentences have no probabilities: a student turns its own to the teacher's, 20 * (1 - cosine), or where widths
differ imitates how the texts of a batch lie to each other; scores count through their order (CoSENT).

`lora: {rank: 16}` trains two thin matrices beside each linear layer in its place, and adds their product to it in the
end, where it is not zero. `control: true` leaves out the teacher: the same student, as many updates, by the labels
alone.

Recipe::

    - step: distill
      epochs: 2
      temperature: 2.0
      alpha: 0.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from compressit import tasks
from compressit.errors import StepError
from compressit.model import Model
from compressit.spec import Location
from compressit.steps import Need, Notes, StepContext
from compressit.steps._adapting import AdaptingConfig, adapted
from compressit.steps._answers import by_labels, live, many, said, same_tokens, teach, worth
from compressit.steps._augmenting import augmented
from compressit.steps._insides import InsideConfig, insides
from compressit.steps._training import arithmetic, train

if TYPE_CHECKING:
    import torch


ANSWERS = "alpha below 1 and logits above 0"
"""What makes a teacher's answers count."""


class LearningConfig(InsideConfig):
    """Fields of every step that learns from a teacher."""

    refers_to: ClassVar[tuple[str, ...]] = ("teacher",)

    teacher: Location | tuple[Location, ...] | None = None
    """Hub id, folder or demo:NAME of the teacher, or several (default: the model as the recipe found it)."""
    temperature: float = Field(2.0, gt=0, le=1000)
    """T: how much the probabilities of both are softened."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of the true labels; the teacher's logits have the rest."""
    logits: float = Field(1.0, ge=0)
    """Weight of both together."""
    augment: int = Field(0, ge=0, le=100)
    """Changed copies of each text to learn from besides, by the teacher's answers alone: words masked, or few left."""
    control: bool = False
    """Learn from the labels alone, to compare with: whatever is about a teacher waits meanwhile."""

    def idle(self) -> Mapping[str, str]:
        """Name what is about answers of a teacher's that nobody asks for."""
        found = dict(super().idle())
        if not self.counts:
            found["temperature"] = f"what a teacher answers ({ANSWERS})"
            if not self.inner:
                found["teacher"] = f"something to learn from it ({ANSWERS}, or hidden or relations)"
            elif isinstance(self.teacher, tuple) and len(self.teacher) > 1:
                found["teacher"] = f"one name, where its answers don't count ({ANSWERS})"
        return found if self.logits else {**found, "alpha": "logits above 0"}

    def needs(self) -> frozenset[Need]:
        """Ask for a training split, and for a teacher where one says anything."""
        return frozenset({Need.TRAINING}) if self.by_labels() else frozenset({Need.TRAINING, Need.TEACHER})

    def models(self) -> tuple[str, ...]:
        """Name the teachers, where they say anything."""
        return () if self.by_labels() else super().models()

    def unfit(self, task: str) -> str | None:
        """Refuse what softens probabilities, where there are none, and changed texts where each word counts."""
        if "temperature" in self.model_fields_set and worth(task) is not worth("text-classification"):
            return f"temperature softens probabilities, which {task} has none of; leave it out"
        if self.augment and ("text" not in tasks.load(task).ROLES or many(task)):
            return f"augment changes texts that are judged as wholes, and {task} has none"
        return None

    @property
    def counts(self) -> bool:
        """Say whether what a teacher answers counts."""
        return self.logits > 0 and self.alpha < 1

    def by_labels(self) -> bool:
        """Say whether the teacher is silent."""
        return self.control or not (self.counts or self.inner)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.control and not self.inner and not self.logits:
            raise ValueError("logits, hidden and relations are all 0: there is nothing to learn")
        if self.augment and (self.control or self.by_labels()):
            raise ValueError("augment makes texts without labels, which only a teacher can be asked about")
        return self


class Config(LearningConfig, AdaptingConfig):
    """Fields of the step."""


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Train in place."""
    with adapted(model, config, context):
        return learn(model, config, context)


def learn(model: Model, config: LearningConfig, context: StepContext, watchers: Sequence[Any] = ()) -> Notes:
    """Train in place, from a teacher or by labels; watchers are told of each update."""
    if config.control:
        return {**train(model, config, context, by_labels(model), watchers=watchers), "control": True}
    if config.augment:
        context = _with_more(model, config, context)
    named = config.teacher if isinstance(config.teacher, tuple) else (config.teacher,)
    teachers = [] if config.by_labels() else [context.teacher(name) for name in named]
    counts, kind = config.counts, worth(model.task)
    # A vocabulary has too many logits to keep; its teachers answer batch by batch, and so does one that runs anyhow.
    running = teachers if counts and live(model.task) else teachers[:1] if config.inner else []
    for teacher in running:
        same_tokens(teacher, model)
    at_once = counts and len(running) == len(teachers)
    orders = [kind.order(each, model) if at_once and not live(model.task) else slice(None) for each in running]
    taught = None
    if counts and not at_once:
        with arithmetic(config, context.device):
            each_says = zip(*(teach(each, model, context) for each in teachers), strict=True)
        taught = [kind.together(of_row, config.temperature) for of_row in each_says]

    def objective(
        module: Any, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, taught: torch.Tensor | None
    ) -> torch.Tensor:
        import torch

        own = said(model, inputs, module)
        with torch.no_grad(), arithmetic(config, context.device):
            answers = [said(each, inputs) for each in running]
        if at_once:
            pairs = zip(answers, orders, strict=True)
            judged = [kind.scored(model.task, each, labels)[0][:, order] for each, order in pairs]
            taught = kind.together(judged, config.temperature)
        parts = inside(inputs)
        if config.logits and config.alpha:
            parts.append(config.logits * config.alpha * kind.loss(model.task, own, labels))
        if config.logits and taught is not None:
            picked, _ = kind.scored(model.task, own, labels)
            parts.append(config.logits * (1 - config.alpha) * kind.imitated(picked, taught, config.temperature))
        return sum(parts[1:], parts[0])

    shown = teachers[0].module if teachers else None
    with insides(model.task, model.module, shown, config) as inside:
        notes = train(model, config, context, objective, taught, watchers)
    who = ", ".join(name or "the original" for name in named) if teachers else "none: labels alone count"
    return {**notes, "teacher": who}


def _with_more(model: Model, config: LearningConfig, context: StepContext) -> StepContext:
    """Add changed copies of the texts to the training rows."""
    assert context.train is not None, "the plan refuses training without a training split"
    if "text" not in context.train.column_names or many(model.task):
        raise StepError(f"distill: augment changes texts that are judged as wholes, and {model.task} has none")
    mask = getattr(model.processor, "mask_token", None)
    return replace(context, train=augmented(context.train, config.augment, mask, context.seed))
