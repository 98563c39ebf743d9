"""A saved artifact on fresh data, held against its report: has it lost more than it may?

Both figures come from examples of their own, so a bound on their difference is made of both bounds. Where fresh
examples were in the run's evaluation split too, the figures are alike for it, and that bound is wider than it need be.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressit import data, metrics, model, provenance, rules, tasks
from compressit.data import DatasetSpec, source
from compressit.data.spec import SPLIT
from compressit.errors import DataError, ExitCode, RecipeError
from compressit.measure import Setting, measure
from compressit.metrics import Evidence, Kind, MetricConfig, Output, Predictions, Tags
from compressit.progress import Progress, quiet
from compressit.recipe import Target, located
from compressit.recipe.quantities import show
from compressit.registry import suggest
from compressit.report import Artifact, Outcome, Part, Verdict, bounds, exit_code, finite, kept, statistics, verdicts
from compressit.report.statistics import Interval
from compressit.serving import overlap
from compressit.serving.finished import Finished

if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA_VERSION = 1
FEWEST = 10
"""Fresh examples below which a bound fails more often than its 5%: with three, of a true loss of just what is allowed,
up to 20% are called a sure one."""
MAX_DROP, MAX_RATIO = 0.02, 1.05
"""What may be lost where nobody says: of a score, and of a figure without end such as perplexity, as a factor."""


class Figure(Part):
    """One metric on the fresh data and in the report, with one-sided 95% bounds."""

    metric: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    reported: float | None
    reported_low: float | None
    reported_high: float | None


class Labels(Part):
    """How often the artifact predicts each label, then and now.

    Attributes:
        confidence: Mean probability of the label chosen.
        p_value: Of the chi-square test that both come from one distribution; None where predictions of one example hang
            together.
    """

    then: dict[str, int]
    now: dict[str, int]
    confidence_then: float
    confidence_now: float
    p_value: float | None


class Drift(Part):
    """Everything found out about an artifact on fresh data.

    Attributes:
        examples: How many fresh ones there are.
        shared: How many of them were in the run's evaluation split; None where that can't be told.
        seen: How many of the rows are in its train and its calibration split, by split; one that can't be read is left
            out.
        labelled: Whether quality could be checked.
        verdicts: First the figures against the report, then the recipe's own least and greatest values.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    artifact: str
    data: str
    examples: int
    shared: int | None
    seen: dict[str, int]
    labelled: bool
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]
    labels: Labels | None
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """A sure loss weighs more than what can't be told; of what nothing was checked nothing can."""
        if not self.verdicts:
            return ExitCode.INCONCLUSIVE
        return exit_code(verdict.outcome for verdict in self.verdicts)


@dataclass(frozen=True)
class Wanted:
    """What to check.

    Attributes:
        data: File or folder of the fresh data, or a hub id.
        columns: The data's column by role, where it is not that of the recipe.
        labels: The model's label for each label of the data, likewise.
        max_drop: What a score may lie below the reported one, as a share of the greatest it can be.
        max_ratio: By what factor any other figure may be worse.
    """

    data: str
    artifact: str | None = None
    split: str = "train"
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    max_drop: float = MAX_DROP
    max_ratio: float = MAX_RATIO
    device: str = "auto"
    trust_remote_code: bool = False


def check(run: Finished, wanted: Wanted, progress: Progress) -> Drift:
    """Run an artifact over fresh data and hold what it does against the run's report.

    Raises:
        RecipeError: the run was made without data, or there is no such artifact.
        DataError: the fresh data don't fit the model; the message names the place.
    """
    artifact = run.artifact(wanted.artifact)
    subject = run.subject(artifact, provenance.device(wanted.device))
    before = kept.said(run.folder, run.report.task, artifact.name)
    names = model.labels(Path(subject.folder), trust_remote_code=wanted.trust_remote_code)
    with quiet(), tempfile.TemporaryDirectory(prefix="compressit-") as scratch:
        spec = _spec(run, wanted)
        rows, unjudged = _rows(run, spec, names, wanted.columns)
        labelled = not unjudged
        rows.save_to_disk(str(Path(scratch) / "rows"))
        seed, task = run.report.provenance.seed, run.report.task
        trust, fields = wanted.trust_remote_code, spec.task_fields()
        setting = Setting(task, str(Path(scratch) / "rows"), seed, spec.max_length, trust, fields)
        progress.say(f"run {artifact.name} over {len(rows):,} fresh rows, on {subject.runtime}")
        outcome = measure(subject, setting)
        shared = overlap.judged_on(rows, outcome.predictions, before, labelled, names)
        seen, unseen = overlap.learned_from(run, rows, names)
    after = Evidence(outcome.facts, outcome.predictions, outcome.predictions, {}, outcome.memory)
    notes = [unjudged] if unjudged else []
    notes += _otherwise(run.report.provenance.data, outcome.protocol) if labelled else []
    if shared:
        notes.append(f"{shared:,} of the {len(after.predictions):,} examples were in the run's evaluation split too")
    notes += [
        f"warning: {count:,} of the {len(rows):,} rows are in the run's {use} split: figures on them flatter"
        for use, count in seen.items()
        if count
    ]
    notes += unseen
    figures, judged = _judged(run, artifact, after, rows.column_names, wanted, notes) if labelled else ([], [])
    if labelled and not judged:
        notes.append("nothing that was measured says how good the answers are: quality was not checked")
    return Drift(
        run=run.name,
        artifact=artifact.name,
        data=f"{wanted.data} {wanted.split}",
        examples=len(after.predictions),
        shared=shared,
        seen=seen,
        labelled=labelled,
        figures=tuple(figures),
        verdicts=tuple(judged),
        labels=_labels(before, after.predictions, [names[index] for index in sorted(names)]),
        notes=tuple(notes),
    )


def _otherwise(then: Mapping[str, str | int], now: Mapping[str, str | int]) -> list[str]:
    """Say where the task scores the fresh examples otherwise than those of the report, whose figures then mean less."""
    return [
        f"scored otherwise than in the report: {name} is {said!r} for these rows, and was {then[name]!r}"
        for name, said in now.items()
        if isinstance(said, str) and name in then and then[name] != said
    ]


def _spec(run: Finished, wanted: Wanted) -> DatasetSpec:
    """Say how the fresh data is read: as the run's own, where nothing else is said."""
    own = run.recipe.dataset
    if own is None:
        raise RecipeError(f"{run.folder} was made without data: there is nothing to hold fresh data against")
    roles = list(tasks.load(run.report.task).ROLES)
    for role in wanted.columns:
        if role not in roles:
            raise RecipeError(f"--columns {role}=...: not a role of {run.report.task}{suggest(role, roles)}")
    if not SPLIT.fullmatch(wanted.split):
        raise RecipeError(f"--split {wanted.split!r}: write it like train, train[:512] or test.jsonl")
    path = located(wanted.data, Path.cwd())
    changed = {"path": path, "name": None, "revision": None, "train": None, "calibration": None}
    labels = wanted.labels or own.labels
    spec = own.model_copy(update={**changed, "evaluation": wanted.split, "labels": labels})
    there = source.read(spec, wanted.split, Path()).column_names
    kept = {role: column for role, column in own.columns.items() if column in there or role not in there}
    return spec.model_copy(update={"columns": {**kept, **wanted.columns}})


def _rows(run: Finished, spec: DatasetSpec, names: Mapping[int, str], wanted: Mapping[str, str]) -> tuple[Dataset, str]:
    """Read the fresh rows, and say why quality can't be checked, if so; an error where some rows lack what is right."""
    task = run.report.task
    truth, kind = tasks.truth(task), tasks.load(task).OUTPUT
    found = source.read(spec, spec.evaluation, Path())
    column = spec.columns.get(truth, truth) if truth else None
    known = column is None or (column in found.column_names and any(value is not None for value in found[column]))
    # A column that was asked for has to be there.
    labelled = known or kind not in (Predictions, Tags) or (truth in wanted and column not in found.column_names)
    there = ", ".join(found.column_names)
    why = (
        f"the data holds no {truth}: quality was not checked, and whether it holds can't be told; "
        f"name the column that has it: --columns {truth}=COLUMN; there are {there}"
    )
    try:
        return data.rows(spec, spec.evaluation, task, names, Path(), labelled=labelled), "" if labelled else why
    except DataError as error:
        # There is no recipe to write it in.
        error.hint = re.sub(
            r" in the recipe(?:'s dataset)?: (columns|labels): \{(.*?)\}", _as_option, error.hint or "", flags=re.DOTALL
        )
        raise


def _as_option(written: re.Match[str]) -> str:
    return f": --{written[1]} '{written[2].replace(': ', '=').replace(', ', ',')}'"


def _judged(
    run: Finished, artifact: Artifact, after: Evidence, roles: list[str], wanted: Wanted, notes: list[str]
) -> tuple[list[Figure], list[Verdict]]:
    """Measure every metric of quality, and judge it against the report and the recipe."""
    seed, figures, judged, absolute = run.report.provenance.seed, [], [], []
    readings = {reading.metric: reading for reading in artifact.readings}
    last = run.report.artifacts[-1].name
    for config in rules.measured(run.recipe):
        module: Any = metrics.load(config.metric)
        if module.KIND not in (Kind.MEAN, Kind.CORPUS) or getattr(module, "TO_ORIGINAL", False):
            continue
        if missing := metrics.lacking(config.metric, roles):
            notes.append(f"{config.key} is about rows that have {' and '.join(missing)}, which the data has not")
            continue
        value, interval = bounds.value(config, after, seed)
        reading = readings.get(config.key)
        reported = math.nan if reading is None or reading.value is None else reading.value
        low, high = (None, None) if reading is None else (reading.low, reading.high)
        then = statistics.between(low, high)
        figures.append(
            Figure(
                metric=config.key,
                unit=module.UNIT,
                value=finite(value),
                low=finite(interval.low),
                high=finite(interval.high),
                reported=finite(reported),
                reported_low=low,
                reported_high=high,
            )
        )
        if math.isnan(reported):
            notes.append(f"the report has no figure of {config.key}")
        else:
            count = len(after.predictions)
            judged.append(_against(config, artifact.name, (value, interval), (reported, then), count, wanted))
        for target in run.recipe.targets:
            own = target.metric == config.key and (target.artifact or last) == artifact.name
            if own and target.bound[0] in ("min", "max"):
                absolute.append(verdicts.judge(target, config, artifact.name, after, after, seed))
    return figures, [*judged, *absolute]


def _against(
    config: MetricConfig,
    name: str,
    now: tuple[float, Interval],
    then: tuple[float, Interval],
    count: int,
    wanted: Wanted,
) -> Verdict:
    """Judge a figure against the reported one: a score by their difference, any other by their ratio."""
    module: Any = metrics.load(config.metric)
    shown = f"{show(now[0], module.UNIT)} here, {show(then[0], module.UNIT)} reported"
    if module.BETTER == "higher" and all(map(math.isfinite, getattr(module, "RANGE", (math.inf,)))):
        # Some scores, such as BLEU, go to 100.
        allowed = wanted.max_drop * max(1.0, module.RANGE[1])
        target = Target.model_validate({"metric": config.key, "max_drop": allowed})
        bound = statistics.unpaired_difference(*now, *then)
        found = verdicts.verdict(target, config, name, now[0] - then[0], bound)
        needed = statistics.examples_needed_unpaired(*now, count, *then, allowed)
        why = f"{shown}; {verdicts.dropped(bound, found.outcome)}, {allowed:.4f} is allowed"
    else:
        higher = module.BETTER == "higher"
        limit = {"min_ratio": 1 / wanted.max_ratio} if higher else {"max_ratio": wanted.max_ratio}
        bound = statistics.unpaired_ratio(*now, *then)
        ratio = now[0] / then[0] if then[0] else math.nan
        needed = _needed_for_ratio(now, then, count, math.log(wanted.max_ratio), higher=higher)
        found = verdicts.verdict(Target.model_validate({"metric": config.key, **limit}), config, name, ratio, bound)
        why = f"{shown}: {found.why}"
    if count < FEWEST:
        few = f"{why}; of fewer than {FEWEST} examples no bound holds"
        return found.model_copy(update={"outcome": Outcome.INCONCLUSIVE, "why": few, "needed": FEWEST})
    if found.outcome is not Outcome.INCONCLUSIVE:
        return found.model_copy(update={"why": why})
    if needed is None and math.isfinite(bound.low) and math.isfinite(bound.high):
        why += "; the report's own error is too large for fresh examples alone to decide"
    return found.model_copy(update={"why": why, "needed": needed})


def _needed_for_ratio(
    now: tuple[float, Interval], then: tuple[float, Interval], count: int, margin: float, *, higher: bool
) -> int | None:
    """Count the examples that would settle a ratio, on logarithms; turned round where lower is better."""
    parts = [now[0], now[1].low, now[1].high, then[0], then[1].low, then[1].high]
    if not all(0 < part < math.inf for part in parts):
        return None
    sign = 1 if higher else -1
    own, own_low, own_high, other, other_low, other_high = (sign * math.log(part) for part in parts)
    own_bounds, other_bounds = (
        Interval(min(ends), max(ends)) for ends in ((own_low, own_high), (other_low, other_high))
    )
    return statistics.examples_needed_unpaired(own, own_bounds, count, other, other_bounds, margin)


def _labels(before: Output, after: Output, names: list[str]) -> Labels | None:
    """Count the labels predicted then and now; only where the outputs are classes."""
    if not isinstance(before, Predictions | Tags) or not isinstance(after, Predictions | Tags) or not len(before):
        return None
    from scipy.special import softmax
    from scipy.stats import chi2_contingency

    counts = np.array([np.bincount(said.choices, minlength=len(names)) for said in (before, after)])
    confidence = [float(softmax(said.logits.astype(np.float64), axis=-1).max(-1).mean()) for said in (before, after)]
    some = counts[:, counts.any(0)]
    alone = isinstance(before, Predictions)
    p_value = float(chi2_contingency(some).pvalue) if alone and some.shape[1] > 1 else None
    then, now = (dict(zip(names, each.tolist(), strict=True)) for each in counts)
    return Labels(then=then, now=now, confidence_then=confidence[0], confidence_now=confidence[1], p_value=p_value)
