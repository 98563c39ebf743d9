"""Everything measured about the original and each artifact, ready to be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressit import measure
from compressit.measure import Outcome, Setting, Subject
from compressit.metrics import Evidence, MetricConfig, Timings

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


def originals(subjects: dict[str, Subject], setting: Setting) -> Originals:
    """Run the original on every runtime."""
    return Originals(subjects, {runtime: measure.predict(subject, setting) for runtime, subject in subjects.items()})


def pair(subject: Subject, found: Originals, setting: Setting, metrics: Sequence[MetricConfig]) -> Pair:
    """Run an artifact and time it next to the original.

    Quality and size are compared with the original checkpoint; time and memory with the original on the same runtime.
    """
    outcome = measure.predict(subject, setting)
    checkpoint, same = found.outcomes[ORIGINAL_RUNTIME], found.outcomes[subject.runtime]
    sizes = sorted({size for config in metrics for size in config.batch_sizes()})
    timings: dict[int, Timings] = {}
    if sizes:
        side_by_side = {
            "artifact": subject,
            "baseline": found.subjects[subject.runtime],
            "original": found.subjects[ORIGINAL_RUNTIME],
        }
        timings = measure.time(side_by_side, setting, sizes)
    before = checkpoint.predictions
    return Pair(
        Evidence(outcome.facts, outcome.predictions, before, timings, outcome.memory),
        Evidence(
            checkpoint.facts,
            before,
            before,
            {size: replace(timing, artifact=timing.baseline) for size, timing in timings.items()},
            same.memory,
        ),
    )
