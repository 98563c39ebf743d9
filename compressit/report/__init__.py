"""What a run found out, as data: written as report.json, shown as tables, judged against the targets.

`schema_version` rises when a reader of the file would have to change.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from compressit import tasks
from compressit.errors import ExitCode, IntegrityError, UnsafeError

FILE = "report.json"
SCHEMA_VERSION = 1
PLAIN = re.compile(r"[a-z][a-z0-9_-]{0,40}")
"""Names of artifacts, and of their folders."""

Whole = TypeVar("Whole", bound="Part")


class Part(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    """What a bound says of a target."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Reading(Part):
    """One metric of one artifact, in base units (bytes, seconds, shares), with one-sided 95% bounds where it has error.

    Attributes:
        value: Of the artifact; None where it is not a number.
        baseline: Of the original, on the same runtime where the runtime matters.
        ratio: value / baseline, measured in pairs.
        details: More of the same, such as percentiles or flips.
    """

    metric: str
    unit: str
    better: str
    value: float | None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    details: dict[str, float] = {}


class Artifact(Part):
    """One thing that was saved, and what was measured of it as saved.

    Attributes:
        path: Its folder below the run's.
        device: Where it was measured.
        dtypes: Weights by the type they are stored in.
        runtime_ratio: The original's latency on this runtime over its latency on torch, by batch size: the runtime's
            own gain, which no compression earned.
        multiplications: Those left, of the ones that the matrices of the original's blocks make: 1 where no matrix was
            cut, None where the anatomy isn't known.
        gained: Of an export, what is surely better than in the checkpoint; None where that wasn't looked at.
        plain: Whether plain transformers opens it, where it is a checkpoint; otherwise `compressit.load` does.
    """

    name: str
    path: str
    runtime: str
    device: str
    bytes: int
    parameters: int
    nonzero: int
    dtypes: dict[str, int]
    notes: dict[str, Any] = {}
    readings: tuple[Reading, ...] = ()
    runtime_ratio: dict[int, float] = {}
    multiplications: float | None = None
    gained: tuple[str, ...] | None = None
    plain: bool = True


class Layer(Part):
    """The matrix of a linear layer, an embedding or a convolution, in the checkpoint and in the original.

    Attributes:
        name: Of its module.
        was: Its name in the original, where blocks were taken out and the others counted again.
        block: Name of the block it lies in; None outside the blocks, and where the anatomy isn't known.
        before: Its shape in the original; None where that has no such module.
        after: Its shape in the checkpoint; None where it was taken out.
        kind: How its elements are stored in the checkpoint.
        zeros: Share of its elements that are zero.
        moved: Frobenius norm of after - before over that of before; None where the shapes are not the same.
        sampled: Whether `moved` was found on some of its rows.
    """

    name: str
    was: str | None = None
    block: str | None = None
    before: tuple[int, ...] | None = None
    after: tuple[int, ...] | None = None
    kind: str = ""
    zeros: float | None = None
    moved: float | None = None
    sampled: bool = False


class Swap(Part):
    """One part of the checkpoint, put into the otherwise original model; or one block, left out of it.

    Attributes:
        name: Of the part, as the original has it: of a matrix, of the attention or feed-forward network of a block,
            of what else had to be put in whole, or of a block that was taken out.
        kind: What that is.
        block: Name of the original's block it lies in; None outside the blocks.
        moved: How far the model's answers moved from the original's; None where that isn't known.
        why: Why it isn't.
    """

    name: str
    kind: str = "matrix"
    block: str | None = None
    moved: float | None = None
    why: str = ""


class Sensitivity(Part):
    """What the compression of each part costs by itself, measured in the original with one swap at a time.

    Attributes:
        measure: How far answers are apart: `kl_divergence`, KL(original || swapped) in nats, or `cosine_distance`,
            1 - cosine; the mean over an example's answers, then over examples.
        split: Of the recipe's data.
        examples: How many there were.
        whole: How far the checkpoint's own answers are from the original's; None where it reads other tokens.
    """

    measure: str
    split: str
    examples: int
    whole: float | None
    swaps: tuple[Swap, ...]


class Trial(Part):
    """What a search has tried.

    Attributes:
        number: From 1.
        settings: What it filled in, by its place in the recipe.
        figures: Of what was made last, by metric: values, and of timings ratios to the original's.
        missed: Targets that weren't met on the tuning split.
        why: What it died of, if it did.
        front: Whether it meets every target and no other such trial beats it.
        chosen: Whether it is the one of this report.
    """

    number: int
    settings: dict[str, Any]
    figures: dict[str, float] = {}
    missed: tuple[str, ...] = ()
    why: str = ""
    front: bool = False
    chosen: bool = False


class Search(Part):
    """What the recipe of a run was found by; its trials were judged on another split than the run.

    Attributes:
        split: The tuning split.
        sampler: Who proposed the trials.
        objectives: Metrics that were to be best.
    """

    split: str
    sampler: str
    objectives: tuple[str, ...]
    trials: tuple[Trial, ...]


class StepRecord(Part):
    """One step as it ran.

    Attributes:
        after: What was measured after it; None where nothing was, and for the last one, whose result is the checkpoint.
        gained: What is surely better than before it; None where that wasn't measured.
    """

    step: str
    config: dict[str, Any]
    notes: dict[str, Any]
    seconds: float
    parameters: int
    claim: str | None = None
    after: Artifact | None = None
    gained: tuple[str, ...] | None = None


class Verdict(Part):
    """One target, judged.

    Attributes:
        bound: `min`, `max`, `min_ratio`, `max_ratio` or `max_drop`.
        limit: Its value, in base units.
        value: What was measured of the quantity that the bound is on.
        needed: Examples that would decide an inconclusive one.
    """

    metric: str
    artifact: str
    bound: str
    limit: float
    unit: str
    value: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    why: str
    needed: int | None = None


class Provenance(Part):
    """Where a result comes from.

    Attributes:
        metrics: Version of each metric by the name it goes by in the recipe; 1 where none is said.
    """

    created: str
    seconds: float
    recipe_sha256: str
    overrides: tuple[str, ...]
    seed: int
    device: str
    model: dict[str, str]
    data: dict[str, str | int]
    versions: dict[str, str]
    hardware: dict[str, str | int]
    metrics: dict[str, int] = {}


class Report(Part):
    """Everything a run found out; `sensitivity` is there once somebody has asked, `search` where there was one."""

    schema_version: int = SCHEMA_VERSION
    name: str
    task: str
    provenance: Provenance
    original: Artifact
    steps: tuple[StepRecord, ...]
    artifacts: tuple[Artifact, ...]
    verdicts: tuple[Verdict, ...]
    layers: tuple[Layer, ...] = ()
    sensitivity: Sensitivity | None = None
    search: Search | None = None

    @property
    def exit_code(self) -> ExitCode:
        """A missed target weighs more than an undecided one."""
        return exit_code(verdict.outcome for verdict in self.verdicts)


def exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    """Choose the exit code of several verdicts: a failed one weighs more than an undecided one."""
    found = set(outcomes)
    if Outcome.FAIL in found:
        return ExitCode.TARGET_MISSED
    return ExitCode.INCONCLUSIVE if Outcome.INCONCLUSIVE in found else ExitCode.OK


def finite(value: float) -> float | None:
    """Give None for what JSON can't hold."""
    return value if math.isfinite(value) else None


def write(report: Report, folder: Path) -> None:
    """Write report.json."""
    (folder / FILE).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Report:
    """Read report.json of a run folder.

    Raises:
        IntegrityError: there is none, this version can't read it, or it contradicts itself.
        UnsafeError: it leads out of the folder.
    """
    file = folder / FILE
    if not file.is_file():
        raise IntegrityError(f"{folder} holds no {FILE}: not a finished result of compressit")
    found = parsed(Report, file.read_bytes(), file, SCHEMA_VERSION)
    _check(found, file)
    return found


def parsed(kind: type[Whole], held: bytes, file: Path, version: int) -> Whole:
    """Make a part out of the JSON of a file.

    Raises:
        IntegrityError: it is no JSON, another version of compressit wrote it, or a field is not as expected; the
            message names the file and the first such field.
    """
    try:
        tree = json.loads(held, parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} can't be read: {error}") from error
    said = tree.get("schema_version") if isinstance(tree, dict) else version
    if said != version:
        hint = "install the compressit that wrote it, or make it again with this one"
        raise IntegrityError(f"{file} has version {said}; this compressit reads {version}", hint=hint)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_context=False)
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        rest = f", and {len(more):,} more like it" if more else ""
        raise IntegrityError(f"{file} is not as expected: {where}: {first['msg']}{rest}") from error


def _number(text: str) -> float:
    """Read a number as JSON has it: neither NaN nor infinite."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text} is no number that JSON holds")
    return found


def _check(report: Report, file: Path) -> None:
    """Refuse a report that what is made of it would stumble over, or that would have strangers' files opened."""
    if not report.artifacts:
        raise IntegrityError(f"{file} tells of no artifact")
    if report.task not in tasks.names():
        raise IntegrityError(
            f"{file} is about the task {report.task!r}, which this compressit doesn't know",
            hint="install the package that adds it, or the compressit that wrote the report",
        )
    order = [reading.metric for reading in report.original.readings]
    for artifact in report.artifacts:
        if not (PLAIN.fullmatch(artifact.name) and PLAIN.fullmatch(artifact.path)):
            what = f"artifact {artifact.name!r} in {artifact.path!r}"
            raise UnsafeError(f"{file}: {what} is no folder of this result; it won't be opened")
        if [reading.metric for reading in artifact.readings] != order:
            raise IntegrityError(f"{file}: {artifact.name} and the original were not measured by the same metrics")
