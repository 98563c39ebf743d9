"""Optuna proposes what to try; what it has learned lies in a journal in the search's folder."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import machine
from compressit.recipe import Range
from compressit.search.judging import Judged, Objective

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.log"
WHY = "why"
"""What a trial that died is marked with; one that was killed with the search has no such mark."""
STARTUP = 10
"""Proposals that are made blindly, to have something to learn from."""


@dataclass(frozen=True)
class Proposal:
    """What to try next.

    Attributes:
        number: Of the trial, from 0.
        values: For each range, by its name.
    """

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """A trial that has ended.

    Attributes:
        why: What it died of; None where it didn't.
    """

    values: Mapping[str, Any]
    why: str | None


class Study:
    """What was tried and what came of it, as Optuna keeps it."""

    def __init__(
        self, folder: Path, ranges: Sequence[Range], wanted: Sequence[Objective], sampler: str, seed: int
    ) -> None:
        machine.need({"optuna": "search"})
        import optuna
        from optuna.storages.journal import JournalFileBackend

        logging.getLogger("optuna").setLevel(logging.ERROR)
        self._ranges = ranges
        self._asked: dict[int, optuna.trial.Trial] = {}
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            storage=storage,
            # What was proposed before must not be proposed again after a restart.
            sampler=_sampler(sampler, seed, storage),
            study_name="search",
            directions=["minimize" if each.least else "maximize" for each in wanted],
            load_if_exists=True,
        )
        self._take_up()

    def ended(self) -> list[Past]:
        """List the trials that have ended, as they ended: they were told by that number, and not in the order asked."""
        import optuna

        over = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state == optuna.trial.TrialState.COMPLETE or WHY in trial.user_attrs
        ]
        over.sort(key=lambda trial: trial.datetime_complete or datetime.datetime.max)
        return [
            Past({each.name: _value(each, trial.params[each.name]) for each in self._ranges}, trial.user_attrs.get(WHY))
            for trial in over
        ]

    def ask(self) -> Proposal:
        """Propose what to try next."""
        trial = self._study.ask()
        self._asked[trial.number] = trial
        return Proposal(trial.number, {each.name: _value(each, _suggested(trial, each)) for each in self._ranges})

    def tell(self, proposal: Proposal, found: Judged) -> None:
        """Learn from a trial that has ended."""
        import optuna

        trial = self._asked.pop(proposal.number)
        if found.why:
            trial.set_user_attr(WHY, found.why)
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        for name, off in found.off.items():
            trial.set_constraint(name, off)
        self._study.tell(trial, list(found.values))

    def _take_up(self) -> None:
        """Propose again what was being tried when the search was killed."""
        import optuna

        for trial in self._study.get_trials(False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)


def in_order(waiting: Iterable[Proposal], last: Proposal | None, ranges: Sequence[Range]) -> Proposal:
    """Choose of several proposals the one that shares most first steps with the last: those are in the cache."""

    def shared(proposal: Proposal) -> int:
        alike = [last is not None and proposal.values[each.name] == last.values[each.name] for each in ranges]
        return alike.index(False) if False in alike else len(alike)

    # Among equals those that begin alike lie side by side, so that they follow one another later.
    return min(waiting, key=lambda each: (-shared(each), [str(each.values[one.name]) for one in ranges], each.number))


def _suggested(trial: optuna.trial.Trial, each: Range) -> Any:
    if each.choices:
        # They go by their place: Optuna knows plain values only.
        return trial.suggest_categorical(each.name, tuple(range(len(each.choices))))
    if each.whole:
        return trial.suggest_int(each.name, int(each.low), int(each.high), log=each.log)
    return trial.suggest_float(each.name, each.low, each.high, log=each.log)


def _value(each: Range, suggested: float) -> Any:
    return each.choices[int(suggested)] if each.choices else each.rounded(suggested)


def _sampler(name: str, seed: int, storage: Any) -> Any:
    import optuna

    begun = sum(len(storage.get_all_trials(study._study_id)) for study in storage.get_all_studies())
    seed = (seed + begun) % 2**32
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
