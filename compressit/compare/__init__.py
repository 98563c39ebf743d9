"""What was found when finished runs were compared on the same examples, as data: compare.json, tables, JUnit, HTML.

The first run is the base. Each other one is held against it: what differs with which certainty, and whether the gates
hold. `schema_version` rises when a reader of the file would have to change.
"""

from __future__ import annotations

from enum import StrEnum

from compressit.errors import ExitCode
from compressit.report import Part, Verdict, exit_code

SCHEMA_VERSION = 1


class Sure(StrEnum):
    """What a 95% bound on a difference says."""

    BETTER = "better"
    WORSE = "worse"
    UNSURE = "no sure difference"


class Side(Part):
    """One run, and the artifact of it that is compared.

    Attributes:
        name: What it goes by here; unique among the runs compared.
        source: Folder of the run, or the baseline file.
        recipe: Its recipe's name.
    """

    name: str
    source: str
    recipe: str
    recipe_sha256: str
    artifact: str
    runtime: str
    seed: int


class Difference(Part):
    """One metric of a candidate against the base, with one-sided 95% bounds of the difference or of the ratio.

    Attributes:
        difference: candidate - base, on the same examples; None for timings.
        ratio: candidate / base, of timings and of figures without error; of timings the median of interleaved runs.
        paired: Whether both were measured on the same examples, or in the same interleaved timings.
        lost: Right answers of the base that the candidate gets wrong, where answers are right or wrong.
        gained: The reverse.
        mcnemar_p: Exact two-sided p of the two.
    """

    metric: str
    unit: str
    better: str
    base: float | None
    candidate: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    sure: Sure = Sure.UNSURE
    paired: bool = True
    lost: int | None = None
    gained: int | None = None
    mcnemar_p: float | None = None


class Compared(Part):
    """A candidate against the base.

    Attributes:
        verdicts: One for each gate.
        agreement: Share of the predictions that base and candidate have in common, where that can be told.
        divergence: Mean KL(base || candidate) of their probabilities in nats, where those were kept.
        notes: What can't be compared and why, and what should be known.
    """

    side: Side
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...] = ()
    agreement: float | None = None
    divergence: float | None = None
    notes: tuple[str, ...] = ()


class Comparison(Part):
    """Everything found out about the runs compared."""

    schema_version: int = SCHEMA_VERSION
    base: Side
    candidates: tuple[Compared, ...]
    examples: int
    gates: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """A missed gate weighs more than an undecided one."""
        return exit_code(verdict.outcome for each in self.candidates for verdict in each.verdicts)
