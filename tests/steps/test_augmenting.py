"""Changed copies of texts, to be taught on."""

import random

import datasets
import pytest

from compressit.data.labels import UNLABELLED, unknown
from compressit.errors import StepError
from compressit.steps import distill
from compressit.steps._augmenting import augmented, changed


def settings(**fields):
    return distill.Config(step="distill", **{"epochs": 1, "batch_size": 16, **fields})


def test_the_rows_stay_and_their_changed_copies_have_no_labels():
    rows = datasets.Dataset.from_dict({"text": ["one two three four", "five six"], "label": [0, 1]})
    more = augmented(rows, 20, "[MASK]", seed=3)
    assert len(more) == 42
    assert more[:2] == rows[:]
    assert set(more["label"][2:]) == {UNLABELLED}
    for text, source in zip(more["text"][2:], list(rows["text"]) * 20, strict=True):
        assert set(text.split()) <= {*source.split(), "[MASK]"}
        assert text
    assert len(set(more["text"])) > 8
    assert augmented(rows, 20, "[MASK]", seed=3)["text"] == more["text"]
    assert augmented(rows, 20, "[MASK]", seed=4)["text"] != more["text"]


@pytest.mark.parametrize("mask", ["[MASK]", None])
def test_a_text_without_spaces_is_changed_by_characters(mask):
    draw = random.Random(0)
    made = {changed("这部电影很好看", mask, draw) for _ in range(40)}
    assert len(made) > 10
    for text in made:
        assert set(text.replace("[MASK]", "")) <= set("这部电影很好看")


def test_a_single_word_and_an_empty_text_stay_something():
    draw = random.Random(0)
    assert {changed("good", None, draw) for _ in range(50)} == {"good"}
    assert {changed("", "[MASK]", draw) for _ in range(50)} == {""}


@pytest.mark.parametrize("name", ["bert", "bert-pairs"])
def test_a_student_sees_the_copies(name, opened, context):
    model = opened(name)
    given = context(model, teacher=lambda _: opened(name))
    assert unknown(augmented(given.train, 1, None, seed=0).select(range(64, 128)))
    notes = distill.run(model, settings(augment=2, alpha=0.0), given)
    assert notes["updates"] == 3 * 64 // 16


def test_what_has_no_answers_to_copies_is_refused(opened, context):
    with pytest.raises(ValueError, match="which only a teacher can be asked about"):
        settings(augment=1, control=True)
    model = opened("vit")
    with pytest.raises(StepError, match="augment changes texts"):
        distill.run(model, settings(augment=1), context(model, teacher=lambda _: opened("vit")))
