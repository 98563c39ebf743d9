"""Which steps of a plan are kept already, and of the others, what differs from the nearest one that is."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressit import cache, data, demo, provenance, recipe, store
from compressit import model as models
from compressit.errors import UnsafeError
from compressit.plan import Plan
from compressit.runner.work import CALIBRATION, TRAINING


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
    source = _here(plan.model, plan.written.recipe.model.revision)
    known = functools.partial(cache.chain, plan, source=_content(source), content=functools.cache(_located(plan)))
    spec = plan.written.recipe.dataset
    splits = [use for use in (TRAINING, CALIBRATION) if spec and getattr(spec, use) is not None]
    made = known(splits=dict.fromkeys(splits), device=None)
    if source is not None and any(_but_for_what_is_unknown(each, entries) for each in made):
        try:
            digests = _digests(plan, source, splits)
        except UnsafeError:
            untold = "the model needs code of its own, and without it the data can't be read"
            return [Foreseen(False, (untold,))] * len(plan.steps)
        made = known(splits=digests, device=provenance.device_class(provenance.device("auto")))
    there = {entry.key for entry in entries}
    found = []
    for each in made:
        near = cache.nearest(each, entries)
        kept = cache.key(each) in there
        found.append(Foreseen(kept, () if kept or near is None else tuple(cache.differences(each, near.made))))
    return found


def _but_for_what_is_unknown(made: cache.Made, entries: list[cache.Entry]) -> bool:
    """Tell whether a checkpoint is kept that only data, device or the steps before it may tell from this one."""
    alike = dict(made) | {"after": None, "model": None}
    return any(not cache.differences(alike, entry.made) for entry in entries)


def _digests(plan: Plan, source: Path, splits: Sequence[str]) -> dict[str, str]:
    spec, task, base = plan.written.recipe.dataset, plan.written.recipe.task, plan.written.base
    if spec is None or not splits:
        return {}
    labels = models.labels(source)
    return {use: data.digest(data.rows(spec, getattr(spec, use), task, labels, base, labelled=False)) for use in splits}


def _here(path: str, revision: str | None) -> Path | None:
    """Find a model without training or fetching it."""
    return demo.cached(path) if path.startswith("demo:") else models.here(path, revision)


def _located(plan: Plan) -> cache.Content:
    return lambda path: _content(_here(recipe.located(path, plan.written.base), None))


def _content(folder: Path | None) -> str | None:
    return store.content_key(folder) if folder else None
