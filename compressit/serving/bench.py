"""Latency and throughput of saved artifacts next to the original, over batch sizes and lengths, round by round."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressit import demo, model, provenance, recipe, store, tasks
from compressit.errors import RecipeError
from compressit.measure import Setting, Subject
from compressit.measure.evidence import ORIGINAL_RUNTIME
from compressit.measure.interleaving import SECONDS
from compressit.measure.timings import Shape, SideBySide, side_by_side
from compressit.progress import Progress, quiet
from compressit.report import Part, bounds, statistics
from compressit.report.kept import ORIGINAL
from compressit.runtimes import missing
from compressit.serving.finished import Finished

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES, LENGTHS = (1, 8, 32), (32, 128)
SCHEMA_VERSION = 1


class Timed(Part):
    """One thing that was timed.

    Attributes:
        name: What it goes by here.
        folder: Where it lies.
    """

    name: str
    folder: str
    runtime: str
    device: str


class Speed(Part):
    """How fast one of them is at one shape, in seconds for a batch.

    Attributes:
        ratio: Its time over the first one's, the median of the ratios round by round, with one-sided 95% bounds that
            hold the machine's noise too; None for the first one itself.
        sure: Whether those bounds exclude 1.
    """

    name: str
    p50: float
    p90: float
    examples_per_second: float
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    sure: bool | None = None


class Cell(Part):
    """All of them at one batch size and length.

    Attributes:
        length: Tokens of each text; None for images and sounds.
        rounds: In each of which every one ran once.
        noise: By what factor two timings of the first one itself may differ; None where that can't be said.
    """

    batch: int
    length: int | None
    rounds: int
    noise: float | None
    speeds: tuple[Speed, ...]


class Benchmark(Part):
    """Everything that was timed.

    Attributes:
        notes: What was left out, and why.
    """

    schema_version: int = SCHEMA_VERSION
    task: str
    timed: tuple[Timed, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    hardware: dict[str, str | int]
    versions: dict[str, str]

    def undecided(self) -> list[str]:
        """Say where the noise is wider than a difference, a line for each batch size and length."""
        lines = []
        for cell in self.cells:
            same = [speed.name for speed in cell.speeds if speed.sure is False]
            if same:
                where = f"batch {cell.batch}" + ("" if cell.length is None else f", length {cell.length}")
                noise = "unknown" if cell.noise is None else f"{cell.noise - 1:.1%}"
                lines.append(
                    f"{where}: {' and '.join(same)} can't be told from {self.timed[0].name}; the machine's own noise "
                    f"({noise}) and spread are wider than the difference"
                )
        return lines


@dataclass(frozen=True)
class Wanted:
    """What to time.

    Attributes:
        artifacts: Their names; empty for all of each run.
        original: Folder of the original; None for that of the runs' recipes.
        lengths: None for the usual ones, as far as every model takes them.
    """

    artifacts: tuple[str, ...] = ()
    original: Path | None = None
    batches: tuple[int, ...] = BATCHES
    lengths: tuple[int, ...] | None = None
    device: str = "auto"
    seconds: float = SECONDS
    trust_remote_code: bool = False


def bench(runs: Sequence[Finished], wanted: Wanted, progress: Progress) -> Benchmark:
    """Time the artifacts of runs side by side, and the original with them where it can be found.

    Raises:
        RecipeError: the runs are of unlike tasks, an artifact isn't there, or a length is beyond a model's limit.
        CompressitError: of the kind that the process met which timed them.
    """
    found = {run.report.task for run in runs}
    if len(found) > 1:
        raise RecipeError(
            f"only runs of one task can be timed side by side; these are of {' and '.join(sorted(found))}"
        )
    (task,), notes = found, list[str]()
    device = provenance.device(wanted.device)
    subjects = _originals(runs, wanted, device, notes) | _artifacts(runs, wanted, device, notes)
    if not subjects:
        raise RecipeError("nothing is left to time:\n  " + "\n  ".join(notes))
    with quiet():
        shapes = _shapes(task, subjects, wanted, notes)
    for note in notes:
        progress.say(note)
    progress.say(f"time {', '.join(subjects)}: {len(shapes)} shapes, about {wanted.seconds:g} s each or 21 rounds")
    setting = Setting(task, None, 0, None, wanted.trust_remote_code)
    timings = side_by_side(subjects, setting, shapes, wanted.seconds)
    return Benchmark(
        task=task,
        timed=tuple(
            Timed(name=name, folder=one.folder, runtime=one.runtime, device=one.device)
            for name, one in subjects.items()
        ),
        cells=tuple(_cell(shape, timing) for shape, timing in timings.items()),
        notes=tuple(notes),
        hardware=provenance.hardware(device),
        versions=provenance.versions(),
    )


def _artifacts(runs: Sequence[Finished], wanted: Wanted, device: str, notes: list[str]) -> dict[str, Subject]:
    """Name the artifacts, by their run too where there are several, and leave out those that nothing here runs."""
    subjects: dict[str, Subject] = {}
    for run in runs:
        for artifact in run.artifacts(wanted.artifacts):
            lacks = missing(artifact.runtime)
            name = artifact.name if len(runs) == 1 else f"{run.name}/{artifact.name}"
            if lacks is not None:
                notes.append(f"{name} is left out: {lacks.message}; {lacks.hint}")
            else:
                subjects[_unused(name, subjects)] = run.subject(artifact, device)
    return subjects


def _originals(runs: Sequence[Finished], wanted: Wanted, device: str, notes: list[str]) -> dict[str, Subject]:
    """Find the original of each run, once where several have the same."""
    if wanted.original is not None:
        if not wanted.original.is_dir():
            raise RecipeError(f"--original {wanted.original}: there is no such folder")
        return {ORIGINAL: Subject(str(wanted.original.resolve()), ORIGINAL_RUNTIME, device)}
    by_content: dict[str, tuple[Finished, Path]] = {}
    for run in runs:
        place = original(run)
        if place is None:
            path = run.recipe.model.path
            notes.append(f"{path}, the original of {run.name}, is not on this machine; name a copy with --original")
            continue
        content = store.content_key(place)
        if content != run.report.provenance.model.get("sha256"):
            notes.append(f"{place} is not as it was when {run.name} was made of it")
        by_content.setdefault(content, (run, place))
    one = len(by_content) == 1
    return {
        ORIGINAL if one else f"{ORIGINAL} of {run.name}": Subject(str(place.resolve()), ORIGINAL_RUNTIME, device)
        for run, place in by_content.values()
    }


def original(run: Finished) -> Path | None:
    """Find the model that a run started from on this machine: its folder, a trained demo, or in the hub's cache."""
    path, revision = run.recipe.model.path, run.recipe.model.revision
    if path.startswith("demo:"):
        return demo.cached(path)
    return model.here(recipe.located(path, run.folder), revision)


def _shapes(task: str, subjects: Mapping[str, Subject], wanted: Wanted, notes: list[str]) -> list[Shape]:
    if tasks.load(task).PROCESSOR_CLASS != "AutoTokenizer":
        if wanted.lengths:
            raise RecipeError(f"--length is for texts; {task} has none")
        return [Shape(size) for size in wanted.batches]
    limits = {
        name: model.processor(Path(one.folder), task, trust_remote_code=wanted.trust_remote_code).model_max_length
        for name, one in subjects.items()
    }
    least = min(limits, key=limits.__getitem__)
    lengths = wanted.lengths or LENGTHS
    if max(lengths) > limits[least]:
        if wanted.lengths:
            raise RecipeError(f"--length {max(lengths)} is beyond the {limits[least]} tokens that {least} takes")
        notes.append(f"{least} takes {limits[least]} tokens, so no text is longer")
    capped = dict.fromkeys(min(length, limits[least]) for length in lengths)
    return [Shape(size, length) for length, size in itertools.product(capped, wanted.batches)]


def _cell(shape: Shape, timing: SideBySide) -> Cell:
    first, *others = timing.seconds
    reference = timing.seconds[first]
    noise = statistics.noise(reference, timing.again)
    speeds = [Speed(name=first, **_figures(shape, reference))]
    for name in others:
        took = timing.seconds[name]
        bound = statistics.paired_time_ratio(took, reference)
        low, high = bound.low / noise, bound.high * noise
        against: dict[str, Any] = {
            "ratio": bounds.paired_median_ratio(took, reference),
            "ratio_low": low,
            "ratio_high": high,
        }
        known = {key: value for key, value in against.items() if np.isfinite(value)}
        speeds.append(Speed(name=name, sure=not low <= 1 <= high, **_figures(shape, took), **known))
    return Cell(
        batch=shape.size,
        length=shape.length,
        rounds=len(reference),
        noise=noise if np.isfinite(noise) else None,
        speeds=tuple(speeds),
    )


def _figures(shape: Shape, took: NDArray[np.float64]) -> dict[str, Any]:
    median = float(np.median(took))
    return {"p50": median, "p90": float(np.quantile(took, 0.9)), "examples_per_second": shape.size / median}


def _unused(name: str, taken: Mapping[str, object]) -> str:
    """Number a name that is taken already."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)
