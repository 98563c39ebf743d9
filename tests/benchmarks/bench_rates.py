"""How often each bound errs: simulated runs of a known true loss, judged as verdicts are, beside what naive gates say.

    python tests/benchmarks/bench_rates.py [--trials 150] [--seed 0] [--only latency]

The true loss is none, half of what is allowed, all of it, and a point more. A pass at all of it or more is a false one,
which a bound gives one time in twenty; a point threshold passes what looks good enough, and "not significantly worse"
whatever isn't surely worse (5%, one-sided). `make bench` runs it. It asserts nothing; it prints.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from compressit.metrics._correlation import of_ranks
from compressit.report import Outcome, statistics
from compressit.report.bounds import paired_median_ratio
from compressit.report.statistics import Interval
from compressit.report.verdicts import decide

RESAMPLES, FEWER = 1000, 400
"""Resamples of a bootstrap, fewer than a run takes; fewer still of ranks, which are slow."""
BEYOND, TRIALS = 0.01, 150


class Judged(NamedTuple):
    """What a trial found: by how much the candidate is worse, as measured, and bounds of that."""

    loss: float
    bound: Interval


class Case(NamedTuple):
    """A bound to try.

    Attributes:
        allowed: The loss that a target allows.
        trial: Simulates a run of a true loss and measures that loss.
        times: How many times as often it is tried as the slowest ones.
    """

    name: str
    how: str
    allowed: float
    trial: Callable[[np.random.Generator, float, int], Judged]
    times: int = 1


def worse(low_is: Interval) -> Interval:
    """Turn bounds of candidate - reference into those of the loss."""
    return Interval(-low_is.high, -low_is.low)


def accuracy(examples: int, discordant: float = 0.06) -> Callable[[np.random.Generator, float, int], Judged]:
    """Right answers that differ on a share of the examples, more of them lost than gained by the true loss."""

    def trial(draw: np.random.Generator, loss: float, seed: int) -> Judged:
        what = draw.choice(3, size=examples, p=[1 - discordant, (discordant - loss) / 2, (discordant + loss) / 2])
        candidate, reference = what != 2, what != 1
        return Judged(
            float(reference.mean() - candidate.mean()), worse(statistics.paired_difference(candidate, reference))
        )

    return trial


def answer_f1(draw: np.random.Generator, loss: float, seed: int) -> Judged:
    """F1 of 1,000 answers: mostly all or nothing, sometimes half; some questions fare otherwise by another model."""
    reference = draw.choice([0.0, 0.5, 1.0], size=1000, p=[0.1, 0.2, 0.7])
    # Of those that are right, so many lose all; some of those that are half right become right.
    gains = 0.03
    lost = (reference == 1) & (draw.random(1000) < (loss + 0.2 * gains / 2) / 0.7)
    gained = (reference == 0.5) & (draw.random(1000) < gains)
    candidate = np.where(lost, 0.0, np.where(gained, 1.0, reference))
    bound = statistics.paired_mean_difference(candidate, reference, seed=seed)
    return Judged(float(reference.mean() - candidate.mean()), worse(bound))


def entity_f1(draw: np.random.Generator, loss: float, seed: int) -> Judged:
    """F1 over the entities of 1,000 sentences, whole sentences drawn: in some of them more goes wrong than in others.

    What is missed is taken for something else, so that as many are found as there are, and F1 is the share of hits.
    """
    missed, regained = 0.08, 0.2
    entities = draw.poisson(1.5, size=1000)
    hard, harder = draw.gamma(2.0, 0.5, size=(2, 1000))
    hits = entities - draw.binomial(entities, np.minimum(missed * hard, 1))
    share = (loss + missed * regained) / (1 - missed)
    own = hits - draw.binomial(hits, np.minimum(share * harder, 1)) + draw.binomial(entities - hits, regained)
    sums = np.stack([own, hits, entities], axis=-1).astype(np.float64)

    def found(rows: np.ndarray) -> float:
        after, before, there = sums[rows].sum(0)
        return float(2 * after / (there + there) - 2 * before / (there + there))

    bound = statistics.resampled(found, 1000, seed=seed, resamples=RESAMPLES)
    return Judged(-found(np.arange(1000)), worse(bound))


def spearman(draw: np.random.Generator, loss: float, seed: int) -> Judged:
    """Rank correlation of 500 pairs: Gaussian, where that of ranks is 6 / pi * asin(r / 2)."""
    scores, shared = draw.standard_normal((2, 500))

    def said(rank: float) -> np.ndarray:
        r = 2 * np.sin(np.pi * rank / 6)
        own = np.sqrt(0.9) * shared + np.sqrt(0.1) * draw.standard_normal(500)
        return r * scores + np.sqrt(1 - r * r) * own

    reference, candidate = said(0.85), said(0.85 - loss)

    def found(rows: np.ndarray) -> float:
        return of_ranks(candidate[rows], scores[rows]) - of_ranks(reference[rows], scores[rows])

    return Judged(-found(np.arange(500)), worse(statistics.resampled(found, 500, seed=seed, resamples=FEWER)))


def perplexity(draw: np.random.Generator, loss: float, seed: int) -> Judged:
    """Perplexity over that of the reference, of 200 documents of unlike lengths, whole documents drawn."""
    tokens = np.ceil(draw.lognormal(5.0, 0.8, size=200))
    reference = tokens * draw.normal(3.0, 0.4, size=200)
    sums = np.stack([reference + tokens * draw.normal(np.log1p(loss), 0.06, size=200), reference, tokens], axis=-1)

    def found(rows: np.ndarray) -> float:
        own, other, count = sums[rows].sum(0)
        return float(np.exp((own - other) / count)) - 1

    return Judged(found(np.arange(200)), statistics.resampled(found, 200, seed=seed, resamples=RESAMPLES))


def latency(draw: np.random.Generator, loss: float, seed: int) -> Judged:
    """Latency over that of the reference: 41 rounds in random order, on a machine that slows down by 1% a round.

    The reference runs twice: how far these two lie apart widens the bound, as in a run.
    """
    rounds = 41
    order = np.argsort(draw.random((rounds, 3)), axis=-1)
    when = 3 * np.arange(rounds)[:, None] + order
    seconds = 0.01 * 1.0033**when * draw.lognormal(0.0, 0.03, size=(rounds, 3)) * [1 + loss, 1.0, 1.0]
    candidate, reference, again = seconds.T
    bound = statistics.paired_time_ratio(candidate, reference, seed=seed)
    noise = statistics.noise(reference, again, seed=seed)
    return Judged(
        paired_median_ratio(candidate, reference) - 1, Interval(bound.low / noise - 1, bound.high * noise - 1)
    )


CASES = [
    Case("accuracy, exact match; 872 examples", "score bound", 0.01, accuracy(872), 5),
    Case("the same; 4,000 examples", "score bound", 0.01, accuracy(4000), 5),
    Case("answer F1; 1,000 questions", "bootstrap of the mean", 0.01, answer_f1, 5),
    Case("entity F1; 1,000 sentences", "cluster bootstrap", 0.01, entity_f1),
    Case("Spearman; 500 pairs", "bootstrap", 0.01, spearman),
    Case("perplexity; 200 documents", "cluster bootstrap", 0.01, perplexity, 5),
    Case("latency; 41 rounds", "median ratio, A/A noise", 0.05, latency, 5),
]


def rates(case: Case, trials: int, seed: int) -> list[list[str]]:
    """Judge so many runs of each true loss; give a row for each."""
    rows = []
    for loss in (0.0, case.allowed / 2, case.allowed, case.allowed + BEYOND):
        draw = np.random.default_rng([seed, round(1e6 * loss)])
        found = [case.trial(draw, loss, number) for number in range(trials * case.times)]
        outcomes = [decide(each.loss, each.bound, case.allowed, least=False) for each in found]
        shares = [np.mean([outcome is kind for outcome in outcomes]) for kind in Outcome]
        shares += [np.mean([each.loss <= case.allowed for each in found])]
        shares += [np.mean([each.bound.low <= 0 for each in found])]
        rows.append([case.name, case.how, f"{case.allowed:.1%}", f"{loss:.1%}", *(f"{share:.2f}" for share in shares)])
    return rows


def table(trials: int, seed: int, only: str = "") -> str:
    """Write all rates as a Markdown table; a case is tried `trials` times or, if it is quick, five times as often."""
    head = ["metric", "bound", "allowed", "true loss", "pass", "fail", "can't tell", "point passes", "n.s. passes"]
    before, statistics.RESAMPLES = statistics.RESAMPLES, RESAMPLES
    try:
        rows = [row for case in CASES if only in case.name for row in rates(case, trials, seed)]
    finally:
        statistics.RESAMPLES = before
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def test_rates():
    print(f"\n{table(TRIALS, 0)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    asked = parser.parse_args()
    print(table(asked.trials, asked.seed, asked.only))
