"""The dial of `--auto`, held against made-up models whose cost and quality are known at every place."""

import pytest

from compressit import plan, recipe
from compressit.errors import RecipeError, RetryableError
from compressit.report import Outcome, Verdict
from compressit.search import auto
from compressit.search.judging import Judged

RECIPE = """\
name: dial
task: text-classification
model: {model}
dataset: {{path: {data}, train: train.jsonl, evaluation: test.jsonl, columns: {{text: sentence}}}}
steps:
  - {{step: prune_ffn, sparsity: 0.4, importance: magnitude, refit: false}}
  - {{step: finetune, epochs: 2}}
metrics: [accuracy, size]
targets: [{{metric: accuracy, max_drop: 0.1}}, {{metric: size, max_ratio: 0.5}}]
"""


@pytest.fixture(scope="module")
def planned(sentiment, tmp_path_factory):
    file = tmp_path_factory.mktemp("dial") / "recipe.yaml"
    file.write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    return plan.plan(recipe.load(file))


def world(most_size, most_drop, drop):
    """A model of size 1 - sparsity that loses `drop(sparsity, epochs)`."""

    def attempt(settings):
        sparsity, epochs = settings["steps.0.sparsity"], settings["steps.1.epochs"]
        size, lost = 1 - sparsity, drop(sparsity, epochs)
        verdicts = tuple(
            Verdict(metric=metric, artifact="checkpoint", bound=bound, limit=limit, unit="", value=value, low=value,
                    high=value, outcome=Outcome.PASS if good else Outcome.FAIL, why="")
            for metric, bound, limit, value, good in (
                ("accuracy", "max_drop", most_drop, -lost, lost <= most_drop),
                ("size", "max_ratio", most_size, size, size <= most_size),
            )
        )  # fmt: skip
        off = {"accuracy": (lost - most_drop) / most_drop, "size": (size - most_size) / most_size}
        return Judged(settings, str(settings), off=off, verdicts=verdicts)

    return attempt


def square(sparsity, epochs):
    return sparsity**2 / epochs


@pytest.mark.parametrize(
    ("size", "drop", "low", "high"),
    [
        (0.7, 0.2, 0.4, 0.4),  # as it is written
        (0.35, 0.25, 0.65, 0.707),  # it takes more of it
        (0.9, 0.02, 0.1, 0.2),  # and less
    ],
)
def test_the_dial_finds_what_meets_both(planned, size, drop, low, high):
    turned = auto.meet(planned, world(size, drop, square), 40)
    assert turned[-1].judged.holds
    assert low <= turned[-1].settings["steps.0.sparsity"] <= high
    assert turned[-1].settings["steps.1.epochs"] == 2
    assert len(turned) <= 8
    assert len({str(each.settings) for each in turned}) == len(turned), "nothing is tried twice"


def test_trainings_get_longer_only_where_nothing_else_helps(planned):
    turned = auto.meet(planned, world(0.35, 0.12, square), 40)
    assert turned[-1].judged.holds
    assert turned[-1].settings["steps.1.epochs"] > 2
    assert turned[-1].settings["steps.0.sparsity"] >= 0.65


def test_what_cannot_be_met_ends_and_leaves_the_nearest(planned):
    turned = auto.meet(planned, world(0.2, 0.001, square), 40)
    assert not any(each.judged.holds for each in turned)
    assert len(turned) < 30
    assert any(each.costs for each in turned)
    assert auto.meet(planned, world(0.2, 0.001, square), 3) == turned[:3]


def test_nothing_to_turn_is_said(sentiment, write):
    text = RECIPE.format(model=sentiment / "model", data=sentiment).split("steps:")[0]
    text += "exports: [{export: onnx, weights: int8}]\ntargets: [{metric: size, max_ratio: 0.5}]\n"
    with pytest.raises(RecipeError, match="no step of the recipe can be turned"):
        auto.check(plan.plan(recipe.load(write(text))))


def dying(attempt, dies, *, passing=False):
    """A world in which trials of some settings die."""

    def tried(settings):
        if dies(settings["steps.0.sparsity"], settings["steps.1.epochs"]):
            return Judged(settings, str(settings), why="it is too much", passing=passing)
        return attempt(settings)

    return tried


@pytest.mark.parametrize(
    ("size", "drop", "dies", "low", "high"),
    [
        (0.25, 0.6, lambda sparsity: sparsity > 0.8, 0.75, 0.8),  # beyond what would meet them, as one turns up
        (0.9, 0.02, lambda sparsity: sparsity < 0.1, 0.1, 0.2),  # below it, as one turns down
        (0.9, 0.1, lambda sparsity: sparsity > 0.2, 0.1, 0.2),  # as it is written
        (0.7, 0.2, lambda sparsity: sparsity > 0.3, 0.3, 0.3),  # as it is written, and next to what meets them
        (0.45, 0.17, lambda sparsity: 0.5 < sparsity < 0.54, 0.55, 0.583),  # between two that lived
    ],
)
def test_a_trial_that_died_is_turned_away_from_and_no_place_for_a_target_to_be_missed(
    planned, size, drop, dies, low, high
):
    turned = auto.meet(planned, dying(world(size, drop, square), lambda sparsity, _: dies(sparsity)), 40)
    assert turned[-1].judged.holds
    assert low <= turned[-1].settings["steps.0.sparsity"] <= high
    assert len(turned) <= 12


def test_between_what_compresses_too_little_and_what_died_it_ends(planned):
    turned = auto.meet(planned, dying(world(0.1, 0.9, square), lambda sparsity, _: sparsity > 0.7), 40)
    living = max(each.settings["steps.0.sparsity"] for each in turned if not each.judged.why)
    died = min(each.settings["steps.0.sparsity"] for each in turned if each.judged.why)
    assert 0 < died - living < 0.03
    assert all(each.effort == 1 for each in turned), "no training makes a model smaller"


def test_longer_trainings_that_die_are_no_word_about_the_dial(planned):
    turned = auto.meet(planned, dying(world(0.35, 0.12, square), lambda _, epochs: epochs > 2), 40)
    assert [each.judged.why for each in turned if each.effort > 1] == ["it is too much"]


def test_a_recipe_of_which_nothing_lives_ends(planned):
    turned = auto.meet(planned, dying(world(0.5, 0.1, square), lambda *_: True), 40)
    assert [each.at for each in turned] == [0, -0.4, -0.8, -1]


def test_a_trial_that_was_killed_is_no_word_about_the_dial(planned):
    """Nobody knows what it would have found: the search ends, and whoever goes on tries it again."""
    attempt = dying(world(0.35, 0.25, square), lambda sparsity, _: sparsity > 0.5, passing=True)
    with pytest.raises(RetryableError, match=r"steps.0.sparsity=0.64.* was ended from outside: it is too much"):
        auto.meet(planned, attempt, 40)
