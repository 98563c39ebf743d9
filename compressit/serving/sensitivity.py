"""What the compression of each part costs by itself: put into the original one at a time, how far do answers move?

Losses of parts don't add up: they may cancel, or make each other worse. They rank where quality is lost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import checkpoint as checkpoints
from compressit import data, machine, model, provenance, store, tasks
from compressit.data import DatasetSpec
from compressit.errors import IntegrityError, RecipeError, StepError
from compressit.measure.examples import affordable
from compressit.model import Model
from compressit.model.skipping import noting, skipping
from compressit.outputs import Pairs
from compressit.progress import Progress, quiet
from compressit.recipe.quantities import show
from compressit.report import FILE, Sensitivity, Swap, finite
from compressit.report.files import RECIPE
from compressit.rules import CHECKPOINT
from compressit.serving import swapping
from compressit.serving.bench import original
from compressit.serving.finished import Finished
from compressit.serving.swapping import Part
from compressit.steps._answers import said, worth

if TYPE_CHECKING:
    from datasets import Dataset

ROWS, BATCH = 64, 16
CARD = f"{CHECKPOINT}/README.md"
FLOAT = 4
"""Bytes of a weight while it is measured: in float32, whatever the files hold."""


@dataclass(frozen=True)
class Wanted:
    """How to measure.

    Attributes:
        rows: Of the calibration split or, where the recipe has none, of the evaluation split.
    """

    rows: int = ROWS
    device: str = "auto"
    trust_remote_code: bool = False


def sources(folder: Path) -> set[str]:
    """Name the files of a run that `measure` reads."""
    files = store.manifest(folder)["files"]
    return {FILE, RECIPE, *(name for name in files if name.startswith(f"{CHECKPOINT}/") and name != CARD)}


def measure(run: Finished, wanted: Wanted, progress: Progress) -> Sensitivity:
    """Put each part of a run's checkpoint into its original, by itself, and ask that some rows.

    Raises:
        RecipeError: the run was made without data, or its original is not on this machine.
        IntegrityError: the original is not the one that the run was made of, or the report is of an older version.
        StepError: memory can't hold both models.
    """
    spec = run.recipe.dataset
    if spec is None:
        raise RecipeError(f"{run.folder} was made without data: there are no rows to ask a model")
    if not run.report.layers:
        raise IntegrityError(
            f"the report in {run.folder} doesn't list the matrices of its checkpoint", hint="run its recipe again"
        )
    source, checkpoint = _source(run), run.folder / CHECKPOINT
    device = provenance.device(wanted.device)
    _check_memory(source, checkpoint, device)
    with quiet(), _explained(device):
        progress.say("open the original and the checkpoint")
        # What unpacks integers has bars of its own, which nothing turns off.
        with redirect_stderr(io.StringIO()):
            before, after = (_open(folder, run.report.task, device, wanted) for folder in (source, checkpoint))
            split, rows = _rows(spec, run, before, wanted.rows)
            fields = tasks.read_by(before.task, spec.task_fields())
            _wake(after, rows, spec.max_length, device, fields)
        dropped = any(step.step == "drop_layers" for step in run.report.steps)
        parts = swapping.parts(run.report.layers, before, after, dropped=dropped)
        prepared = tasks.load(before.task).prepare(rows, before.processor, spec.max_length, **fields)
        # A row may be a whole book, and become many windows.
        return _measured(before, after, parts, _spread(prepared, wanted.rows), split, progress)


def _measured(
    before: Model,
    after: Model,
    parts: list[Part],
    prepared: Dataset,
    split: str,
    progress: Progress,
) -> Sensitivity:
    import torch

    task, apart = before.task, worth(before.task).apart
    alike = _same_tokens(before, after)
    still = {part.name for part in parts if part.places and swapping.same(before.module, after.module, part)}
    tried = [part for part in parts if not part.why and part.name not in still]
    skips = any(part.skips is not None for part in tried)
    sums, whole, seen = dict.fromkeys((part.name for part in tried), 0.0), 0.0, 0
    device = before.module.device
    order = data.by_length(prepared)
    collate = tasks.load(task).collate(before.processor)
    progress.say(f"swap {len(tried):,} parts one at a time, over {len(order):,} examples")
    with torch.inference_mode(), progress.bar("sensitivity", len(tried) * len(order)) as advance:
        _, longest = next(data.batched(prepared, collate, order[-1:], 1))
        inputs, _ = _on(longest, device)
        size = affordable(said(before, inputs).float().cpu().numpy(), BATCH)
        for places, batch in data.batched(prepared, collate, order, size):
            inputs, labels = _on(batch, device)
            with ExitStack() as stack:
                rests = stack.enter_context(noting(before)) if skips else {}
                right = said(before, inputs)
            other = said(after, inputs) if alike else right
            alike = alike and other.shape == right.shape
            whole += apart(task, right, other, labels) if alike else 0.0
            for part in tried:
                if part.skips is None:
                    with swapping.swapped(before.module, after.module, part):
                        sums[part.name] += apart(task, right, said(before, inputs), labels)
                else:
                    with skipping(before, {part.skips: rests[part.skips]}):
                        sums[part.name] += apart(task, right, said(before, inputs), labels)
                advance(len(places))
            seen += len(places)
    found = {**dict.fromkeys(still, 0.0), **{name: max(total, 0.0) / seen for name, total in sums.items()}}
    return Sensitivity(
        measure="cosine_distance" if tasks.load(task).OUTPUT is Pairs else "kl_divergence",
        split=split,
        examples=seen,
        whole=finite(max(whole, 0.0) / seen) if alike else None,
        swaps=tuple(_swap(part, found.get(part.name)) for part in parts),
    )


def _swap(part: Part, moved: float | None) -> Swap:
    known = None if moved is None else finite(moved)
    why = part.why or ("" if known is not None else "the model's answers are no numbers with it")
    return Swap(name=part.name, kind=part.kind, block=part.block, moved=known, why=why)


def _source(run: Finished) -> Path:
    path = run.recipe.model.path
    found = original(run)
    if found is None:
        raise RecipeError(
            f"{path}, the original of {run.folder}, is not on this machine",
            hint="bring it back to where it was, or into the hub's cache; the report is as it was",
        )
    if store.content_key(found) != run.report.provenance.model.get("sha256"):
        raise IntegrityError(
            f"{found} is not as it was when {run.folder} was made of it", hint="run the recipe again, or bring it back"
        )
    return found


def _check_memory(source: Path, checkpoint: Path, device: str) -> None:
    shapes = (shape for folder in (source, checkpoint) for shape in checkpoints.shapes(folder).values())
    needed = FLOAT * sum(map(math.prod, shapes))
    free = machine.free_memory(device)
    if needed > free:
        raise StepError(
            f"the original and the checkpoint take {show(needed, 'bytes')} of memory, {show(free, 'bytes')} are free",
            hint="measure sensitivity where there is more, or with --device cpu; the report is as it was",
        )


def _open(folder: Path, task: str, device: str, wanted: Wanted) -> Model:
    """Open a model to compute in float32, so that what is put in goes with what is there."""
    import torch

    found = model.load(folder, task, device=device, trust_remote_code=wanted.trust_remote_code)
    model.cast(found.module, torch.float32)
    if getattr(found.module.config, "use_cache", False):
        # A block may come to another place, whose keys are not its own.
        found.module.config.use_cache = False
    return found


def _rows(spec: DatasetSpec, run: Finished, before: Model, count: int) -> tuple[str, Dataset]:
    """Give some rows spread over a split, and say which."""
    split, name = (spec.calibration, "calibration") if spec.calibration else (spec.evaluation, "evaluation")
    labels = dict(before.module.config.id2label)
    found = data.rows(spec, split, before.task, labels, run.folder, labelled=False)
    return f"{name}, {split}", _spread(found, count)


def _spread(rows: Dataset, count: int) -> Dataset:
    """Give some of the rows, spread over all of them."""
    return rows.select(range(0, len(rows), max(1, len(rows) // count))[:count])


def _wake(after: Model, rows: Dataset, max_length: int | None, device: str, fields: dict[str, Any]) -> None:
    """Run a checkpoint once, as it reads: integers become weights at the first call."""
    import torch

    with torch.no_grad():
        _, batch = next(data.batches(rows.select([0]), after, 1, max_length, **fields))
        said(after, _on(batch, device)[0])


def _on(batch: dict[str, Any], device: Any) -> tuple[dict[str, Any], Any]:
    inputs = {name: value.to(device) for name, value in batch.items()}
    labels = inputs.pop("labels")
    return inputs, labels


def _same_tokens(before: Model, after: Model) -> bool:
    """Tell whether both can be asked the same and answer in the same terms."""
    if before.module.config.id2label != after.module.config.id2label:
        return False
    vocabularies = [each.processor.get_vocab() for each in (before, after) if hasattr(each.processor, "get_vocab")]
    return len(vocabularies) < 2 or vocabularies[0] == vocabularies[1]


@contextmanager
def _explained(device: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise StepError(
            f"the memory of {device} can't hold the original and the checkpoint",
            hint="measure sensitivity with --device cpu; the report is as it was",
        ) from error
