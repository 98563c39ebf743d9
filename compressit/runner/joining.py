"""A step that several processes do together: the first one asks the others to join, and keeps what it has made."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from compressit import ranks
from compressit.progress import Silent
from compressit.runner.work import Work


@dataclass(frozen=True)
class Asked:
    """What the others need to do a step as the first process does it.

    Attributes:
        work: Of the run; its rows lie in `rows`.
        number: Of the step, counted from 1.
        before: Folder of the model as the step before has left it; None where the run begins with this one.
        rows: Folders of the splits, by use.
        scratch: The step's own folder, for all of them.
    """

    work: Work
    number: int
    before: Path | None
    rows: dict[str, Path]
    scratch: Path


@contextlib.contextmanager
def joined(work: Work, number: int, before: Path | None, scratch: Path) -> Iterator[None]:
    """Have the other processes do a step with this one, where there are others and the step is for several."""
    others = ranks.connected() if work.plan.steps[number - 1].config.together else None
    if others is None:
        yield
        return
    place = work.unfinished / "rows"
    shutil.rmtree(place, ignore_errors=True)
    for use, split in work.rows.items():
        split.save_to_disk(str(place / use))
    rows = {use: place / use for use in work.rows}
    asked = Asked(replace(work, rows={}, progress=Silent()), number, before, rows, scratch)
    with others.together(others.ask(asked), work.device):
        yield
