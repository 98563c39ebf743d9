"""What a step gained, and when it is said to have gained nothing."""

import pytest

from compressit import metrics
from compressit.report.waterfall import Stage, gained
from tests.report.test_verdicts import evidence, predictions, timings

METRICS = [metrics.load(name).Config(metric=name) for name in ("accuracy", "latency", "size", "parameters")]


def stage(right=1800, *, latency=1.0, size=100, left=1.0, parameters=1000):
    timing = timings(latency, seed=int(latency * 100))
    before = evidence(predictions(1800), timing=timings())
    return Stage(evidence(predictions(right), timing=timing, size=size, parameters=parameters), before, left)


ORIGINAL = Stage(evidence(predictions(1800), timing=timings()), None, 1.0)


@pytest.mark.parametrize(
    ("after", "before", "named"),
    [
        (stage(), ORIGINAL, ()),
        (stage(1700, size=50), ORIGINAL, ("size",)),
        (stage(left=0.5, latency=0.6), ORIGINAL, ("multiplications", "latency")),
        (stage(1850), ORIGINAL, ("accuracy",)),
        (stage(1801), ORIGINAL, ()),
        (stage(size=50, latency=0.5), stage(size=50, latency=0.5), ()),
        (stage(size=50, latency=0.4), stage(size=50, latency=0.5), ("latency",)),
        (stage(size=50, latency=0.5), stage(size=50, latency=0.4), ()),
        (stage(1700, size=50), stage(1600, size=60), ("size", "accuracy")),
        (stage(parameters=900), ORIGINAL, ("parameters",)),
        (stage(left=None), ORIGINAL, ()),
    ],
)
def test_a_gain_is_what_is_surely_better_than_just_before(after, before, named):
    assert gained(after, before, METRICS) == named
