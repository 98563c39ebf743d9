"""Whether the disk has room for what a run will write, before it writes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from compressit import machine, store
from compressit.errors import StepError
from compressit.plan import Plan
from compressit.recipe.quantities import show


def check(plan: Plan, kept: Sequence[bool], target: Path) -> None:
    """Refuse a run that would fill a disk.

    Args:
        plan: With estimates, or without: then nothing can be said.
        kept: Of each step, whether its checkpoint is there already.
        target: Folder that the result is written beside.

    Raises:
        StepError: the result, or what is kept of the steps, needs more than is free.
    """
    if plan.disk is None:
        return
    ahead = sum(size for size, there in zip(plan.disk.steps, kept, strict=True) if not there)
    needs: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for place, size in ((target, plan.disk.result), (store.home(), plan.disk.scratch + ahead)):
        there = store.nearest(place)
        needs[there.stat().st_dev].append((there, size))
    for places in needs.values():
        need, free = sum(size for _, size in places), machine.free_disk(places[0][0])
        need -= plan.disk.shared if len(places) > 1 else 0
        if need > free:
            where = " and ".join(str(place) for place, _ in places)
            raise StepError(
                f"this run needs about {show(need, 'bytes')} on the disk of {where}, and {show(free, 'bytes')} is free",
                hint="free some space (`compressit cache gc --keep 10GB`), choose another folder with -o, "
                "or set COMPRESSIT_CACHE to one on a larger disk",
            )
