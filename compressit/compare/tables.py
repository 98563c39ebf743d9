"""A comparison as rows of text, the same for the terminal, Markdown and the page."""

from __future__ import annotations

from compressit.compare import Compared, Comparison, Difference, Sure
from compressit.recipe.quantities import show
from compressit.report import Outcome
from compressit.report.tables import MARKS, asked, why

HEAD = ("", "base", "candidate", "difference, 95% sure between", "")
UNJUDGED = "No gates: nothing was judged."
SHIP = {
    Outcome.PASS: "every gate passes",
    Outcome.FAIL: "a gate fails",
    Outcome.INCONCLUSIVE: "no gate fails, but not all can be decided",
}


def headline(comparison: Comparison) -> str:
    """Say in one line what came out."""
    judged = [verdict.outcome for each in comparison.candidates for verdict in each.verdicts]
    names = ", ".join(each.side.name for each in comparison.candidates)
    said = f"{names} against {comparison.base.name}, {comparison.examples:,} examples"
    if not judged:
        found = "; ".join(f"{each.side.name} is {surely(each)}" for each in comparison.candidates)
        return f"{said}. {UNJUDGED} {found}"
    worst = next(outcome for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if outcome in judged)
    return f"{said}: {SHIP[worst]}"


def surely(compared: Compared) -> str:
    """Say in one line which metrics are surely worse or better than the base's."""
    found = [
        f"surely {sure} in {', '.join(names)}"
        for sure in (Sure.WORSE, Sure.BETTER)
        if (names := [each.metric for each in compared.differences if each.sure is sure])
    ]
    return " and ".join(found) or "not surely worse or better in anything"


def differences(compared: Compared) -> list[list[str]]:
    """One metric a row: both values, how far apart they are for sure, and which is better."""
    return [
        [
            each.metric,
            _value(each.base, each.unit),
            _value(each.candidate, each.unit),
            _apart(each),
            _sure(each),
        ]
        for each in compared.differences
    ]


def gates(comparison: Comparison) -> list[list[str]]:
    """One gate a row: verdict, candidate, what was asked, and why."""
    return [
        [MARKS[verdict.outcome], each.side.name, f"{verdict.metric} {asked(verdict)}", why(verdict)]
        for each in comparison.candidates
        for verdict in each.verdicts
    ]


def flips(compared: Compared) -> list[str]:
    """Say how many answers changed, both ways."""
    return [
        f"{each.metric}: {each.lost:,} right answers lost, {each.gained:,} gained (McNemar p {each.mcnemar_p:.2g})"
        for each in compared.differences
        if each.lost is not None and each.gained is not None and each.mcnemar_p is not None
    ]


def notes(compared: Compared) -> list[str]:
    """Say what else one should know."""
    unpaired = [each.metric for each in compared.differences if not each.paired and each.low != each.high]
    found = [*flips(compared), *compared.notes]
    if compared.agreement is not None:
        found.append(f"base and candidate say the same of {compared.agreement:.2%} of the examples")
    if compared.divergence is not None:
        found.append(
            f"mean KL divergence from the base's probabilities to the candidate's: {compared.divergence:.4f} nats"
        )
    if unpaired:
        found.append(f"{', '.join(unpaired)}: not compared example by example, so the bounds are wider")
    return found


def _sure(each: Difference) -> str:
    if each.difference == 0 and each.ratio is not None and each.ratio_low is None:
        return "same"
    known = each.sure is not Sure.UNSURE or each.low is not None or each.ratio_low is not None
    return each.sure.value if known else ""


def _apart(each: Difference) -> str:
    if each.unit == "" and each.difference is not None:
        if each.low == each.high:
            return f"{each.difference:+.4f}"
        low, high = ("?" if end is None else f"{end:+.4f}" for end in (each.low, each.high))
        return f"{each.difference:+.4f}, {low} to {high}"
    if each.ratio is not None:
        if each.ratio_low is None and each.ratio_high is None:
            return f"{each.ratio:.3g}x"
        low, high = ("?" if end is None else f"{end:.3g}x" for end in (each.ratio_low, each.ratio_high))
        return f"{each.ratio:.3g}x, {low} to {high}"
    return f"{each.difference:+.4g}" if each.difference is not None else ""


def _value(value: float | None, unit: str) -> str:
    return "NaN" if value is None else show(value, unit)
