"""What is tried next, and which trials are on the front."""

import itertools
import random

from compressit.recipe import Range
from compressit.report import Outcome, Verdict
from compressit.search import choosing
from compressit.search.judging import Judged, Objective
from compressit.search.sampling import Proposal, in_order

RANGES = [
    Range(("steps", 0, "keep"), (1, 2, 3)),
    Range(("steps", 1, "rate"), (0.1, 0.2)),
    Range(("steps", 2, "t"), (1, 2)),
]


def proposals(*values):
    names = [each.name for each in RANGES]
    return [Proposal(number, dict(zip(names, own, strict=True))) for number, own in enumerate(values)]


def test_the_next_shares_most_first_steps_with_the_last():
    waiting, order = proposals((3, 0.1, 1), (1, 0.2, 2), (3, 0.2, 1), (1, 0.2, 1), (3, 0.1, 2)), []
    last = None
    while waiting:
        last = in_order(waiting, last, RANGES)
        waiting.remove(last)
        order.append(tuple(last.values.values()))
    changed = sum(one[0] != other[0] for one, other in itertools.pairwise(order))
    assert changed == 1, "every first step is done once"
    within = sum(one[:2] != other[:2] for one, other in itertools.pairwise(order))
    assert within == 2, "and so is every second one"


def judged(size, accuracy, holds=True, why=""):
    outcome = Outcome.PASS if holds else Outcome.INCONCLUSIVE
    verdict = Verdict(metric="m", artifact="a", bound="min", limit=0, unit="", value=0, low=0, high=0, outcome=outcome,
                      why="")  # fmt: skip
    values = () if why else (size, accuracy)
    return Judged({}, "", values, {"m": 0.0 if holds else 0.3}, verdicts=(verdict,), why=why)


def test_the_front_is_what_nothing_beats_among_those_that_hold():
    wanted = (Objective("size", least=True, timed=False), Objective("accuracy", least=False, timed=False))
    draw = random.Random(0)
    found = [judged(draw.randint(1, 6), draw.randint(1, 6), draw.random() < 0.7) for _ in range(40)]
    found += [judged(0, 9, holds=False), judged(0, 9, why="it died")]
    holding = [each for each in found if each.holds]
    best = {
        each.values
        for each in holding
        if not any(
            other.values != each.values and other.values[0] <= each.values[0] and other.values[1] >= each.values[1]
            for other in holding
        )
    }
    places = choosing.front(found, wanted)
    assert sorted(found[place].values for place in places) == sorted(best), "each point once"
    assert found[choosing.best(found, wanted)].values == min(best)
    assert choosing.best([each for each in found if not each.holds], wanted) is None
    assert choosing.nearest(found) is not None
    assert choosing.nearest([judged(0, 0, why="it died")]) is None
