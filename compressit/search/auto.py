"""Meet the targets: turn the steps that a recipe has until all of them hold, or say which one can't be met.

Targets on what a model costs (size, time, memory) are met by compressing more, those on quality by compressing less.
So all steps hang on one dial: 0 is the recipe as it is written, 1 as much as each step can do, -1 as little. Where a
cost is too high the dial goes up, where only quality is too low it goes down, and between a place of each kind the
interval is halved. Where no place between them meets both, trainings are made longer where the costs are just met.

A trial that died says of its place only that no model comes of it: what lies between it and the nearest one that lived
is halved as well. One that was ended from outside, as by a machine without memory, says nothing of its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from compressit import metrics
from compressit.errors import RecipeError, RetryableError
from compressit.metrics import Kind, MetricConfig
from compressit.plan import Plan
from compressit.report import Outcome
from compressit.search.judging import Judged
from compressit.steps import Dial

EFFORTS = (1, 2, 4)
"""How many times as long trainings are, one after the other where nothing else helps."""
UP, DOWN = 0.8, -1.0
"""Ends of the dial; beyond the upper one next to nothing is left of a model."""
STRIDE, CLOSE = 0.4, 0.03
"""How far to turn while only one end is known, and places that are not worth telling apart."""
LEAST = 0.02
"""Share that every step keeps doing: a step that does nothing at all is an error in many of them."""


@dataclass(frozen=True)
class Turned:
    """A place on the dial, tried.

    Attributes:
        settings: What is set there, by its place in the recipe.
        costs: Whether every target on what the model costs is met; None where the trial died.
    """

    at: float
    effort: int
    settings: Mapping[str, Any]
    judged: Judged
    costs: bool | None


Try = Callable[[Mapping[str, Any]], Judged]


def check(plan: Plan) -> None:
    """Raise RecipeError where there is nothing to turn."""
    if not (_dials(plan) or _efforts(plan)):
        raise RecipeError(
            "no step of the recipe can be turned",
            hint="--auto turns steps such as prune_ffn, drop_layers or quantize_gptq, and the length of trainings",
        )


def meet(plan: Plan, attempt: Try, most: int) -> list[Turned]:
    """Turn until every target holds, nothing is left to turn, or so many trials were made.

    Args:
        plan: The recipe as it is written.
        attempt: Tries settings.
        most: Trials.

    Returns:
        The trials in order; where a place was found that meets every target, it is the last.

    Raises:
        RetryableError: a trial was ended from outside.
    """
    walk = _Walk(plan, attempt, most)
    for effort in EFFORTS if _efforts(plan) else EFFORTS[:1]:
        if walk.turn(effort):
            break
    return walk.turned


def settings(plan: Plan, at: float, effort: int) -> dict[str, Any]:
    """Say what is set at a place on the dial, by its place in the recipe."""
    found: dict[str, Any] = {}
    for place, dial in _dials(plan).items():
        share = dial.share + (1 - dial.share) * at if at > 0 else dial.share * (1 + at)
        as_written = getattr(plan.steps[place].config, dial.field)
        found[f"steps.{place}.{dial.field}"] = as_written if at == 0 else dial.at(max(share, LEAST))
    for place, (field, value) in _efforts(plan).items():
        found[f"steps.{place}.{field}"] = value * effort
    return found


class _Walk:
    """The trials so far."""

    def __init__(self, plan: Plan, attempt: Try, most: int) -> None:
        self.turned: list[Turned] = []
        self._dead: set[float] = set()
        self._plan, self._attempt, self._most = plan, attempt, most
        self._costs = {config.key for config in plan.metrics if _is_cost(config)}

    def turn(self, effort: int) -> bool:
        """Turn with trainings of one length; tell whether it ends there: targets are met, or no time would help."""
        # However long trainings are, costs stay what they are: begin where they were just met.
        too_little = max((each.at for each in self.turned if each.costs is False), default=None)
        too_much: float | None = None
        at: float | None = min((each.at for each in self.turned if each.costs), default=0.0)
        while at is not None and len(self.turned) < self._most:
            found = self._look(at, effort)
            if found.judged.holds:
                return True
            if found.costs is None and any(each.at == at and each.costs is not None for each in self.turned):
                return True
            if found.costs is None:
                self._dead.add(at)
            elif found.costs:
                too_much = at
            else:
                too_little = at
            at = self._next(too_little, too_much)
        return too_much is None

    def _next(self, too_little: float | None, too_much: float | None) -> float | None:
        """Say where to turn, of living places the last and the first of their kind; None where nothing is left."""
        least = DOWN if too_little is None else too_little
        most = UP if too_much is None else too_much
        dead = {each for each in self._dead if least <= each <= most}
        if too_little is None and too_much is None:
            return _down(min(dead))
        if too_little is None and not dead:
            return _down(most)
        if too_much is None and not dead:
            return min(UP, least + STRIDE) if least < UP else None
        living = {each for each in (too_little, too_much) if each is not None}
        gaps = [gap for gap in pairwise(sorted(dead | living)) if living & {*gap}]
        low, high = max(gaps, key=lambda gap: gap[1] - gap[0], default=(most, most))
        return (low + high) / 2 if high - low >= CLOSE else None

    def _look(self, at: float, effort: int) -> Turned:
        """Try a place, unless it is set as one that was tried."""
        wanted = settings(self._plan, at, effort)
        for each in self.turned:
            if each.settings == wanted:
                return each
        judged = self._attempt(wanted)
        if judged.passing:
            tried = ", ".join(f"{name}={value}" for name, value in wanted.items())
            raise RetryableError(
                f"the trial of {tried} was ended from outside: {judged.why}",
                hint="that says nothing of what it would have found; the same command goes on from there",
            )
        met = all(v.outcome is Outcome.PASS for v in judged.verdicts if v.metric in self._costs)
        self.turned.append(Turned(at, effort, wanted, judged, None if judged.why else met))
        return self.turned[-1]


def _down(at: float) -> float | None:
    """Turn down as far as is turned while only one end is known; None where that is the end."""
    return max(DOWN, at - STRIDE) if at > DOWN else None


def _dials(plan: Plan) -> dict[int, Dial]:
    """List what can be turned, by the step's place."""
    before = [plan.before, *(step.after for step in plan.steps)]
    turned = {place: step.config.dial(before[place]) for place, step in enumerate(plan.steps)}
    return {place: dial for place, dial in turned.items() if dial is not None}


def _efforts(plan: Plan) -> dict[int, tuple[str, float]]:
    """List the steps that do better for longer, by their place: the field, and its value."""
    fields = {place: step.config.effort for place, step in enumerate(plan.steps)}
    return {place: (field, getattr(plan.steps[place].config, field)) for place, field in fields.items() if field}


def _is_cost(config: MetricConfig) -> bool:
    """Tell whether a metric is about what a model costs, rather than about what it says."""
    return metrics.load(config.metric).KIND in (Kind.TIMED, Kind.EXACT)
