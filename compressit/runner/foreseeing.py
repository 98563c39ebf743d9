"""Which steps of a plan are kept already, and of the others, what differs from the nearest one that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compressit import cache, data, demo, provenance, recipe, store
from compressit import model as models
from compressit.plan import Plan
from compressit.runner.work import CALIBRATION, EVALUATION, TRAINING


@dataclass(frozen=True)
class Foreseen:
    """A step before it is run.

    Attributes:
        kept: Its checkpoint is there; whether its bytes are still what they were is looked at when it is used.
        why: What differs from the nearest checkpoint of the same step, where there is one.
    """

    kept: bool
    why: tuple[str, ...]


def foresee(plan: Plan) -> list[Foreseen]:
    """Look for each step's checkpoint; data is read only where one may be kept, and nothing is fetched.

    Raises:
        CompressitError: the data can't be read.
    """
    entries = cache.entries()
    if not entries:
        return [Foreseen(False, ())] * len(plan.steps)
    made = _chain(plan, {}, None)
    if any(_but_for_what_is_unknown(each, entries) for each in made):
        source = _here(plan.model, plan.written.recipe.model.revision)
        if source is not None:
            made = _chain(plan, _digests(plan, source), provenance.device_class(provenance.device("auto")))
    there = {entry.key for entry in entries}
    found = []
    for each in made:
        near = cache.nearest(each, entries)
        kept = cache.key(each) in there
        found.append(Foreseen(kept, () if kept or near is None else tuple(cache.differences(each, near.made))))
    return found


def _chain(plan: Plan, splits: dict[str, str], device: str | None) -> list[cache.Made]:
    """Say what makes each step's checkpoint, as far as that is known without the data."""
    spec = plan.written.recipe.dataset
    source = _here(plan.model, plan.written.recipe.model.revision)
    unknown = {use: None for use in (TRAINING, CALIBRATION) if spec and getattr(spec, use) is not None}
    seen = cache.Seen(
        source=store.content_key(source) if source else None,
        splits={**unknown, **splits},
        content=lambda path: _content(recipe.located(path, plan.written.base)),
        task=plan.written.recipe.task,
        fields=spec.task_fields() if spec else {},
        max_length=spec.max_length if spec else None,
        seed=plan.written.recipe.seed,
        device=device,
    )
    return cache.chain([(step.config, step.module) for step in plan.steps], seen)


def _but_for_what_is_unknown(made: cache.Made, entries: list[cache.Entry]) -> bool:
    """Tell whether a checkpoint is kept that only data, device or the steps before it may tell from this one."""
    alike = dict(made) | {"after": None, "model": None}
    return any(not cache.differences(alike, entry.made) for entry in entries)


def _digests(plan: Plan, source: Path) -> dict[str, str]:
    spec, task, base = plan.written.recipe.dataset, plan.written.recipe.task, plan.written.base
    if spec is None:
        return {}
    labels = models.labels(source)
    splits = {use: getattr(spec, use) for use in (TRAINING, CALIBRATION)}
    return {
        use: data.digest(data.rows(spec, split, task, labels, base, labelled=use == EVALUATION))
        for use, split in splits.items()
        if split is not None
    }


def _here(path: str, revision: str | None) -> Path | None:
    """Find a model without training or fetching it."""
    return demo.cached(path) if path.startswith("demo:") else models.here(path, revision)


def _content(path: str) -> str | None:
    folder = _here(path, None)
    return store.content_key(folder) if folder else None
