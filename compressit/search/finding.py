"""Try, note what came of it, and propose anew, until the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from compressit import jobs, plan, rules
from compressit.errors import RecipeError, StepError
from compressit.jobs.shares import Share
from compressit.progress import Progress
from compressit.recipe import Open, Range, RecipeProblems
from compressit.report import FILE
from compressit.search import auto, choosing, judging, trials
from compressit.search.checking import check
from compressit.search.found import Found
from compressit.search.judging import Judged, Objective
from compressit.search.sampling import STARTUP, Proposal, Study, in_order
from compressit.search.state import claim
from compressit.search.trials import Place, set_to

HOPELESS = 5
"""Trials that may die before any has come to its end."""


@dataclass(frozen=True)
class Budget:
    """How long to go on.

    Attributes:
        trials: In all, those of earlier tries included; None for no limit.
        hours: From now; None for no limit.
        shares: Of the machine, one for each trial that runs at the same time.
    """

    trials: int | None
    hours: float | None = None
    shares: tuple[Share, ...] = ({},)

    def over(self, begun: int, since: float) -> bool:
        """Tell whether no more trials are to begin."""
        return self.late(since) or (self.trials is not None and begun >= self.trials)

    def late(self, since: float) -> bool:
        """Tell whether the time is over; what was proposed by then is tried by whoever goes on."""
        return self.hours is not None and time.monotonic() - since > 3600 * self.hours


def search(found: Open, place: Place, budget: Budget, progress: Progress) -> Found:
    """Try until the budget is spent.

    Args:
        found: A checked recipe.
        place: Where the search keeps what it knows, and how trials run; one that was killed goes on from there.
        budget: How long.
        progress: Told how far it is.

    Raises:
        RecipeError: the folder is another search's.
        RetryableError: another process is at this very search.
        StepError: the first trials all died.
    """
    base = check(found)
    asked = base.recipe.search
    assert asked is not None, "checked"
    if not found.ranges:
        raise RecipeError(
            "the recipe leaves nothing open",
            hint="write ranges, such as `sparsity: {search: [0.3, 0.8]}`, or let --auto turn the steps that it has",
        )
    if not asked.objectives:
        raise RecipeProblems([
            base.document.problem(("search",), "the recipe doesn't say what shall be best", "objective: smallest")
        ])  # fmt: skip
    configs = {config.key: config for config in rules.measured(base.recipe)}
    wanted = judging.objectives(asked.objectives, configs)
    with ExitStack() as stack:
        claim(place.folder, found, stack)
        study = Study(place.folder, found.ranges, wanted, asked.sampler, base.recipe.seed)
        tried = _Tried(found, place, wanted, progress, budget.trials)
        for past in study.ended():
            tried.take_up(past.values, past.why)
        _go_on(study, tried, budget, found.ranges)
    done = tuple(tried.judged)
    return Found(
        done,
        wanted,
        tuple(choosing.front(done, wanted)),
        choosing.best(done, wanted),
        choosing.nearest(done),
        asked.tuning,
        asked.sampler,
    )


def meet(found: Open, place: Place, most: int, progress: Progress) -> Found:
    """Turn the steps of a recipe that leaves nothing open until every target holds, or nothing helps.

    Args:
        found: The recipe.
        place: Where the search keeps what it knows, and how trials run; one that was killed goes on from there.
        most: Trials.
        progress: Told how far it is.

    Raises:
        RecipeError: as `search` does; or there are no targets, or no step that can be turned.
        RetryableError: another process is at this very search, or a trial was ended from outside, twice.
        StepError: the first trials all died.
    """
    if found.ranges:
        names = ", ".join(each.name for each in found.ranges)
        raise RecipeError(f"--auto turns a recipe that is filled in, and {names} is left open", hint="leave --auto out")
    base = check(found)
    if not base.recipe.targets:
        raise RecipeProblems([base.document.problem((), "--auto meets targets, and the recipe has none")])
    planned = plan.plan(trials.on_tuning(base))
    auto.check(planned)
    with ExitStack() as stack:
        claim(place.folder, found, stack, kind="auto")
        tried = _Tried(found, place, (), progress, None)
        turned = auto.meet(planned, tried.insist, most)
    done = tuple(each.judged for each in turned)
    chosen = next((number for number, each in enumerate(done) if each.holds), None)
    front = () if chosen is None else (chosen,)
    assert base.recipe.search is not None, "checked"
    return Found(done, (), front, chosen, choosing.nearest(done), base.recipe.search.tuning, "auto")


class _Tried:
    """The trials that have ended, as they end."""

    def __init__(
        self, found: Open, place: Place, wanted: Sequence[Objective], progress: Progress, of: int | None
    ) -> None:
        self.judged: list[Judged] = []
        self._found, self._place, self._wanted = found, place, wanted
        self._say, self._of = progress.say, of

    @contextmanager
    def begun(self, values: Mapping[str, Any], share: Share | None = None) -> Iterator[Callable[[], Judged | None]]:
        """Begin to try some values, and tell what came of it or None as long as it runs; leaving the block ends it."""
        try:
            written = trials.on_tuning(set_to(self._found, values))
            if problems := rules.check(written):
                raise RecipeProblems(problems)
        except RecipeProblems as error:
            wrong = Judged(values, "", why=error.problems[0].message)
            yield lambda: wrong
            return
        own = trials.folder(self._place, written)
        if not (own / FILE).is_file():
            self._say(f"try {_shown(values)}; what it says: {own / jobs.LOG}")
        with trials.begun(self._place, written, share) as poll:
            yield lambda: None if (tried := poll()) is None else self._read(tried, values)

    def attempt(self, values: Mapping[str, Any]) -> Judged:
        """Try some values to the end, and note what came of it."""
        found = self._tried(values)
        self.add(found)
        return found

    def insist(self, values: Mapping[str, Any]) -> Judged:
        """Do as `attempt` does, and once more where that was ended from outside."""
        found = self._tried(values)
        if found.passing:
            self._say(f"{_shown(values)}: ended from outside, and tried once more: {found.why}")
            found = self._tried(values)
        self.add(found)
        return found

    def take_up(self, values: Mapping[str, Any], why: str | None) -> None:
        """Note again what an earlier process has tried; should its files be gone, it is tried anew."""
        self.judged.append(self._tried(values) if why is None else Judged(values, "", why=why))

    def add(self, found: Judged) -> None:
        """Note what has ended, and tell of it."""
        self.judged.append(found)
        of = "" if self._of is None else f" of {self._of}"
        self._say(f"trial {len(self.judged)}{of}: {_shown(found.settings)}: {_told(found, self._wanted)}")
        if len(self.judged) == HOPELESS and all(each.why for each in self.judged):
            raise StepError(f"the first {HOPELESS} trials died, the last of: {found.why}", hint="see trials/*/log.txt")

    def _tried(self, values: Mapping[str, Any]) -> Judged:
        with self.begun(values) as poll:
            while (found := poll()) is None:
                time.sleep(jobs.PAUSE)
        return found

    def _read(self, tried: trials.Tried, values: Mapping[str, Any]) -> Judged:
        if tried.report is None:
            return Judged(values, tried.digest, why=tried.why, passing=tried.passing)
        return judging.judged(tried.report, self._wanted, values, tried.digest)


@dataclass(frozen=True)
class _Running:
    """A trial that runs, on its share of the machine; closing its stack ends it."""

    proposal: Proposal
    share: Share
    poll: Callable[[], Judged | None]
    stack: ExitStack


def _go_on(study: Study, tried: _Tried, budget: Budget, ranges: Sequence[Range]) -> None:
    """Keep as many trials running as are wanted, and learn from each as it ends."""
    since, begun = time.monotonic(), len(tried.judged)
    waiting: list[Proposal] = []
    running: list[_Running] = []
    free = list(budget.shares)
    last: Proposal | None = None
    with ExitStack() as every:
        while True:
            while free and (not budget.over(begun, since) or (waiting and not budget.late(since))):
                # The first ones are proposed at once, for they hang on nothing and can follow what is in the cache.
                while not waiting or (begun < STARTUP and not budget.over(begun, since)):
                    waiting.append(study.ask())
                    begun += 1
                last = in_order(waiting, last, ranges)
                waiting.remove(last)
                stack, share = every.enter_context(ExitStack()), free.pop(0)
                poll = stack.enter_context(tried.begun(last.values, share))
                running.append(_Running(last, share, poll, stack))
            if not running:
                return
            while not (ended := [(each, found) for each in running if (found := each.poll()) is not None]):
                time.sleep(jobs.PAUSE)
            for each, found in ended:
                each.stack.close()
                running.remove(each)
                free.append(each.share)
                study.tell(each.proposal, found)
                tried.add(found)


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _told(found: Judged, wanted: Sequence[Objective]) -> str:
    """Say in a line what came of a trial."""
    if found.why:
        return f"died: {found.why}"
    values = [
        f"{one.metric} {value:.4g}{'x' if one.timed else ''}" for one, value in zip(wanted, found.values, strict=True)
    ]
    missed = [f"{name} is off by {off:.1%} of it" for name, off in found.off.items() if off > 0]
    return "; ".join([*values, *(missed or ["every target holds"])])
