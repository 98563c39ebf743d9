"""Plan -> Report, the one straight line: load, measure, change step by step, save, export, measure, judge, write."""

from __future__ import annotations

import datetime
import functools
import hashlib
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import data, demo, exports, metrics, provenance, recipe, report, runtimes, steps, store, weights
from compressit import model as models
from compressit.checkpoint import multiplications
from compressit.errors import CompressitError, DataError, StepError
from compressit.measure import Setting, Subject, evidence
from compressit.measure.evidence import ORIGINAL_RUNTIME, Originals, Pair
from compressit.model import Model
from compressit.plan import Plan, PlannedStep, refuse_quantized
from compressit.progress import Progress, Silent, quiet
from compressit.report import Report, StepRecord, expected, files, layers, readings, verdicts
from compressit.report.waterfall import Stage
from compressit.rules import CHECKPOINT
from compressit.steps import Fact

if TYPE_CHECKING:
    from datasets import Dataset

CALIBRATION, TRAINING, EVALUATION = "calibration", "train", "evaluation"
CHECKED = 40
"""Evaluation examples on which an export is checked against the checkpoint."""


def run(
    plan: Plan,
    output: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    trust_remote_code: bool = False,
    waterfall: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Do what the plan says and publish the result at `output`.

    Args:
        plan: A checked recipe.
        output: Folder of the result; it appears there whole or not at all.
        device: "auto", "cpu" or "cuda".
        overwrite: Replace an earlier result.
        trust_remote_code: Run Python code that the model's repository holds.
        waterfall: Measure after each step, too, to say what each did.
        progress: Told how far the work is.

    Raises:
        CompressitError: see `compressit.errors`; nothing is published then.
    """
    about: dict[str, Any] = {"recipe_sha256": recipe.digest(plan.written.recipe)}
    with ExitStack() as stack:
        folder = stack.enter_context(store.staged(output, overwrite=overwrite, about=about))
        stack.enter_context(quiet())
        work = _begin(plan, folder, device, trust_remote_code, progress or Silent(), stack)

        model = work.load()
        originals = work.measure_originals(model)
        expected.check(work.recipe.expect, work.configs, originals.own)
        done = []
        for number, step in enumerate(plan.steps, 1):
            record = work.step(number, step, model)
            last = number == len(plan.steps)
            done.append((record, work.stage(number, model, originals) if waterfall and not last else None))
        subjects, notes = work.save(model)
        work.check_claims()
        pairs = {name: work.measure(name, subject, originals) for name, subject in subjects.items()}
        return work.write(done, originals, subjects, notes, pairs)


@dataclass(frozen=True)
class _Work:
    """What every part of a run needs to know."""

    plan: Plan
    folder: Path
    source: Path
    device: str
    trust: bool
    progress: Progress
    rows: dict[str, Dataset]
    unfinished: Path
    started: float

    @property
    def recipe(self) -> recipe.Recipe:
        return self.plan.written.recipe

    @property
    def configs(self) -> dict[str, metrics.MetricConfig]:
        """Metrics of the run by the name that the recipe calls them."""
        return {config.key: config for config in self.plan.metrics}

    @property
    def scratch(self) -> Path:
        return self.folder / ".work"

    @property
    def setting(self) -> Setting:
        spec = self.recipe.dataset
        place = str(self.scratch / "weights") if self.plan.on_disk else None
        if spec is None:
            return Setting(self.recipe.task, None, self.recipe.seed, None, self.trust, on_disk=place)
        rows, fields = str(self.scratch / "rows"), spec.task_fields()
        return Setting(self.recipe.task, rows, self.recipe.seed, spec.max_length, self.trust, fields, place)

    def subject(self, folder: Path, runtime: str) -> Subject:
        return Subject(str(folder), runtime, runtimes.load(runtime).place(self.device))

    def load(self) -> Model:
        """Open the model; its weights stay on disk where no step and no export needs all of them in memory."""
        self.progress.say(f"load {self.plan.model}")
        scratch = self.unfinished / "weights" if self.plan.streams else None
        return models.load(
            self.source, self.recipe.task, device=self.device, trust_remote_code=self.trust, scratch=scratch
        )

    def measure_originals(self, model: Model) -> Originals:
        subjects = {ORIGINAL_RUNTIME: self.subject(self.source, ORIGINAL_RUNTIME)}
        for export in self.recipe.exports:
            runtime, place = type(export).runtime, self.scratch / f"original-{export.export}"
            if runtime not in subjects:
                self.progress.say(f"export the original to {export.export}, uncompressed, to compare with")
                plain = exports.load(export.export).Config(export=export.export)
                self.export(model, plain, place)
                subjects[runtime] = self.subject(place, runtime)
        where = ", weights left on disk" if self.plan.on_disk else ""
        self.progress.say(f"measure the original on {' and '.join(subjects)}{where}")
        return evidence.originals(subjects, self.setting)

    def step(self, number: int, step: PlannedStep, model: Model) -> StepRecord:
        import transformers

        config = step.config
        self.progress.say(f"step {number} of {len(self.plan.steps)}: {config.step}")
        transformers.set_seed(self.recipe.seed)
        begun = time.monotonic()
        context = steps.StepContext(
            train=self.rows.get(TRAINING),
            calibration=self.rows.get(CALIBRATION),
            teacher=self.teacher,
            student=self.student,
            device=self.device,
            seed=self.recipe.seed,
            progress=self.progress,
            scratch=self.unfinished / f"step-{number}",
            max_length=self.setting.max_length,
            curve=functools.partial(self.progress.curve, self.label(number)),
        )
        try:
            notes = step.module.run(model, config, context)
        except CompressitError as error:
            error.message = f"step {number} ({config.step}): {error.message}"
            raise
        if Fact.RANGES not in config.keeps | config.made():
            model.ranges.clear()
        return StepRecord(
            step=config.step,
            config=config.model_dump(mode="json"),
            notes=dict(notes),
            seconds=round(time.monotonic() - begun, 2),
            parameters=model.module.num_parameters(),
        )

    def label(self, number: int) -> str:
        """Call a step by its name, and by its number, too, where there are others of that name."""
        names = [step.config.step for step in self.plan.steps]
        name = names[number - 1]
        return name if names.count(name) == 1 else f"{number} {name}"

    def stage(self, number: int, model: Model, originals: Originals) -> Stage:
        """Measure what a step that is not the last has made, as it would be saved."""
        self.scratch.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            model.save(Path(place))
            subject = self.subject(Path(place), ORIGINAL_RUNTIME)
            pair = self.measure(f"what step {number} made", subject, originals)
            return Stage(pair.artifact, pair.original, self.left(Path(place)))

    def left(self, checkpoint: Path) -> float | None:
        """Give the multiplications of a checkpoint, as a share of the original's."""
        before, after = multiplications(self.source), multiplications(checkpoint)
        return after / before if before and after else None

    def teacher(self, path: str | None) -> Model:
        folder = self.source if path is None else self.fetch(path)
        return models.load(folder, self.recipe.task, device=self.device, trust_remote_code=self.trust)

    def student(self, path: str, labels: Mapping[int, str]) -> tuple[Model, list[str]]:
        task, trust = self.recipe.task, self.trust
        return models.beginner(self.fetch(path), task, labels, device=self.device, trust_remote_code=trust)

    def fetch(self, path: str) -> Path:
        return _fetch(recipe.located(path, self.plan.written.base), None, self.trust, self.progress)

    def save(self, model: Model) -> tuple[dict[str, Subject], dict[str, Any]]:
        self.progress.say("save the checkpoint")
        model.save(self.folder / CHECKPOINT)
        subjects = {CHECKPOINT: self.subject(self.folder / CHECKPOINT, ORIGINAL_RUNTIME)}
        notes: dict[str, Any] = {CHECKPOINT: {}}
        for config in self.recipe.exports:
            name = config.artifact
            self.progress.say(f"export {name}")
            notes[name] = self.export(model, config, self.folder / name)
            subjects[name] = self.subject(self.folder / name, type(config).runtime)
        return subjects, notes

    def export(self, model: Model, config: Any, place: Path) -> Any:
        place.mkdir(parents=True)
        evaluation = self.rows[EVALUATION]
        some = evaluation.select(range(min(CHECKED, len(evaluation))))
        examples = [
            batch
            for rows, size in ((some.select([0]), 1), (some, 8))
            for _, batch in data.batches(rows, model, size, self.setting.max_length)
        ]
        rows, length = self.rows.get(CALIBRATION), self.setting.max_length
        singles = None if rows is None else lambda count: data.singles(rows, model, count, length)
        return exports.load(config.export).run(model, config, place, examples, singles)

    def check_claims(self) -> None:
        for number, step in enumerate(self.plan.steps, 1):
            claim = getattr(step.module, "claim", None)
            broken = claim(self.folder / CHECKPOINT, step.config) if claim else None
            if broken:
                raise StepError(f"step {number} ({step.config.step}) did not keep its promise: {broken}")

    def measure(self, name: str, subject: Subject, originals: Originals) -> Pair:
        self.progress.say(f"measure {name} as saved, on {subject.runtime}, next to the original")
        return evidence.pair(subject, originals, self.setting, self.plan.metrics)

    def write(
        self,
        done: list[tuple[StepRecord, Stage | None]],
        originals: Originals,
        subjects: dict[str, Subject],
        notes: dict[str, Any],
        pairs: dict[str, Pair],
    ) -> Report:
        seed = self.recipe.seed
        left = self.left(self.folder / CHECKPOINT)
        made = tuple(
            readings.artifact(
                name,
                subjects[name].runtime,
                subjects[name].device,
                pair.artifact,
                pair.original,
                self.plan.metrics,
                notes[name],
                seed,
                left,
            )
            for name, pair in pairs.items()
        )
        judged = []
        for target in self.recipe.targets:
            name = target.artifact or list(pairs)[-1]
            pair = pairs[name]
            config = self.configs[target.metric]
            judged.append(verdicts.judge(target, config, name, pair.artifact, pair.original, seed))
        first = pairs[CHECKPOINT].original
        end = Stage(pairs[CHECKPOINT].artifact, first, left)
        found = Report(
            name=self.recipe.name,
            task=self.recipe.task,
            provenance=self.provenance(originals.outcomes[ORIGINAL_RUNTIME].protocol),
            original=readings.artifact(
                "original", ORIGINAL_RUNTIME, self.device, first, None, self.plan.metrics, seed=seed
            ),
            steps=readings.steps(
                done, Stage(first, None, 1.0 if left else None), end, self.plan.metrics, self.device, seed
            ),
            artifacts=made,
            verdicts=tuple(judged),
            layers=layers.compared(self.source, self.folder / CHECKPOINT, [record for record, _ in done]),
        )
        document = self.plan.written.document
        said = {"original": first, **{name: pair.artifact for name, pair in pairs.items()}}
        rows = self.rows.get(EVALUATION)
        files.write(self.folder, found, self.recipe, self.plan.written.base, document.overrides, said, rows)
        return found

    def provenance(self, protocol: Mapping[str, str | int]) -> report.Provenance:
        spec = self.recipe.dataset
        seen: dict[str, str | int] = {}
        if spec is not None:
            ids = data.fingerprints(self.rows[EVALUATION])
            sha256 = hashlib.sha256(ids.tobytes()).hexdigest()
            seen = {"source": spec.path, "split": spec.evaluation, "examples": len(ids), "sha256": sha256}
            seen |= protocol
            seen |= {f"also in {use}": count for use, count in _repeated(self.rows).items()}
        return report.Provenance(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.started, 1),
            recipe_sha256=recipe.digest(self.recipe),
            overrides=self.plan.written.document.overrides,
            seed=self.recipe.seed,
            device=self.device,
            model=provenance.model(self.recipe.model.path, self.source),
            data=seen,
            versions=provenance.versions(),
            hardware=provenance.hardware(self.device),
            metrics={config.key: metrics.version(config.metric) for config in self.plan.metrics},
        )


def _begin(plan: Plan, folder: Path, device: str, trust: bool, progress: Progress, stack: ExitStack) -> _Work:
    """Fetch the model and read the splits, so that what is missing shows before any work is done."""
    started = time.monotonic()
    spec = plan.written.recipe.dataset
    chosen = provenance.device(device)
    source = _fetch(plan.model, plan.written.recipe.model.revision, trust, progress)
    refuse_quantized(weights.read(source), plan.model)
    rows = {}
    labels = models.labels(source, trust_remote_code=trust) if spec is not None else {}
    if spec is not None:
        for use in (EVALUATION, TRAINING, CALIBRATION):
            split = getattr(spec, use)
            if split is not None:
                progress.say(f"read {use} data: {spec.path} {split}")
                task, base = plan.written.recipe.task, plan.written.base
                rows[use] = data.rows(spec, split, task, labels, base, labelled=use == EVALUATION)
        rows[EVALUATION].save_to_disk(str(folder / ".work" / "rows"))
        _tell_leaks(rows, spec, progress)
    for config in plan.metrics:
        metrics.fits(config, rows[EVALUATION].column_names if spec else (), labels)
        getattr(metrics.load(config.metric), "ready", lambda config: None)(config)
    unfinished = stack.enter_context(store.unfinished(_key(plan, source, rows, chosen)))
    return _Work(plan, folder, source, chosen, trust, progress, rows, unfinished, started)


def _tell_leaks(rows: dict[str, Dataset], spec: data.DatasetSpec, progress: Progress) -> None:
    """Warn of evaluation examples that other splits hold too, and refuse more of them than the recipe allows."""
    total = len(rows[EVALUATION])
    for use, count in _repeated(rows).items():
        progress.say(f"warning: {count:,} examples of the evaluation split are in the {use} split too")
        if count > spec.max_leak * total:
            raise DataError(
                f"{count:,} of {total:,} examples of {spec.evaluation} are in the {use} split too: that flatters",
                hint=f"choose splits that are apart, or set dataset.max_leak: {math.ceil(100 * count / total) / 100}",
            )


def _repeated(rows: dict[str, Dataset]) -> dict[str, int]:
    """Count the evaluation examples that another split holds too: figures on them flatter."""
    found = {use: data.repeated(rows[EVALUATION], part) for use, part in rows.items() if use != EVALUATION}
    return {use: count for use, count in found.items() if count}


def _fetch(path: str, revision: str | None, trust: bool, progress: Progress) -> Path:
    if path.startswith("demo:"):
        return demo.folder(path, progress)
    return models.fetch(path, revision, trust_remote_code=trust)


def _key(plan: Plan, source: Path, rows: dict[str, Dataset], device: str) -> str:
    """Name what an unfinished step's notes depend on: recipe, model, data, versions, kind of device."""
    whole = hashlib.sha256(recipe.digest(plan.written.recipe).encode())
    for part in (store.content_key(source), device, str(plan.written.base), *map(str, provenance.versions().items())):
        whole.update(part.encode())
    for use in sorted(rows):
        whole.update(data.fingerprints(rows[use]).tobytes())
    return whole.hexdigest()
