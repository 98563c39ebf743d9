"""Plan -> Report, the one straight line: load, measure, change step by step, save, export, measure, judge, publish."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compressit import recipe, store
from compressit.plan import Plan
from compressit.progress import Progress, Silent, quiet
from compressit.report import Report, expected
from compressit.runner.beginning import begin, refuse_own_input
from compressit.runner.reporting import write
from compressit.runner.stepping import passed

__all__ = ["run"]


def run(
    plan: Plan,
    output: Path | store.Remote,
    *,
    device: str = "auto",
    overwrite: bool = False,
    fresh: bool = False,
    trust_remote_code: bool = False,
    waterfall: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Do what the plan says and publish the result at `output`.

    Args:
        plan: A checked recipe.
        output: Folder of the result, here or behind a URL; it appears there whole or not at all.
        device: "auto", "cpu" or "cuda".
        overwrite: Replace an earlier result.
        fresh: Use nothing that an earlier run has left: no checkpoint of a finished step, and no notes of a killed one.
        trust_remote_code: Run Python code that the model's repository holds.
        waterfall: Measure after each step, too, to say what each did.
        progress: Told how far the work is.

    Raises:
        CompressitError: see `compressit.errors`; nothing is published then.
    """
    about: dict[str, Any] = {"recipe_sha256": recipe.digest(plan.written.recipe)}
    refuse_own_input(plan, output)
    progress = progress or Silent()
    with ExitStack() as stack:
        draft = stack.enter_context(store.drafted(output, overwrite=overwrite, say=progress.say))
        stack.enter_context(quiet())
        work = begin(plan, draft.folder, device, trust_remote_code, fresh, progress, stack)

        originals = work.measure_originals()
        expected.check(work.recipe.expect, work.configs, originals.own)
        done = []
        for reached in passed(work):
            stage = work.stage(reached, originals) if waterfall and reached.number < len(plan.steps) else None
            if reached.record is not None:
                done.append((reached.record, stage))
        subjects, notes = work.save(reached)
        work.check_saved()
        pairs = {name: work.measure(name, subject, originals) for name, subject in subjects.items()}
        report = write(work, done, originals, subjects, notes, pairs)
        # What a killed run goes on from is there until the result is.
        draft.publish(about)
        return report
