"""What a step gained, and when it is said to have gained nothing."""

from dataclasses import replace

import pytest

from compressit import metrics
from compressit.report import Provenance, Report, StepRecord, markdown, tables
from compressit.report.waterfall import Stage, gained
from tests.report.test_tables import artifact
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


@pytest.mark.parametrize("same", [True, False])
def test_another_runtimes_time_and_memory_are_no_gain_of_an_export(same):
    timed = [*METRICS, metrics.load("peak_memory").Config(metric="peak_memory")]
    before, after = stage(size=100), stage(size=25, latency=0.5)
    before, after = (replace(s, evidence=replace(s.evidence, memory=m)) for s, m in ((before, 900), (after, 300)))
    found = gained(after, before, timed, same_runtime=same)
    assert found == (("size", "latency", "peak_memory") if same else ("size",))


def exported(*gains, steps=()):
    """Make a report of a checkpoint and of exports, by what each gained."""
    base = artifact(None, 1.0)
    made = [base.model_copy(update={"name": f"onnx-{n}", "path": f"onnx-{n}", "runtime": "onnxruntime",
                                    "gained": found})
            for n, found in enumerate(gains)]  # fmt: skip
    origin = Provenance(created="", seconds=0, recipe_sha256="", overrides=(), seed=0, device="cpu", model={}, data={},
                        versions={}, hardware={})  # fmt: skip
    return Report(name="r", task="text-classification", provenance=origin, original=base, steps=steps,
                  artifacts=(base, *made), verdicts=())  # fmt: skip


def test_the_table_says_what_an_export_gained_and_one_that_gained_nothing_is_named():
    step = StepRecord(step="distill", config={}, notes={}, seconds=0, parameters=1, gained=("accuracy",))
    report = exported(("size",), (), None, steps=(step,))
    _, rows = tables.waterfall(report)
    assert [row[-1] for row in rows] == ["", "accuracy", "size", "nothing", ""]
    (said,) = tables.idle(report)
    assert said.startswith("export onnx-1 gained nothing that can be told from the checkpoint")
    assert "of time and memory, which onnxruntime has a part in, nothing is said" in said


def test_stages_are_shown_where_some_were_measured():
    unmeasured = StepRecord(step="distill", config={}, notes={}, seconds=0, parameters=1)
    assert tables.measured_by_stage(exported(("size",)))
    assert not tables.measured_by_stage(exported(("size",), steps=(unmeasured,)))
    assert not tables.measured_by_stage(exported())


def test_what_a_step_says_of_the_figures_stands_beside_them():
    notes = {"layers": 4, "caveat": "the figures leave the rounding out"}
    report = exported(steps=(StepRecord(step="round", config={}, notes=notes, seconds=0, parameters=1),))
    assert tables.reservations(report) == ["step 1 (round): the figures leave the rounding out"]
    assert tables.steps(report)[0][-1] == "layers 4"
    said = "\nstep 1 (round): the figures leave the rounding out.\n"
    assert said in markdown.document(report)
    assert said in markdown.card(report, "checkpoint", "", "")
