"""Everything measured about the original and each artifact, ready to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from compressit.measure import Beside, Outcome, Setting, Subject, measure, measuring
from compressit.metrics import Evidence, MetricConfig, load

ORIGINAL_RUNTIME = "torch"


@dataclass(frozen=True)
class Pair:
    """An artifact, and the original as that artifact's runtime sees it."""

    artifact: Evidence
    original: Evidence


@dataclass(frozen=True)
class Originals:
    """The original on torch and, as an uncompressed export, on each other runtime of the recipe."""

    subjects: dict[str, Subject]
    outcomes: dict[str, Outcome]

    @property
    def own(self) -> Evidence:
        """The original checkpoint, as torch runs it; nothing is timed."""
        found = self.outcomes[ORIGINAL_RUNTIME]
        return Evidence(found.facts, found.predictions, found.predictions, {}, found.memory)


def originals(subjects: dict[str, Subject], setting: Setting) -> Originals:
    """Run the original on every runtime, side by side: nothing is timed here."""
    with ExitStack() as stack:
        begun = {runtime: stack.enter_context(measuring(subject, setting)) for runtime, subject in subjects.items()}
        outcomes = {runtime: outcome() for runtime, outcome in begun.items()}
    own = outcomes[ORIGINAL_RUNTIME]
    outcomes[ORIGINAL_RUNTIME] = replace(own, predictions=own.predictions.compared_with_itself())
    return Originals(subjects, outcomes)


def pair(subject: Subject, found: Originals, setting: Setting, metrics: Sequence[MetricConfig]) -> Pair:
    """Run an artifact and time it next to the original.

    Quality and size are compared with the original checkpoint; time and memory with the original on the same runtime.
    """
    sizes = sorted({size for config in metrics for size in config.batch_sizes()})
    beside = Beside(found.subjects[subject.runtime], found.subjects[ORIGINAL_RUNTIME], sizes)
    compares = any(getattr(load(config.metric), "TO_ORIGINAL", False) for config in metrics)
    original = found.subjects[ORIGINAL_RUNTIME] if compares else None
    outcome = measure(subject, setting, beside if sizes else None, original=original)
    checkpoint, same = found.outcomes[ORIGINAL_RUNTIME], found.outcomes[subject.runtime]
    before = checkpoint.predictions
    return Pair(
        Evidence(outcome.facts, outcome.predictions, before, outcome.timings, outcome.memory),
        Evidence(
            checkpoint.facts,
            before,
            before,
            {size: replace(timing, artifact=timing.baseline) for size, timing in outcome.timings.items()},
            same.memory,
        ),
    )
