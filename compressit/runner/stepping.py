"""One step after the other: taken up where its checkpoint is kept, done and kept where it isn't."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from compressit import cache, machine, ranks, steps, store, tasks
from compressit.errors import CompressitError, StepError
from compressit.model import Model, snapshot
from compressit.recipe import quantities
from compressit.report import StepRecord
from compressit.runner.joining import joined
from compressit.runner.work import CALIBRATION, TRAINING, Reached, Work
from compressit.sharing import share_into
from compressit.steps import Fact, Need

RECORDS = "steps.json"


def passed(work: Work) -> Iterator[Reached]:
    """Go through the steps and say what each has made, those first whose checkpoint an earlier run has left."""
    records, folder = _last_kept(work)
    for number, record in enumerate(records, 1):
        work.progress.say(f"{_title(work, number)}: kept from before")
        last = number == len(records)
        yield _reached(work, number, record, folder if last else _fetch(work, number))
    if len(records) < len(work.plan.steps) or not records:
        yield from _done(work, records, work.take_up(folder) if folder else work.load())


def _done(work: Work, records: list[StepRecord], model: Model) -> Iterator[Reached]:
    """Do the steps that are left, each unless another process has done it in the meantime."""
    if not work.plan.steps:
        yield Reached(0, None, None, lambda: model)
    for number in range(len(records) + 1, len(work.plan.steps) + 1):
        made = work.made[number - 1]
        work.progress.say(_title(work, number) + _why(work, made))
        store.wait(cache.key(made), work.progress.say)
        folder = None if work.fresh else _fetch(work, number)
        if folder is not None:
            records, model = _records(work, folder), work.take_up(folder)
        else:
            before = work.kept(number - 1) if number > 1 else None
            with store.unfinished(cache.key(made), fresh=work.fresh) as scratch:
                with joined(work, number, before, scratch):
                    record = do(work, number, model, scratch)
                records = [*records, record]
                folder = _keep(work, number, records, model)
        checkpoint = snapshot.checkpoint(folder)
        yield Reached(number, records[-1], checkpoint, functools.partial(_given, model))


def do(work: Work, number: int, model: Model, scratch: Path) -> StepRecord:
    """Do a step, counted from 1."""
    import transformers

    step = work.plan.steps[number - 1]
    config = step.config
    transformers.set_seed(work.recipe.seed)
    begun = time.monotonic()
    seen = config.looks_at()
    context = steps.StepContext(
        train=work.rows.get(TRAINING) if Need.TRAINING in seen else None,
        calibration=work.rows.get(CALIBRATION) if Need.CALIBRATION in seen else None,
        teacher=work.teacher,
        student=work.student,
        device=work.device,
        seed=work.recipe.seed,
        progress=work.progress,
        scratch=scratch,
        max_length=work.setting.max_length,
        fields=tasks.read_by(work.recipe.task, work.setting.fields),
        curve=functools.partial(work.progress.curve, work.label(number)),
        processes=ranks.count() if config.together else 1,
    )
    try:
        notes = step.module.run(model, config, context)
    except CompressitError as error:
        error.message = f"step {number} ({config.step}): {error.message}"
        raise
    except (MemoryError, RuntimeError) as error:
        if not _of_memory(error):
            raise
        peak = quantities.show(machine.peak(work.device), "bytes")
        raise StepError(
            f"step {number} ({config.step}) ran out of memory on {work.device}, {peak} at the peak: "
            f"{str(error).splitlines()[0][:200]}",
            hint="what was done before is kept; use a smaller batch_size or max_length, or a larger machine",
        ) from error
    several = {"processes": context.processes} if context.processes > 1 else {}
    if Fact.RANGES not in config.keeps | config.made():
        model.ranges.clear()
    return StepRecord(
        step=config.step,
        config=config.model_dump(mode="json"),
        notes={**notes, **several},
        seconds=round(time.monotonic() - begun, 2),
        parameters=model.module.num_parameters(),
    )


def _of_memory(error: Exception) -> bool:
    """Tell whether memory ran out: Python's, a GPU's, or the processor's, for which torch has no kind of its own."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _keep(work: Work, number: int, records: list[StepRecord], model: Model) -> Path:
    """Keep what a step has made: for this run, whatever becomes of the cache, and for others."""
    own = _emptied(work.kept(number))
    own.mkdir()
    snapshot.keep(model, own)
    said = [record.model_dump(mode="json") for record in records]
    (own / RECORDS).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    snapshot.moved(model, own)
    cache.put(work.made[number - 1], functools.partial(share_into, own))
    return own


def _last_kept(work: Work) -> tuple[list[StepRecord], Path | None]:
    """Find the last step whose checkpoint is kept: the records up to it, and a folder of our own.

    What will be held against it in the end has to be kept, too.
    """
    for number in range(len(work.plan.steps), 0, -1):
        before = {each for earlier in range(1, number) for each in work.stages(earlier) if each < number}
        if not work.fresh and all(_fetch(work, each) for each in (*sorted(before), number)):
            folder = work.kept(number)
            return _records(work, folder), folder
    return [], None


def _fetch(work: Work, number: int) -> Path | None:
    """Give a step's checkpoint, if it is kept, a second name that nobody else removes."""
    own = _emptied(work.kept(number))
    return own if cache.take(work.made[number - 1], own, work.progress.say) else None


def _reached(work: Work, number: int, record: StepRecord, folder: Path | None) -> Reached:
    if folder is None:
        return Reached(number, record, None, None)
    return Reached(number, record, snapshot.checkpoint(folder), functools.cache(lambda: work.take_up(folder)))


def _records(work: Work, folder: Path) -> list[StepRecord]:
    """Read what is known of the steps up to a checkpoint; names in their settings are those of this recipe."""
    said = json.loads((folder / RECORDS).read_text(encoding="utf-8"))
    return [
        StepRecord.model_validate(record | {"config": step.config.model_dump(mode="json")})
        for record, step in zip(said, work.plan.steps, strict=False)
    ]


def _why(work: Work, made: cache.Made) -> str:
    """Say what differs from the nearest checkpoint that was made of the same model, for one who changed a recipe."""
    alike = [] if work.fresh else [entry for entry in cache.entries() if cache.began_alike(made, entry.made)]
    near = cache.nearest(made, alike)
    if near is None:
        return ""
    return f" (one is kept of which this differs: {'; '.join(cache.differences(made, near.made)[:3])})"


def _title(work: Work, number: int) -> str:
    return f"step {number} of {len(work.plan.steps)}: {work.plan.steps[number - 1].config.step}"


def _emptied(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return place


def _given(model: Model) -> Model:
    return model
