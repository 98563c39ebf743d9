"""Two runs on the same examples: what differs for sure, what the gates say, and what can't be compared."""

import base64
import json
import math
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest

from compressit.compare import Sure, baseline, comparing, gates, runs, tables
from compressit.errors import IntegrityError, RecipeError
from compressit.metrics import Timings
from compressit.recipe import RecipeProblems
from compressit.report import Outcome


@pytest.fixture
def opened(finished):
    def found(*names):
        return runs.open_all([finished[name] for name in names])

    return found


@pytest.fixture
def gated(write):
    def made(*lines):
        return gates.load(write("gates:\n" + "".join(f"  - {line}\n" for line in lines), "gates.yaml"))

    return made


def by_metric(compared):
    return {each.metric: each for each in compared.differences}


def test_a_true_difference_is_sure_and_flips_are_counted(opened):
    three, one = opened("three", "one")
    found = comparing.runs(three, [one])
    rows = by_metric(found.candidates[0])
    accuracy = rows["accuracy"]
    said = [run.evidence().predictions for run in (three, one)]
    right = [each.choices == each.labels for each in said]
    assert accuracy.base == right[0].mean()
    assert accuracy.candidate == right[1].mean()
    assert (accuracy.lost, accuracy.gained) == ((right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum())
    assert accuracy.sure is Sure.WORSE
    assert accuracy.low < accuracy.difference < accuracy.high < 0
    assert rows["f1"].sure is Sure.WORSE
    assert rows["size"].sure is Sure.BETTER
    assert rows["kl_divergence"].sure is Sure.WORSE
    assert found.candidates[0].agreement == (said[0].choices == said[1].choices).mean()
    assert found.candidates[0].divergence > 0.05
    assert found.exit_code == 0  # nothing was asked


def test_runs_that_differ_by_nothing_show_no_sure_difference(opened):
    three, same = opened("three", "same")
    found = comparing.runs(three, [same])
    rows = by_metric(found.candidates[0])
    assert {each.sure for each in rows.values()} == {Sure.UNSURE}
    assert rows["accuracy"].low < 0 < rows["accuracy"].high  # identical answers prove no equality
    assert found.candidates[0].agreement == 1


def test_gates_pass_fail_or_stay_open(opened, gated):
    three, one, same = opened("three", "one", "same")
    asked = gated(
        "{metric: accuracy, max_drop: 0.03}", "{metric: size, max_ratio: 0.9}", "{metric: f1, min_ratio: 0.5}"
    )
    found = comparing.runs(three, [one, same], asked)
    outcomes = [[verdict.outcome for verdict in each.verdicts] for each in found.candidates]
    assert outcomes == [[Outcome.FAIL, Outcome.PASS, Outcome.PASS], [Outcome.PASS, Outcome.FAIL, Outcome.PASS]]
    assert found.exit_code == 3
    tight = comparing.runs(three, [same], gated("{metric: accuracy, max_drop: 0.001}"))
    verdict = tight.candidates[0].verdicts[0]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.needed > 300
    assert tight.exit_code == 4


def test_latency_is_judged_by_timings_side_by_side_only(opened, gated):
    three, one = opened("three", "one")
    asked = gated("{metric: latency, max_ratio: 1.0}")
    without = comparing.runs(three, [one], asked)
    assert without.candidates[0].verdicts[0].outcome is Outcome.INCONCLUSIVE
    assert "side by side" in without.candidates[0].verdicts[0].why
    draw = np.random.default_rng(0)
    base = 0.01 * np.exp(0.02 * draw.normal(size=40))
    again = base * np.exp(0.02 * draw.normal(size=40))
    timed = {"one": {4: Timings(4, base * 0.5, base, again, base)}}
    found = comparing.runs(three, [one], asked, timed).candidates[0]
    assert found.verdicts[0].outcome is Outcome.PASS
    assert by_metric(found)["latency"].ratio == pytest.approx(0.5)
    assert by_metric(found)["latency"].sure is Sure.BETTER
    noisy = {"one": {4: Timings(4, base * 0.97, base, base * 1.3, base)}}
    assert comparing.runs(three, [one], asked, noisy).candidates[0].verdicts[0].outcome is Outcome.INCONCLUSIVE


def test_other_data_is_refused_with_the_difference(opened):
    three, other = opened("three", "other")
    with pytest.raises(IntegrityError, match="examples: 300 and 200"):
        comparing.runs(three, [other])


def test_a_metric_set_differently_is_not_compared(opened, monkeypatch):
    three, same = opened("three", "same")
    changed = same.metrics["f1"].model_copy(update={"average": "micro"})
    other = replace(same, metrics={**same.metrics, "f1": changed})
    found = comparing.runs(three, [other]).candidates[0]
    assert "f1" not in by_metric(found)
    assert any("average: macro" in note and "average: micro" in note for note in found.notes)


def test_a_metric_of_another_version_is_not_compared(opened, gated):
    three, same = opened("three", "same")
    report = same.finished.report
    newer = report.provenance.model_copy(update={"metrics": {**report.provenance.metrics, "accuracy": 2}})
    report = report.model_copy(update={"provenance": newer})
    other = replace(same, finished=replace(same.finished, report=report))
    found = comparing.runs(three, [other]).candidates[0]
    assert "accuracy" not in by_metric(found)
    assert any("version: 1" in note and "version: 2" in note for note in found.notes)
    for compare in (lambda: comparing.runs(three, [other], gated("{metric: accuracy, max_drop: 0.1}")),
                    lambda: comparing.with_baseline(baseline.of(three), [other],
                                                    gated("{metric: accuracy, max_drop: 0.1}"))):  # fmt: skip
        with pytest.raises(IntegrityError, match=r"gates\.yaml:2:\d+: accuracy .* version: 1 .* version: 2"):
            compare()


def test_a_run_whose_files_changed_is_refused(finished, tmp_path):
    copy = shutil.copytree(finished["three"], tmp_path / "three")
    (copy / "report.json").write_text((copy / "report.json").read_text().replace("three", "threo", 1))
    with pytest.raises(IntegrityError, match=r"report\.json"):
        runs.open_all([copy])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{metric: acuracy, max_drop: 0.1}", "did you mean 'accuracy'"),
        ("{metric: accuracy, max_drop: 2}", "can't fall by 2"),
        ("{metric: latency, max_drop: 0.1}", "makes no sense"),
        ("{metric: size, max: 70}", "needs a unit"),
        ("{metric: agreement, max_drop: 0.1}", "compares with the original already"),
    ],
)
def test_a_gate_that_makes_no_sense_is_named_with_its_place(opened, gated, line, said):
    three, same = opened("three", "same")
    with pytest.raises(RecipeProblems, match=r"gates\.yaml:2:") as problem:
        comparing.runs(three, [same], gated(line))
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gate: []", "unknown key 'gate'; did you mean 'gates'"),
        ("gates: []", "there is no gate"),
        ("[1]", "mapping"),
        ("gates: [{metric: accuracy}]", "exactly one of"),
        ("gates: [{metric: accuracy, max_drop: 0.1, artifact: onnx}]", "names no artifact"),
        ("gates: [{metric: accuracy, min_drop: 0.1}]", "unknown key 'min_drop'; did you mean 'm"),
        ("gates: [{metric: accuracy, max_drop: 1%}]", 'should be a number, not "1%"'),
    ],
)
def test_a_wrong_gates_file_is_an_error_with_its_place(write, text, said):
    with pytest.raises(RecipeProblems) as problem:
        gates.load(write(text, "gates.yaml"))
    assert said in str(problem.value)


def test_a_gates_file_that_is_not_there_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no such file") as caught:
        gates.load(tmp_path / "none.yaml")
    assert "is a gates file" in caught.value.hint


def test_names(finished, tmp_path):
    copy = shutil.copytree(finished["three"], tmp_path / "three")
    three, other = runs.open_all([finished["three"], copy])
    assert three.name != other.name
    with pytest.raises(RecipeError, match="named twice"):
        runs.open_all([copy, copy])
    with pytest.raises(RecipeError, match="has no artifact 'onx'"):
        runs.open_all([copy], "onx")


def test_a_baseline_file_is_as_good_as_the_run_for_right_answers(opened, gated, tmp_path):
    three, one, same = opened("three", "one", "same")
    file = tmp_path / "baseline.json"
    file.write_text(baseline.text(baseline.of(three)))
    assert len(file.read_text()) < 8_000
    read = baseline.read(file)
    asked = gated("{metric: accuracy, max_drop: 0.02}", "{metric: size, max_ratio: 1}")
    found = comparing.with_baseline(read, [one, same], asked)
    paired = comparing.runs(three, [one, same], asked)
    for mine, its in zip(found.candidates, paired.candidates, strict=True):
        own, other = by_metric(mine)["accuracy"], by_metric(its)["accuracy"]
        assert (own.difference, own.low, own.high) == pytest.approx((other.difference, other.low, other.high))
        assert own.paired
        assert mine.verdicts[0].outcome == its.verdicts[0].outcome
        f1 = by_metric(mine)["f1"]
        assert not f1.paired
    f1 = by_metric(found.candidates[1])["f1"]
    assert f1.low < 0 < f1.high  # in pairs there is no difference at all
    assert [verdict.outcome for verdict in found.candidates[0].verdicts][1] is Outcome.PASS


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{metric: latency, max_ratio: 1.05}", "a gate on latency can't be judged against a baseline"),
        ("{metric: latency, max: 5 ms}", "put the ratio into the recipe's own targets"),
        ("{metric: acuracy, max_drop: 0.1}", "holds no metric 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_a_gate_that_no_baseline_can_decide_is_refused(opened, gated, line, said):
    three, same = opened("three", "same")
    with pytest.raises(RecipeProblems, match=r"gates\.yaml:2:") as problem:
        comparing.with_baseline(baseline.of(three), [same], gated(line))
    assert said in str(problem.value)


def test_an_exact_figure_is_shown_alike_with_a_baseline_and_between_runs(opened):
    three, one, same = opened("three", "one", "same")
    files = comparing.with_baseline(baseline.of(three), [one, same]).candidates
    for mine, its in zip(files, comparing.runs(three, [one, same]).candidates, strict=True):
        for metric in ("size", "parameters"):
            assert by_metric(mine)[metric] == by_metric(its)[metric]
        assert not any("size" in note and "bounds are wider" in note for note in tables.notes(mine))
    rows = {row[0]: row for row in tables.differences(files[1])}
    assert rows["size"][3:] == ["1x", "same"]
    assert rows["accuracy"][4] == rows["f1"][4] == "no sure difference"  # of other examples it may not be the same


def test_without_gates_the_headline_is_about_the_comparison(opened):
    three, one, same = opened("three", "one", "same")
    found = tables.headline(comparing.runs(three, [one, same]))
    assert "No gates: nothing was judged. one is surely worse in accuracy, f1, " in found
    assert " and surely better in size, parameters; same is not surely worse or better in anything" in found


def test_a_baseline_that_was_tampered_with_is_refused(opened, tmp_path):
    (three,) = opened("three")
    file = tmp_path / "baseline.json"
    file.write_text(baseline.text(baseline.of(three)))
    tree = json.loads(file.read_text())
    for change, said in (
        ({"schema_version": 9}, "version 9"),
        ({"figures": {"x": {**tree["figures"]["size"], "measuring": {"metric": "x"}}}}, "no metric"),
        ({"more": 1}, "not as expected: more: Extra inputs"),
        ({"figures": {}}, "holds no figure"),
    ):
        file.write_text(json.dumps({**tree, **change}))
        with pytest.raises(IntegrityError, match=said):
            baseline.read(file)
    packed, size = tree["figures"]["accuracy"]["right"], tree["figures"]["size"]
    for metric, change, said in (
        ("accuracy", {"right": "%%%"}, "can't be read"),
        ("accuracy", {"right": packed[:12]}, "not those of its figure"),
        ("accuracy", {"right": base64.b64encode(zlib.compress(b"\xff" * 38)).decode()}, "not those of its figure"),
        ("accuracy", {"right": base64.b64encode(zlib.compress(b"\xff" * 10_000_000)).decode()}, "not those of its"),
        ("accuracy", {"value": None}, "not those of its figure"),
        ("accuracy", {"low": 0.9, "high": 0.1}, "lower bound of accuracy is above"),
        ("size", {"value": math.nan}, "NaN is no number"),
        ("size", {"value": math.inf}, "Infinity is no number"),
    ):
        figures = {**tree["figures"], metric: {**tree["figures"][metric], **change}}
        file.write_text(json.dumps({**tree, "figures": figures}))
        with pytest.raises(IntegrityError, match=said):
            baseline.read(file)
    for text in ("", json.dumps(tree)[:400], "[" * 100_000):
        file.write_text(text)
        with pytest.raises(IntegrityError, match="can't be read"):
            baseline.read(file)
    for judged in ({}, {**tree["judged"], "examples": "many"}, {**tree["judged"], "examples": -1}):
        file.write_text(json.dumps({**tree, "judged": judged, "figures": {"size": size}}))
        with pytest.raises(IntegrityError, match="can't be compared"):
            comparing.with_baseline(baseline.read(file), [three])


def test_what_a_comparison_says_of_itself_is_whole(opened):
    three, one = opened("three", "one")
    found = comparing.runs(three, [one])
    again = type(found).model_validate_json(found.model_dump_json())
    assert again == found
