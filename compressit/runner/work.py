"""What every part of a run needs to know and to do: open models, save, export, measure."""

from __future__ import annotations

import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, cache, data, exports, intake, metrics, recipe, runtimes, store
from compressit import model as models
from compressit.checkpoint import broken, multiplications
from compressit.errors import IntegrityError, StepError
from compressit.measure import Setting, Subject, evidence
from compressit.measure.evidence import ORIGINAL_RUNTIME, Originals, Pair
from compressit.model import Model, counting, snapshot
from compressit.plan import Plan
from compressit.progress import Progress
from compressit.report import StepRecord
from compressit.report.waterfall import Stage
from compressit.rules import CHECKPOINT
from compressit.sharing import share, share_into
from compressit.steps import Fact

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = EVALUATION, TRAINING, CALIBRATION = "evaluation", "train", "calibration"
CHECKED = 40
"""Evaluation examples on which an export is checked against the checkpoint."""


@dataclass(frozen=True)
class Reached:
    """What has come of the model after so many steps.

    Attributes:
        number: Steps so far.
        record: Of the last of them; None before the first.
        checkpoint: Folder of the checkpoint that would be saved; None where `model` first has to save it.
        model: Opens it, or gives what is open; None where nothing of it is left but the record.
    """

    number: int
    record: StepRecord | None
    checkpoint: Path | None
    model: Callable[[], Model] | None


@dataclass(frozen=True)
class Work:
    """What every part of a run needs to know.

    Attributes:
        folder: Where the result is put together.
        source: Folder of the model that the recipe names.
        content: SHA-256 of its files.
        stamps: Their sizes and times of change, from before that was found.
        rows: By use: those of the evaluation, training and calibration splits.
        digests: SHA-256 of the rows, by use.
        others: Folders of other models that steps name, by id, folder or demo name.
        made: What makes each step's checkpoint.
        unfinished: A folder for what a killed run can go on from.
        fresh: Use nothing that an earlier run has left.
        forks: The socket of the process that forks those which measure; None for one that is started each time.
    """

    plan: Plan
    folder: Path
    source: Path
    content: str
    stamps: frozenset[tuple[str, int, int]]
    device: str
    trust: bool
    fresh: bool
    progress: Progress
    rows: dict[str, Dataset]
    digests: dict[str, str]
    others: dict[str, Path]
    made: tuple[cache.Made, ...]
    unfinished: Path
    started: float
    forks: str | None

    @property
    def recipe(self) -> recipe.Recipe:
        """The recipe, checked."""
        return self.plan.written.recipe

    @property
    def configs(self) -> dict[str, metrics.MetricConfig]:
        """Metrics of the run by the name that the recipe calls them."""
        return {config.key: config for config in self.plan.metrics}

    @property
    def scratch(self) -> Path:
        """A folder that goes with the run."""
        return self.folder / ".work"

    @property
    def setting(self) -> Setting:
        """What all measurements share."""
        spec = self.recipe.dataset
        return Setting(
            task=self.recipe.task,
            rows=str(self.scratch / "rows") if spec else None,
            seed=self.recipe.seed,
            max_length=spec.max_length if spec else None,
            trust_remote_code=self.trust,
            fields=spec.task_fields() if spec else {},
            on_disk=str(self.scratch / "weights") if self.plan.on_disk else None,
            kept=str(self.unfinished / "measured"),
            forks=self.forks,
        )

    def subject(self, folder: Path, runtime: str) -> Subject:
        """Name an artifact to be measured."""
        content = self.content if folder == self.source else store.content_key(folder)
        return Subject(str(folder), runtime, runtimes.load(runtime).place(self.device), content)

    def load(self) -> Model:
        """Open the model; its weights stay on disk where no step and no export needs all of them in memory."""
        self.progress.say(f"load {self.plan.model}")
        scratch = self.unfinished / "weights" if self.plan.streams else None
        opened = models.load(
            self.source, self.recipe.task, device=self.device, trust_remote_code=self.trust, scratch=scratch
        )
        # What comes of it may be kept as what comes of the model that was looked at.
        if store.stamps(self.source) != self.stamps:
            raise self.changed()
        return opened

    def take_up(self, kept: Path) -> Model:
        """Open the model as a step has left it."""
        scratch = self.unfinished / f"weights-{kept.name}" if self.plan.streams else None
        return snapshot.take_up(
            kept, self.source, self.recipe.task, device=self.device, trust_remote_code=self.trust, scratch=scratch
        )

    def measure_originals(self) -> Originals:
        """Measure the original on each runtime that something will run on, exported to it where it must be."""
        subjects = {ORIGINAL_RUNTIME: self.subject(self.source, ORIGINAL_RUNTIME)}
        for export in self.recipe.exports:
            runtime = type(export).runtime
            if runtime not in subjects:
                subjects[runtime] = self.subject(self.plain_export(export.export), runtime)
        where = ", weights left on disk" if self.plan.on_disk else ""
        self.progress.say(f"measure the original on {' and '.join(subjects)}{where}")
        return evidence.originals(subjects, self.setting)

    def plain_export(self, name: str) -> Path:
        """Give the original's uncompressed export: this run's, one that is kept, or made now."""
        place, half = self.unfinished / f"original-{name}", self.unfinished / f"half-{name}"
        if place.exists():
            return place
        shutil.rmtree(half, ignore_errors=True)
        module = exports.load(name)
        made = cache.exported(name, module, self.content, self.recipe.task)
        if not self.fresh and cache.take(made, half, self.progress.say):
            self.progress.say(f"export the original to {name}: kept from before")
        else:
            self.progress.say(f"export the original to {name}, uncompressed, to compare with")
            self.export(self.load(), module.Config(export=name), half)
            cache.put(made, functools.partial(share_into, half))
        half.rename(place)
        return place

    def label(self, number: int) -> str:
        """Call a step by its name, and by its number, too, where there are others of that name."""
        names = [step.config.step for step in self.plan.steps]
        name = names[number - 1]
        return name if names.count(name) == 1 else f"{number} {name}"

    def stage(self, reached: Reached, originals: Originals) -> Stage | None:
        """Measure what a step has made, as it would be saved."""
        if reached.checkpoint is not None:
            return self._stage(reached.number, reached.checkpoint, originals)
        if reached.model is None:
            return None
        self.scratch.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            reached.model().save(Path(place))
            return self._stage(reached.number, Path(place), originals)

    def _stage(self, number: int, place: Path, originals: Originals) -> Stage:
        pair = self.measure(f"what step {number} made", self.subject(place, ORIGINAL_RUNTIME), originals)
        return Stage(pair.artifact, pair.original, self.left(place))

    def left(self, checkpoint: Path) -> float | None:
        """Give the multiplications of a checkpoint, as a share of the original's."""
        before, after = self._whole, self._multiplications(checkpoint)
        return after / before if before and after else None

    @functools.cached_property
    def _whole(self) -> int:
        """Multiplications of the original; of pictures they are counted in a pass."""
        return self._multiplications(self.source)

    def _multiplications(self, folder: Path) -> int:
        """Count those of a token, or of a picture where stages see it in different sizes."""
        if anatomy.staged(str(intake.described(folder).get("model_type"))):
            return counting.multiplications(folder, self.recipe.task, trust_remote_code=self.trust)
        return multiplications(folder)

    def teacher(self, path: str | None) -> Model:
        """Open a teacher: the model as the recipe found it for None."""
        folder = self.source if path is None else self.others[path]
        return models.load(folder, self.recipe.task, device=self.device, trust_remote_code=self.trust)

    def student(self, path: str, labels: Mapping[int, str]) -> tuple[Model, list[str]]:
        """Open a model that is to be trained for these labels, and name what of it has learned nothing."""
        task, trust = self.recipe.task, self.trust
        return models.beginner(self.others[path], task, labels, device=self.device, trust_remote_code=trust)

    def save(self, reached: Reached) -> tuple[dict[str, Subject], dict[str, Any]]:
        """Put the checkpoint and the exports into the result."""
        self.progress.say("save the checkpoint")
        target = self.folder / CHECKPOINT
        assert reached.model is not None, "the last that was kept is there"
        if reached.checkpoint is not None:
            share(reached.checkpoint, target)
        else:
            reached.model().save(target)
        subjects = {CHECKPOINT: self.subject(target, ORIGINAL_RUNTIME)}
        notes: dict[str, Any] = {CHECKPOINT: {}}
        for config in self.recipe.exports:
            name = config.artifact
            self.progress.say(f"export {name}")
            notes[name] = self.export(reached.model(), config, self.folder / name)
            subjects[name] = self.subject(self.folder / name, type(config).runtime)
        return subjects, notes

    def export(self, model: Model, config: Any, place: Path) -> Any:
        """Export a model, checked on a few evaluation examples."""
        place.mkdir(parents=True)
        evaluation = self.rows[EVALUATION]
        some, length = evaluation.select(range(min(CHECKED, len(evaluation)))), self.setting.max_length
        # Of long documents each row is many windows.
        examples = [
            batch
            for rows, size, most in ((some.select([0]), 1, 1), (some, 8, CHECKED // 8))
            for _, batch in itertools.islice(data.batches(rows, model, size, length), most)
        ]
        rows = self.rows.get(CALIBRATION)
        singles = None if rows is None else lambda count: data.singles(rows, model, count, length)
        return exports.load(config.export).run(model, config, place, examples, singles)

    def check_saved(self) -> None:
        """Hold what was saved to what each step promises, and to be numbers; and the model to be what it was."""
        for number, step in enumerate(self.plan.steps, 1):
            if unkept := self._unkept(number):
                raise StepError(f"step {number} ({step.config.step}) did not keep its promise: {unkept}")
        if names := broken(self.folder / CHECKPOINT):
            raise IntegrityError(
                f"what was saved holds NaN or infinity, in {', '.join(names[:3])}: nothing is published",
                hint="a training that came apart leaves such: try a smaller learning_rate",
            )
        if store.content_key(self.source) != self.content:
            raise self.changed()

    def changed(self) -> IntegrityError:
        """Say that the model is another by now."""
        said = f"{self.source} was changed while it was compressed: nothing is published"
        return IntegrityError(said, hint="run it again")

    def _unkept(self, number: int) -> str | None:
        step, saved = self.plan.steps[number - 1], self.folder / CHECKPOINT
        if not self.stages(number):
            claim = getattr(step.module, "claim", None)
            return claim(saved, step.config) if claim else None
        self.scratch.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            left = [self._left_by(each, Path(place) / str(each)) for each in self.stages(number)]
            unkept: str | None = step.module.remains([*left, saved], step.config)
        return unkept

    def _left_by(self, number: int, place: Path) -> Path:
        """Give the checkpoint that a step has left, put together at a place where it isn't kept as one."""
        found = snapshot.checkpoint(self.kept(number))
        if found is None:
            self.take_up(self.kept(number)).save(place)
        return found or place

    def stages(self, number: int) -> tuple[int, ...]:
        """Number the steps whose checkpoints say what became of what a step promises: it, and those that cut later on.

        What the last of them has left is in what is saved. None where nothing is cut, or the step doesn't want to know.
        """
        cuts = [later for later, step in enumerate(self.plan.steps, 1) if Fact.SHAPES in step.config.made()]
        cuts = [later for later in cuts if later > number]
        return (number, *cuts[:-1]) if cuts and hasattr(self.plan.steps[number - 1].module, "remains") else ()

    def kept(self, number: int) -> Path:
        """Say where a step's checkpoint is kept for this run."""
        return self.unfinished / f"kept-{number}"

    def measure(self, name: str, subject: Subject, originals: Originals) -> Pair:
        """Measure an artifact next to the original."""
        self.progress.say(f"measure {name} as saved, on {subject.runtime}, next to the original")
        return evidence.pair(subject, originals, self.setting, self.plan.metrics)
