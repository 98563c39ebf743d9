"""One run as it is shown to people: everything that the texts and the page are made of."""

from __future__ import annotations

from dataclasses import dataclass

from compressit.report import Report
from compressit.report.flips import Flips


@dataclass(frozen=True)
class Shown:
    """One run.

    Attributes:
        name: What it goes by beside others.
        recipe: Text of the recipe as run.
        model: Path of the original, as that recipe has it.
        flips: Of each artifact, the examples that it got worse; none where there is no data.
        textless: Why examples are shown without their text; empty where they have it.
    """

    name: str
    report: Report
    recipe: str
    model: str
    flips: tuple[Flips, ...] = ()
    textless: str = ""
