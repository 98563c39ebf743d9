"""What must be there before any work is done: the model, the rows, and what an earlier run has left."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from pathlib import Path

from compressit import cache, data, metrics, provenance, recipe, store, weights
from compressit import model as models
from compressit.checkpoint import broken
from compressit.errors import IntegrityError, RecipeError
from compressit.measure import processes
from compressit.plan import Plan, refuse_quantized
from compressit.progress import Progress
from compressit.runner import leaks, room
from compressit.runner.fetching import fetched
from compressit.runner.work import EVALUATION, SPLITS, Work


def refuse_own_input(plan: Plan, output: Path | store.Remote) -> None:
    """Refuse to replace what the run reads by what it writes."""
    if isinstance(output, store.Remote):
        return
    written = plan.written
    read = [("the model", plan.model)]
    read += [(f"a model of {step.config.step}", path) for step in plan.steps for path in step.config.models()]
    read += [("the data", written.recipe.dataset.path)] if written.recipe.dataset else []
    for what, path in read:
        found = Path(recipe.located(path, written.base))
        if found.exists() and found.resolve().is_relative_to(output.resolve()):
            raise RecipeError(f"{what}, {found}, lies in {output}, where the result goes", hint="choose another -o")


def begin(
    plan: Plan, folder: Path, device: str, trust: bool, fresh: bool, progress: Progress, stack: ExitStack
) -> Work:
    """Fetch the models and read the splits, so that what is missing shows before any work is done."""
    started = time.monotonic()
    for line in plan.warnings:
        progress.say(f"warning: {line}")
    spec = plan.written.recipe.dataset
    chosen = provenance.device(device)
    # A fork finds in memory what a process reads there first, and no fork may use a GPU that its origin has looked at.
    forkable = chosen == "cpu" and not any(getattr(metrics.load(m.metric), "IN_MEMORY", False) for m in plan.metrics)
    forks = stack.enter_context(processes.forks()) if forkable else None
    source = fetched(plan.model, plan.written.recipe.model.revision, trust, progress)
    refuse_quantized(weights.read(source), plan.model)
    rows = {}
    labels = models.labels(source, trust_remote_code=trust) if spec is not None else {}
    if spec is not None:
        for use in SPLITS:
            split = getattr(spec, use)
            if split is not None:
                progress.say(f"read {use} data: {spec.path} {split}")
                task, base = plan.written.recipe.task, plan.written.base
                rows[use] = data.rows(spec, split, task, labels, base, labelled=use == EVALUATION)
        rows[EVALUATION].save_to_disk(str(folder / ".work" / "rows"))
        leaks.tell(rows, spec, progress)
    for config in plan.metrics:
        metrics.fits(config, rows[EVALUATION].column_names if spec else (), labels)
        getattr(metrics.load(config.metric), "ready", lambda config: None)(config)
    if names := broken(source):
        raise IntegrityError(f"{plan.model} holds NaN or infinity, in {', '.join(names[:3])}", hint="it can't be used")
    stamps, content = store.stamps(source), store.content_key(source)
    digests = {use: data.digest(part) for use, part in rows.items()}
    others = {
        path: fetched(recipe.located(path, plan.written.base), None, trust, progress)
        for step in plan.steps
        for path in step.config.models()
    }
    made = cache.chain(
        plan,
        source=content,
        splits=digests,
        content=lambda path: store.content_key(others[path]),
        device=provenance.device_class(chosen),
    )
    room.check(plan, [not fresh and cache.kept(each) for each in made], folder)
    unfinished = stack.enter_context(store.unfinished(_key(plan, content, digests, chosen), fresh=fresh))
    return Work(
        plan=plan,
        folder=folder,
        source=source,
        content=content,
        stamps=stamps,
        device=chosen,
        trust=trust,
        fresh=fresh,
        progress=progress,
        rows=rows,
        digests=digests,
        others=others,
        made=tuple(made),
        unfinished=unfinished,
        started=started,
        forks=forks,
    )


def _key(plan: Plan, content: str, digests: dict[str, str], device: str) -> str:
    """Name what a run's notes depend on, its measurements included: recipe, model, data, versions, machine."""
    whole = hashlib.sha256(recipe.digest(plan.written.recipe).encode())
    parts = [content, str(plan.written.base), *digests.values()]
    parts += [str(item) for item in (provenance.versions() | provenance.hardware(device)).items()]
    for part in (device, *parts):
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()
