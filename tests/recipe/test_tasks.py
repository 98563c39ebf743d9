"""What a recipe may not say of a task, told before any work."""

import pytest

from compressit import recipe, rules

TEXT = """\
name: tasked
task: {task}
model: some/model
dataset: {{path: some/data, train: train, evaluation: test{more}}}
steps:
  - {{step: distill{fields}}}
"""


@pytest.fixture
def problems(write):
    def found(task, fields="", more=""):
        return rules.check(recipe.load(write(TEXT.format(task=task, fields=fields, more=more))))

    return found


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("sentence-similarity", ", temperature: 2.0", "temperature softens probabilities, which sentence-similarity"),
        ("token-classification", ", augment: 2", "augment changes texts that are judged as wholes"),
        ("fill-mask", ", augment: 2", "augment changes texts that are judged as wholes"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(task, fields, message, problems):
    (problem,) = problems(task, fields)
    assert message in problem.message
    assert problems(task) == []


@pytest.mark.parametrize(
    ("task", "fields"), [("sentence-similarity", ", augment: 2"), ("fill-mask", ", temperature: 3")]
)
def test_and_others_are_not(task, fields, problems):
    assert problems(task, fields) == []


def test_sounds_are_cut_at_seconds_and_texts_at_tokens(problems):
    assert problems("audio-classification", more=", max_seconds: 2.5") == []
    (problem,) = problems("audio-classification", more=", max_length: 128")
    assert (problem.message, problem.hint) == (
        "max_length counts tokens, and audio-classification has none", "say max_seconds")  # fmt: skip
    (problem,) = problems("text-classification", more=", max_seconds: 2")
    assert problem.message == "max_seconds is for audio-classification; text-classification has no use for it"


def test_only_names_have_other_names(problems):
    assert problems("token-classification", more=", labels: {a: b}") == []
    for task in ("sentence-similarity", "fill-mask"):
        (problem,) = problems(task, more=", labels: {a: b}")
        assert problem.message == f"{task} has no labels"
