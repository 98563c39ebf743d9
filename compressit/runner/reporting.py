"""What was measured -> the report, its verdicts, and where all of it came from."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any

from compressit import metrics, provenance, recipe, report
from compressit import model as models
from compressit.measure import Subject
from compressit.measure.evidence import ORIGINAL_RUNTIME, Originals, Pair
from compressit.report import Report, StepRecord, files, layers, readings, verdicts, waterfall
from compressit.report.waterfall import Stage
from compressit.rules import CHECKPOINT
from compressit.runner import leaks
from compressit.runner.work import EVALUATION, Work


def write(
    work: Work,
    done: list[tuple[StepRecord, Stage | None]],
    originals: Originals,
    subjects: dict[str, Subject],
    notes: dict[str, Any],
    pairs: dict[str, Pair],
) -> Report:
    """Judge what was measured, and write the report's files."""
    seed = work.recipe.seed
    left = work.left(work.folder / CHECKPOINT)
    plain = models.opens_plainly(work.folder / CHECKPOINT)
    made = tuple(
        readings.artifact(
            name,
            subjects[name].runtime,
            subjects[name].device,
            pair.artifact,
            pair.original,
            work.plan.metrics,
            notes[name],
            seed,
            left,
        ).model_copy(
            update={"plain": plain} if name == CHECKPOINT else {"gained": _gained(work, subjects, pairs, name, left)}
        )
        for name, pair in pairs.items()
    )
    judged = []
    for target in work.recipe.targets:
        name = target.artifact or list(pairs)[-1]
        pair = pairs[name]
        config = work.configs[target.metric]
        judged.append(verdicts.judge(target, config, name, pair.artifact, pair.original, seed))
    first = pairs[CHECKPOINT].original
    end = Stage(pairs[CHECKPOINT].artifact, first, left)
    found = Report(
        name=work.recipe.name,
        task=work.recipe.task,
        provenance=_provenance(work, originals.outcomes[ORIGINAL_RUNTIME].protocol),
        original=readings.artifact(
            "original", ORIGINAL_RUNTIME, work.device, first, None, work.plan.metrics, seed=seed
        ),
        steps=readings.steps(
            done, Stage(first, None, 1.0 if left else None), end, work.plan.metrics, work.device, seed
        ),
        artifacts=made,
        verdicts=tuple(judged),
        layers=layers.compared(work.source, work.folder / CHECKPOINT, [record for record, _ in done]),
    )
    document = work.plan.written.document
    said = {"original": first, **{name: pair.artifact for name, pair in pairs.items()}}
    rows = work.rows.get(EVALUATION)
    files.write(work.folder, found, work.recipe, work.plan.written.base, document.overrides, said, rows)
    return found


def _gained(
    work: Work, subjects: dict[str, Subject], pairs: dict[str, Pair], name: str, left: float | None
) -> tuple[str, ...]:
    """Hold an export against the checkpoint that it was made of; its matrices multiply as much."""
    before, after = (Stage(pairs[each].artifact, pairs[each].original, left) for each in (CHECKPOINT, name))
    same = (subjects[name].runtime, subjects[name].device) == (
        subjects[CHECKPOINT].runtime,
        subjects[CHECKPOINT].device,
    )
    return waterfall.gained(after, before, work.plan.metrics, work.recipe.seed, same_runtime=same)


def _provenance(work: Work, protocol: Mapping[str, str | int]) -> report.Provenance:
    spec = work.recipe.dataset
    seen: dict[str, str | int] = {}
    if spec is not None:
        seen = {"source": spec.path, "split": spec.evaluation}
        seen |= {"examples": len(work.rows[EVALUATION]), "sha256": work.digests[EVALUATION]}
        seen |= {**protocol, **metrics.described(work.plan.metrics)}
        seen |= {f"also in {use}": count for use, count in leaks.count(work.rows).items()}
    return report.Provenance(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - work.started, 1),
        recipe_sha256=recipe.digest(work.recipe),
        overrides=work.plan.written.document.overrides,
        seed=work.recipe.seed,
        device=work.device,
        model=provenance.model(work.recipe.model.path, work.source, work.content),
        data=seen,
        versions=provenance.versions(),
        hardware=provenance.hardware(work.device),
        metrics={config.key: metrics.version(config.metric) for config in work.plan.metrics},
    )
