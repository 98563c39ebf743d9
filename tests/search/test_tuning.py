"""Which rows trials are judged on where the recipe names none: half of the evaluation split, or what --tuning says."""

import json

import pytest

from compressit import progress, recipe, search
from compressit.recipe import RecipeProblems
from compressit.search.tuning import halves

RECIPE = """\
name: plain
task: text-classification
model: {model}
dataset: {{path: {data}, train: train.jsonl, evaluation: "test.jsonl", columns: {{text: sentence}}}}
steps: [{{step: drop_layers, keep: 2}}]
metrics: [accuracy, size]
targets: [{{metric: size, max_ratio: 0.9}}]
"""


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ("test", ("test[:50%]", "test[50%:]")),
        ("test[:]", ("test[:50%]", "test[50%:]")),
        ("test.jsonl[20%:]", ("test.jsonl[20%:60%]", "test.jsonl[60%:]")),
        ("test[10%:25%]", ("test[10%:17%]", "test[17%:25%]")),
        ("test[:150]", ("test[:75]", "test[75:150]")),
        ("test[100:201]", ("test[100:150]", "test[150:201]")),
        ("test[100:]", None),  # nobody knows how many there are
        ("test[100:50%]", None),
        ("test[99%:]", None),
        ("test[:1]", None),
    ],
)
def test_a_split_is_halved_as_it_is_written(split, parts):
    assert halves(split) == parts


class Heard(progress.Silent):
    """Keeps what is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def written(sentiment, **changes):
    text = RECIPE.format(model=sentiment / "model", data=sentiment)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text


def splits(found):
    run = search.check(found).recipe
    return run.dataset.evaluation, run.search.tuning


def test_auto_takes_half_of_the_evaluation_split_and_only_where_there_is_no_other(sentiment, write):
    plain = written(sentiment)
    found = search.tuned(recipe.load_open(write(plain)), None, halve=True)
    assert splits(found) == ("test.jsonl[:50%]", "test.jsonl[50%:]")
    given = search.tuned(recipe.load_open(write(plain)), "train.jsonl[400:]", halve=True)
    assert splits(given) == ("test.jsonl", "train.jsonl[400:]")
    own = recipe.load_open(write(plain + "search: {tuning: other.jsonl, sampler: random}\n"))
    assert search.tuned(own, None, halve=True) is own
    changed = search.tuned(own, "train.jsonl[400:]", halve=True)
    assert splits(changed) == ("test.jsonl", "train.jsonl[400:]")
    assert search.check(changed).recipe.search.sampler == "random"
    other = recipe.load_open(write(plain))
    assert search.tuned(other, None, halve=False) is other


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        (
            {"evaluation": ('"test.jsonl"', '"test.jsonl[50:]"')},
            None,
            r"recipe.yaml:4:.* test.jsonl\[50:\] can't be halved without knowing its rows(?s:.*)--tuning SPLIT",
        ),
        ({}, "test.jsonl", "test.jsonl is the evaluation split: what is chosen on it would be judged on it"),
        ({}, "train.jsonl[4", r"'train.jsonl\[4' is not a split"),
        ({"dataset": ("dataset:", "# dataset:")}, None, "the recipe has no dataset"),
    ],
)
def test_what_is_no_split_for_tuning_is_named_before_any_work(sentiment, write, changes, given, said):
    with pytest.raises(RecipeProblems, match=said):
        search.check(search.tuned(recipe.load_open(write(written(sentiment, **changes))), given, halve=True))


def test_halves_of_which_only_one_has_a_label_are_warned_of(sentiment, write, tmp_path):
    rows = [json.loads(line) for line in (sentiment / "test.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: str(row["label"]))
    (tmp_path / "sorted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = written(sentiment, data=(f"path: {sentiment}", f"path: {tmp_path}"), rows=("test.jsonl", "sorted.jsonl"))
    heard = Heard()
    search.tell_splits(search.check(search.tuned(recipe.load_open(write(text)), None, halve=True)), heard, trust=False)
    assert any("only one has examples of " in line and "is the data sorted?" in line for line in heard.said)
    plain = Heard()
    whole = search.check(search.tuned(recipe.load_open(write(written(sentiment))), None, halve=True))
    search.tell_splits(whole, plain, trust=False)
    assert not any("only one has" in line for line in plain.said)
