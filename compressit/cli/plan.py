"""`compressit plan`: what a recipe will do, what it needs, and what will come of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import estimates, exports
from compressit.cli.options import Json, RecipeFile, Set

if TYPE_CHECKING:
    from compressit.plan import Plan
    from compressit.runner.foreseeing import Foreseen


def plan(recipe: RecipeFile, set_: Set = None, json: Json = False) -> None:
    """Show the steps in order, what each needs, and the estimated size, memory and disk. Loads no weights."""
    from compressit import plan as plans
    from compressit import recipe as recipes
    from compressit.cli import cache
    from compressit.cli.console import say, table
    from compressit.runner import room
    from compressit.runner.foreseeing import foresee

    found = plans.plan(recipes.load(recipe, tuple(set_ or ())))
    kept = foresee(found)
    room.check(found, [each.kept for each in kept], Path("runs"))
    if json:
        from json import dumps

        say(dumps(summary(found, kept), indent=1))
        return
    spec = found.written.recipe
    say(f"{spec.name}: {spec.model.path}, {spec.task}")
    rows = [["0", "the original", "", *_size(found.before), ""]]
    for number, (step, each) in enumerate(zip(found.steps, kept, strict=True), 1):
        needs = ", ".join(sorted(step.config.needs())) or "nothing"
        rows.append([str(number), step.config.step, needs, *_size(step.after), "kept" if each.kept else ""])
    for number, (export, settled) in enumerate(zip(spec.exports, found.exports, strict=True), len(rows)):
        chosen = "".join(f", {name}: {value}" for name, value in exports.decided(export, settled).items())
        needs = ", ".join(sorted({"evaluation data", *settled.needs()}))
        rows.append([str(number), f"export {export.artifact}{chosen}", needs, "", "", ""])
    table(rows, ["", "step", "needs", "parameters", "size", "done before"])
    for line, each in zip(cache.told(found, kept), kept, strict=True):
        if each.why:
            say(line)
    for line in found.warnings:
        say(f"warning   {line}")
    say("measures  " + ", ".join(config.key for config in found.metrics))
    say("targets   " + ("; ".join(_target(target) for target in spec.targets) or "none"))
    if found.before is None:
        say(f"estimates none: {found.why_not}")
    else:
        where = "weights stay on disk" if found.streams else "all weights in memory"
        say(f"memory    about {_bytes(found.memory)} at the peak ({where})")
        assert found.disk is not None, "estimated with the memory"
        kept_of_steps = _bytes(sum(found.disk.steps))
        say(f"disk      about {_bytes(found.disk.bytes)} at the peak, {kept_of_steps} of it kept of steps")
        if found.on_disk:
            say("measuring reads weights from disk, once a batch where the system can't keep them")
        if found.seconds is not None:
            minutes = max(1, round(found.seconds / 60))
            cut = spec.dataset is not None and spec.dataset.max_length is not None
            less = "" if cut else f"; less where texts are shorter than {estimates.TOKENS} tokens"
            say(f"time      about {minutes} min for walks through the blocks, on this processor{less}")


def summary(found: Plan, kept: list[Foreseen]) -> dict[str, Any]:
    """Give a plan as plain values."""
    steps = [
        {
            "step": step.config.step,
            "needs": sorted(step.config.needs()),
            "parameters": step.after.parameters if step.after else None,
            "bytes": step.after.bytes if step.after else None,
            "kept": each.kept,
            "why_not_kept": list(each.why),
        }
        for step, each in zip(found.steps, kept, strict=True)
    ]
    return {
        "name": found.written.recipe.name,
        "model": found.model,
        "steps": steps,
        "exports": [export.artifact for export in found.exports],
        "decided_by_the_model": {
            export.artifact: exports.decided(export, settled)
            for export, settled in zip(found.written.recipe.exports, found.exports, strict=True)
        },
        "metrics": [config.key for config in found.metrics],
        "memory_bytes": found.memory,
        "disk_bytes": found.disk.bytes if found.disk else None,
        "walk_seconds": found.seconds,
        "weights_stay_on_disk": found.streams,
        "measured_from_disk": found.on_disk,
        "why_no_estimates": found.why_not or None,
        "warnings": list(found.warnings),
    }


def _size(weights: Any) -> list[str]:
    return ["?", "?"] if weights is None else [f"{weights.parameters:,}", _bytes(weights.bytes)]


def _bytes(count: int | None) -> str:
    from compressit.recipe.quantities import show

    return "?" if count is None else show(count, "bytes")


def _target(target: Any) -> str:
    bound, value = target.bound
    return f"{target.metric} {bound} {value}" + (f" ({target.artifact})" if target.artifact else "")
