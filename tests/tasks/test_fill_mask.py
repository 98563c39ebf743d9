"""Which tokens of a text are masked, and what is asked of a model there."""

from itertools import chain

import datasets
import pytest
import torch

from compressit import tasks
from compressit.errors import DataError, StepError
from tests import tagged
from tests.conftest import tokenizer

TASK = tasks.load("fill-mask")
TEXT = " ".join(word for row in tagged.sentences(20, 1) for word in row["tokens"])


@pytest.fixture(scope="module")
def tokens():
    return tagged.tokenizer()


def rows(*texts):
    return datasets.Dataset.from_dict({"text": list(texts)})


def unmasked(window):
    """What the window was before it was masked."""
    return [
        token if label == -100 else label for token, label in zip(window["input_ids"], window["labels"], strict=True)
    ]


def test_windows_lie_side_by_side_between_special_tokens(tokens):
    found = TASK.prepare(rows(TEXT), tokens, 20)
    whole = tokens(TEXT, add_special_tokens=False, verbose=False)["input_ids"]
    parts = [whole[start : start + 18] for start in range(0, len(whole), 18)]
    start, end = tokens.cls_token_id, tokens.sep_token_id
    assert [unmasked(window) for window in found] == [[start, *part, end] for part in parts]


def test_a_share_of_each_window_is_masked_and_no_special_token(tokens):
    found = TASK.prepare(rows(TEXT, "met"), tokens, None)
    for window in found:
        masked = [place for place, label in enumerate(window["labels"]) if label != -100]
        real = len(window["input_ids"]) - 2
        assert len(masked) == max(1, round(0.15 * real))
        assert {window["input_ids"][place] for place in masked} == {tokens.mask_token_id}
        assert not {0, len(window["input_ids"]) - 1} & {*masked}
    said = TASK.protocol(found, rows(TEXT, "met"), tokens, None)
    assert said["masked tokens"] == sum(label != -100 for label in chain.from_iterable(found["labels"]))


def test_masks_are_the_same_every_time_and_differ_between_windows(tokens):
    one, two = (TASK.prepare(rows(*texts), tokens, 20) for texts in ((TEXT,), ("old", TEXT)))
    assert one["input_ids"][:] == two["input_ids"][1:]
    places = [[label != -100 for label in window["labels"]] for window in one]
    assert len({*map(tuple, places)}) > len(places) / 2


def test_examples_are_rows_with_something_to_mask(tokens):
    found = TASK.prepare(rows("", TEXT, "[SEP]", "met"), tokens, 30)
    assert sorted({*found["example"]}) == [0, 1]
    with pytest.raises(DataError, match="no token to mask"):
        TASK.prepare(rows("", ""), tokens, None)


def test_what_does_not_fit_the_tokenizer_is_said(tokens):
    with pytest.raises(DataError, match="max_length 97 is beyond"):
        TASK.prepare(rows("met"), tokens, 97)
    with pytest.raises(DataError, match="max_length 2 leaves no room"):
        TASK.prepare(rows("met"), tokens, 2)
    with pytest.raises(StepError, match="no mask token"):
        TASK.prepare(rows("film"), tokenizer(), None)


def test_answers_are_those_of_masked_tokens():
    labels = torch.tensor([[-100, 3, -100], [2, -100, -100]])
    logits = torch.arange(12.0).reshape(2, 3, 2)
    picked, targets = TASK.scored(logits, labels)
    assert picked.tolist() == [[2, 3], [6, 7]]
    assert targets.tolist() == [3, 2]
