"""A saved artifact on fresh data: does it hold what its report says?"""

import json
import random
import shutil
from dataclasses import replace

import pytest

from compressit.errors import DataError, ExitCode, RecipeError
from compressit.progress import Silent
from compressit.report import Outcome
from compressit.serving import drift, finished
from compressit.serving.drift import Wanted
from tests.conftest import sentences


def put(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def checked(done, tmp_path, measured_here):
    """Check the run's checkpoint on rows; in this process, for speed."""

    def run(rows, **wanted):
        file = put(tmp_path / "fresh.jsonl", rows)
        return drift.check(finished.opened(done), Wanted(data=str(file), artifact="checkpoint", **wanted), Silent())

    return run


def flipped(rows, every):
    return [{**row, "label": row["label"] ^ (n % every == 0)} for n, row in enumerate(rows)]


def test_fresh_rows_of_the_same_kind_pass_and_those_of_another_fail(checked):
    fresh = sentences(3000, 9)
    same = checked(fresh, max_drop=0.06)
    assert same.exit_code is ExitCode.OK, [verdict.why for verdict in same.verdicts]
    assert [verdict.metric for verdict in same.verdicts] == ["accuracy", "f1", "accuracy"]
    assert same.verdicts[2].bound == "min", "the recipe's own least value is judged on the fresh data, too"
    assert (same.examples, same.labelled) == (3000, True)
    other = checked(flipped(fresh, 2))
    assert other.exit_code is ExitCode.TARGET_MISSED
    assert [verdict.outcome for verdict in other.verdicts] == [Outcome.FAIL] * 3
    assert "95% sure of a drop of" in other.verdicts[0].why
    assert other.labels.p_value > 0.01, "the model says the same; it is the data that differ"


def test_few_rows_cannot_tell_and_how_many_would_is_said(checked, done):
    found = checked(sentences(40, 9), max_drop=0.1)
    assert found.exit_code is ExitCode.INCONCLUSIVE
    accuracy = found.verdicts[0]
    assert accuracy.outcome is Outcome.INCONCLUSIVE
    assert accuracy.needed > 40
    figure = found.figures[0]
    reported = json.loads((done / "report.json").read_text())["artifacts"][0]["readings"][0]
    assert (figure.reported, figure.reported_low, figure.reported_high) == (
        reported["value"], reported["low"], reported["high"])  # fmt: skip
    assert accuracy.value == pytest.approx(figure.value - figure.reported)
    assert accuracy.low < accuracy.value < accuracy.high
    near = checked(sentences(40, 9), max_drop=max(0.0, -accuracy.value) + 0.001).verdicts[0]
    assert near.needed is None
    assert "the report's own error is too large" in near.why


def test_of_a_handful_nothing_is_sure(checked):
    """Bounds on so few examples are wrong too often, for either verdict."""
    verdict = checked(flipped(sentences(9, 9), 1)).verdicts[0]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.needed == 10
    assert "of fewer than 10 examples no bound holds" in verdict.why


def test_the_runs_own_examples_are_counted(checked, sentiment):
    own = [json.loads(line) for line in (sentiment / "test.jsonl").read_text().splitlines()]
    found = checked([*own[:50], *sentences(30, 9)])
    assert found.shared == 50
    assert "50 of the 80 examples were in the run's evaluation split too" in found.notes
    bare = checked([{"sentence": row["sentence"]} for row in own[:50]])
    assert bare.shared == 50, "whatever their labels were"


def test_without_labels_only_what_the_model_says_is_compared(checked):
    draw = random.Random(0)
    rows = [{"sentence": " ".join(draw.choices(["bad", "awful", "dull"], k=4))} for _ in range(200)]
    found = checked(rows)
    assert found.exit_code is ExitCode.INCONCLUSIVE, "nothing was checked that would say that it holds"
    assert (found.labelled, found.verdicts, found.figures, found.shared) == (False, (), (), 0)
    assert "the data holds no label: quality was not checked" in found.notes[0]
    assert "--columns label=COLUMN; there are sentence" in found.notes[0]
    assert sum(found.labels.then.values()) == 300
    assert found.labels.now["NEGATIVE"] > 190
    assert found.labels.p_value < 1e-6
    assert 0.5 <= found.labels.confidence_now <= 1


def test_a_label_column_of_another_name_is_asked_for(checked):
    rows = [{"sentence": row["sentence"], "gold": row["label"]} for row in sentences(60, 9)]
    found = checked(rows)
    assert found.exit_code is ExitCode.INCONCLUSIVE
    assert "--columns label=COLUMN; there are sentence, gold" in found.notes[0]
    assert checked(rows, columns={"label": "gold"}).verdicts
    with pytest.raises(DataError, match="has no column 'golf' for label; did you mean 'gold'"):
        checked(rows, columns={"label": "golf"})


def test_rows_that_the_run_learned_from_are_counted(checked, done, sentiment, tmp_path, monkeypatch):
    opened = finished.opened(done)
    spec = opened.recipe.dataset.model_copy(update={"train": "train.jsonl", "calibration": "train.jsonl[:20]"})

    def again(**changed):
        recipe = opened.recipe.model_copy(update={"dataset": spec.model_copy(update=changed)})
        monkeypatch.setattr(finished, "opened", lambda folder: replace(opened, recipe=recipe))

    again()
    own = [json.loads(line) for line in (sentiment / "train.jsonl").read_text().splitlines()]
    fresh = sentences(30, 9)
    found = checked([*own[10:60], *fresh])
    assert found.seen == {"train": 50, "calibration": 10}
    assert "warning: 50 of the 80 rows are in the run's train split: figures on them flatter" in found.notes
    assert checked([{"sentence": row["sentence"]} for row in own[:50]]).seen["train"] == 50, "whatever their labels"
    clean = checked(fresh)
    assert clean.seen == {"train": 0, "calibration": 0}
    assert not [note for note in clean.notes if "warning" in note]
    again(train="gone.jsonl")
    assert "whether rows are in the run's train or calibration split is not known" in checked(fresh).notes[-1]
    again(path=str(tmp_path / "away"))
    assert "is no file or folder of this machine" in checked(fresh).notes[-1]


def test_columns_and_labels_may_have_other_names(checked):
    names = {0: "neg", 1: "pos"}
    rows = [{"review": row["sentence"], "label": names[row["label"]]} for row in sentences(60, 9)]
    found = checked(rows, columns={"text": "review"}, labels={"neg": "NEGATIVE", "pos": "POSITIVE"})
    assert found.figures[0].value > 0.7
    plain = checked([{"text": row["sentence"], "label": row["label"]} for row in sentences(60, 9)])
    assert plain.figures[0].value == found.figures[0].value, "a role's own name stands in for the recipe's column"
    with pytest.raises(DataError, match=r"the model has no label 'neg' \(line \d+ of .*fresh.jsonl\)") as caught:
        checked(rows, columns={"text": "review"})
    assert "say which is which: --labels 'neg=NEGATIVE,pos=POSITIVE'" in caught.value.hint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"review": "x", "label": 0}], "has no column 'sentence' for text"),
        ([{"sentence": "x", "label": 2}], r"label 2 is not one of the model's ids \(line 1 of .*fresh\.jsonl\)"),
        ([{"sentence": "x", "label": 1}, {"sentence": "y", "label": None}], r"line 2 of .*fresh\.jsonl has no label"),
        ([{"sentence": "x", "label": 1}, {"sentence": None, "label": 1}], r"line 2 of .*fresh\.jsonl: text is empty"),
    ],
)
def test_what_does_not_fit_is_named(checked, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        checked(rows)
    assert "recipe" not in str(caught.value)


def test_a_role_that_the_task_does_not_have_is_named(checked):
    with pytest.raises(RecipeError, match=r"--columns texd=.*: not a role of text-classification; did you mean 'text'"):
        checked([{"sentence": "x", "label": 1}], columns={"texd": "sentence"})


def test_limits_are_numbers(done, sentiment, cli):
    for option in ("--max-drop", "--max-ratio"):
        made = cli("check", done, "--data", sentiment / "test.jsonl", option, "inf")
        assert made.returncode == 2
        assert "expected a number, not infinity" in made.stderr


def test_a_split_is_written_as_in_recipes(checked):
    assert checked(sentences(60, 9), split="train[:20]").examples == 20
    with pytest.raises(RecipeError, match="--split 'train"):
        checked(sentences(5, 9), split="train[")


def test_the_command_says_it_by_its_exit_code(done, cli, tmp_path):
    file = put(tmp_path / "fresh.jsonl", flipped(sentences(200, 9), 2))
    made = cli("check", done, "--data", "fresh.jsonl", "--artifact", "onnx", "--json", cwd=tmp_path)
    assert made.returncode == 3, made.stderr
    found = json.loads(made.stdout)
    assert (found["artifact"], found["examples"], found["verdicts"][0]["outcome"]) == ("onnx", 200, "fail")
    bare = put(tmp_path / "bare.jsonl", [{"sentence": "the film is great"}])
    made = cli("check", done, "--data", bare)
    assert made.returncode == 4, made.stderr
    assert "quality was not checked" in made.stdout
    assert "predicted now:  NEGATIVE 0.0%, POSITIVE 100.0%" in made.stdout
    copy = shutil.copytree(done, tmp_path / "copy")
    (copy / "report.json").write_text((copy / "report.json").read_text().replace("0.", "1.", 1))
    assert cli("check", copy, "--data", file).returncode == 6
    assert cli("check", done, "--data", tmp_path / "none.jsonl").returncode == 2


@pytest.mark.parametrize(
    ("now", "outcome"), [(10.1, Outcome.PASS), (12.0, Outcome.FAIL), (10.45, Outcome.INCONCLUSIVE)]
)
def test_a_figure_without_end_is_judged_by_its_ratio(now, outcome):
    from compressit import metrics
    from compressit.report.statistics import Interval

    config = metrics.load("perplexity").Config(metric="perplexity")
    figures = (now, Interval(now * 0.98, now * 1.02)), (10.0, Interval(9.99, 10.01))
    found = drift._against(config, "checkpoint", *figures, 100, Wanted(data=""))
    assert (found.bound, found.outcome, found.limit) == ("max_ratio", outcome, 1.05)
    assert (found.needed is not None) == (outcome is Outcome.INCONCLUSIVE)
    assert f"{now:.4f} here, 10.0000 reported" in found.why
