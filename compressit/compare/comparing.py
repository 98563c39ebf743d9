"""Runs -> Comparison: each candidate against the base, on the same examples, and the gates judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compressit import metrics
from compressit.compare import Compared, Comparison, Difference, comparable, differences, gates, judging
from compressit.compare.baseline import Baseline
from compressit.compare.runs import Run
from compressit.errors import IntegrityError
from compressit.metrics import Evidence, Kind, MetricConfig, Timings

Timed = Mapping[str, Mapping[int, Timings]]
"""By a run's name and batch size: its artifact timed side by side with the base's."""


def runs(
    base: Run, candidates: Sequence[Run], asked: gates.Written | None = None, timed: Timed | None = None
) -> Comparison:
    """Compare runs in pairs.

    Args:
        base: What the others are held against.
        candidates: The others.
        asked: Gates that each must pass.
        timed: Timings of the artifacts side by side; None where they were not timed, and gates on them can't be judged.

    Raises:
        IntegrityError: two runs saw different data, or other tokens of it, or share no metric.
        RecipeProblems: a gate doesn't fit the runs.
    """
    before = base.evidence()
    found = []
    for candidate in candidates:
        shared, notes = _checked(base, candidate, asked)
        after = candidate.evidence()
        comparable.refuse_other_examples((base.name, candidate.name), before, after)
        timings = (timed or {}).get(candidate.name, {})
        one, other = _timed(before, after, timings)
        found.append(
            Compared(
                side=candidate.side,
                differences=tuple(_difference(config, base, candidate, one, other) for config in shared.values()),
                verdicts=tuple(
                    judging.in_pairs(gate, shared[gate.metric], candidate.artifact.name, other, one)
                    for gate in (asked.gates if asked else ())
                ),
                notes=(*notes, *_notes(base, candidate, shared, bool(timings))),
                **_alike(one, other),
            )
        )
    return Comparison(base=base.side, candidates=tuple(found), examples=len(before.predictions), gates=_named(asked))


def check(base: Run, candidates: Sequence[Run], asked: gates.Written | None = None) -> None:
    """Raise as `runs` does where the reports and recipes show already that runs can't be compared."""
    for candidate in candidates:
        _checked(base, candidate, asked)


def check_gates(base: Baseline, asked: gates.Written) -> None:
    """Raise RecipeProblems where a gate can't be judged against a baseline file, as none on a timing can."""
    gates.check_with_file(asked, {key: base.metric(key) for key in base.figures})


def with_baseline(base: Baseline, candidates: Sequence[Run], asked: gates.Written | None = None) -> Comparison:
    """Compare runs with the figures of a baseline file; raises as `runs` and `check_gates` do."""
    if asked is not None:
        check_gates(base, asked)
    found = []
    for candidate in candidates:
        names = (base.side.name, candidate.name)
        comparable.refuse(names, base.judged, comparable.facts(candidate))
        shared, unlike = _shared(names, {key: figure.measuring for key, figure in base.figures.items()}, candidate)
        if asked is not None:
            gates.check(asked, shared, unlike)
        evidence = candidate.evidence()
        found.append(
            Compared(
                side=candidate.side,
                differences=tuple(_from_file(config, base, candidate, evidence) for config in shared.values()),
                verdicts=tuple(
                    judging.against(gate, shared[gate.metric], candidate.artifact.name, evidence, base)
                    for gate in (asked.gates if asked else ())
                ),
                notes=(*unlike.values(), *_untimed(shared, judging.NOT_TIMED)),
            )
        )
    return Comparison(base=base.side, candidates=tuple(found), examples=base.examples, gates=_named(asked))


def _checked(base: Run, candidate: Run, asked: gates.Written | None) -> tuple[dict[str, MetricConfig], tuple[str, ...]]:
    names = (base.name, candidate.name)
    comparable.refuse(names, comparable.facts(base), comparable.facts(candidate))
    shared, unlike = _shared(names, {key: comparable.measuring(base, key) for key in base.metrics}, candidate)
    if asked is not None:
        gates.check(asked, shared, unlike)
    return shared, tuple(unlike.values())


def _shared(
    names: tuple[str, str], base: Mapping[str, Mapping[str, object]], candidate: Run
) -> tuple[dict[str, MetricConfig], dict[str, str]]:
    """Give the metrics that both have, measured in the same way, and say of others that both have why not."""
    shared, unlike = {}, {}
    for key, config in candidate.metrics.items():
        if key not in base:
            continue
        why = comparable.unlike(key, base[key], comparable.measuring(candidate, key))
        if why is None:
            shared[key] = config
        else:
            unlike[key] = why
    if not shared:
        raise IntegrityError(
            f"{names[0]} and {names[1]} share no metric",
            hint="; ".join(unlike.values()) or "name the same metrics in both recipes",
        )
    return shared, unlike


def _timed(before: Evidence, after: Evidence, timings: Mapping[int, Timings]) -> tuple[Evidence, Evidence]:
    own = {size: replace(each, artifact=each.baseline) for size, each in timings.items()}
    return replace(before, timings=own), replace(after, timings=timings)


def _difference(config: MetricConfig, base: Run, candidate: Run, before: Evidence, after: Evidence) -> Difference:
    if metrics.load(config.metric).KIND is Kind.TIMED and not set(config.batch_sizes()) <= after.timings.keys():
        return differences.apart(config, _reported(base, config.key), _reported(candidate, config.key))
    return differences.paired(config, after, before)


def _from_file(config: MetricConfig, base: Baseline, candidate: Run, evidence: Evidence) -> Difference:
    before, after = base.figures[config.key].value, _reported(candidate, config.key)
    kind = metrics.load(config.metric).KIND
    if kind is Kind.EXACT and before is not None and after is not None:
        return differences.exact(config, after, before)
    around = None if kind is Kind.TIMED else judging.difference(config, evidence, base)[1]
    found = differences.apart(config, before, after, around)
    return found.model_copy(update={"paired": kind is not Kind.TIMED and base.right(config.key) is not None})


def _alike(before: Evidence, after: Evidence) -> dict[str, float]:
    """Say how alike two artifacts answer, where their answers were kept one by one."""
    kind, found = type(before.predictions), {}
    if kind.PAIRED or not len(before.predictions):
        return {}
    count = before.predictions.weights.sum()
    if kind in metrics.load("agreement").READS:
        found["agreement"] = float(after.predictions.agreements(before.predictions).sum() / count)
    if kind in metrics.load("kl_divergence").READS:
        found["divergence"] = float(after.predictions.divergences(before.predictions).sum() / count)
    return found


def _reported(run: Run, key: str) -> float | None:
    return next((reading.value for reading in run.artifact.readings if reading.metric == key), None)


def _notes(base: Run, candidate: Run, shared: Mapping[str, MetricConfig], timed: bool) -> list[str]:
    found = [] if timed else list(_untimed(shared, "they were not timed side by side"))
    one, other = (run.finished.report.provenance.model.get("sha256") for run in (base, candidate))
    if one != other:
        found.append("the runs started from different models")
    return found


def _untimed(shared: Mapping[str, MetricConfig], why: str) -> tuple[str, ...]:
    keys = [key for key, config in shared.items() if metrics.load(config.metric).KIND is Kind.TIMED]
    return (f"{', '.join(keys)}: each as its own run measured it; {why}",) if keys else ()


def _named(asked: gates.Written | None) -> str | None:
    return asked.document.name if asked else None
