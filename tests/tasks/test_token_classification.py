"""How words become sub-tokens and windows, and which positions are tagged."""

from itertools import chain

import datasets
import pytest
import torch
import transformers

from compressit import tasks
from compressit.errors import DataError, StepError
from tests import tagged
from tests.conftest import story, story_tokenizer

TASK = tasks.load("token-classification")


@pytest.fixture(scope="module")
def tokens():
    return tagged.tokenizer()


def rows(*texts, tags=None):
    words = [text.split() for text in texts]
    return datasets.Dataset.from_dict({"tokens": words, "tags": tags or [[*range(len(some))] for some in words]})


def spoken(tokens, window):
    """The pieces at which a word is tagged, with their tags."""
    pieces = tokens.convert_ids_to_tokens(window["input_ids"])
    return [(piece, label) for piece, label in zip(pieces, window["labels"], strict=True) if label != -100]


def test_a_word_is_tagged_at_its_first_piece(tokens):
    (found,) = TASK.prepare(rows("anna moss saw lee"), tokens, None)
    assert tokens.convert_ids_to_tokens(found["input_ids"]) == [
        "[CLS]", "an", "##na", "m", "##o", "##ss", "saw", "le", "##e", "[SEP]"
    ]  # fmt: skip
    assert spoken(tokens, found) == [("an", 0), ("m", 1), ("saw", 2), ("le", 3)]
    assert (found["row"], found["words"]) == (0, [0, 1, 2, 3])


def test_chinese_words_are_tagged_as_others_are(tokens):
    (found,) = TASK.prepare(rows("张 三 在 北京 见 了 李四"), tokens, None)
    assert spoken(tokens, found) == [("张", 0), ("三", 1), ("在", 2), ("北", 3), ("见", 4), ("了", 5), ("李", 6)]


@pytest.mark.parametrize("size", [5, 6, 8, 20])
def test_long_rows_are_cut_between_words_and_each_word_is_in_one_window(size, tokens):
    text = "anna moss saw the hill in le an moss"
    given = rows("quiet", text, "big")
    found = TASK.prepare(given, tokens, size)
    assert max(map(len, found["input_ids"])) <= size
    assert sorted(set(found["row"])) == [0, 1, 2]
    of_text = [window for window in found if window["row"] == 1]
    assert list(chain.from_iterable(window["words"] for window in of_text)) == list(range(9))
    assert list(chain.from_iterable(spoken(tokens, window) for window in of_text)) == spoken(
        tokens, TASK.prepare(rows(text), tokens, None)[0]
    )
    # Moved to the next window, its first word would not have fitted into this one.
    lengths = [len(window["input_ids"]) for window in of_text]
    for held, after in zip(lengths, of_text[1:], strict=False):
        word = text.split()[after["words"][0]]
        assert held + len(tokens.tokenize(word)) > size
    several = TASK.protocol(found, given, tokens, size)["rows in several windows"]
    assert several == len({row for row in found["row"] if list(found["row"]).count(row) > 1})


def test_a_word_longer_than_a_window_is_cut_and_still_tagged(tokens):
    found = TASK.prepare(rows("the chrysanthemum saw"), tokens, 6)
    assert [spoken(tokens, window) for window in found] == [[("the", 0)], [("c", 1)], [("saw", 2)]]
    assert len(found[1]["input_ids"]) == 6


def test_a_word_of_which_nothing_is_read_has_no_position(tokens):
    given = datasets.Dataset.from_dict({"tokens": [["the", "\u200b", "saw"]], "tags": [[1, 2, 3]]})
    (found,) = TASK.prepare(given, tokens, None)
    assert spoken(tokens, found) == [("the", 1), ("saw", 3)]
    assert found["words"] == [0, 2]
    assert TASK.protocol(TASK.prepare(given, tokens, None), given, tokens, None) == {
        "words": 3,
        "tag of a word": "of its first sub-token",
        "context length": 96,
        "rows in several windows": 0,
        "words without a token, taken for O": 1,
    }


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_are_padded_as_the_texts_are(side, tokens):
    tokens = tagged.tokenizer()
    tokens.padding_side = side
    given = TASK.prepare(rows("anna saw", "the old quiet moss"), tokens, None)
    batch = TASK.collate(tokens)(list(given))
    assert {*batch} >= {"input_ids", "attention_mask", "labels"}
    assert not {*batch} & {"row", "words"}
    for row, window in enumerate(given):
        real = batch["attention_mask"][row].bool()
        assert batch["labels"][row][real].tolist() == window["labels"]
        assert (batch["labels"][row][~real] == -100).all()


def test_answers_are_those_of_words_and_unknown_tags_teach_nothing():
    labels = torch.tensor([[-100, 3, -100, -1], [2, -100, -100, -100]])
    logits = torch.arange(16.0).reshape(2, 4, 2)
    picked, targets = TASK.scored(logits, labels)
    assert picked.tolist() == [[2, 3], [6, 7], [8, 9]]
    assert targets.tolist() == [3, -100, 2]


def test_what_does_not_fit_the_tokenizer_is_said(tokens):
    with pytest.raises(DataError, match="max_length 97 is beyond the 96 tokens"):
        TASK.prepare(rows("the"), tokens, 97)
    with pytest.raises(DataError, match="max_length 2 leaves no room for a word"):
        TASK.prepare(rows("the"), tokens, 2)
    with pytest.raises(StepError, match="CanineTokenizer is a slow tokenizer"):
        TASK.prepare(rows("the"), transformers.CanineTokenizer(), None)


def test_bytes_are_read_with_the_spaces_between_words():
    """A tokenizer that would run the words together gets them as the text has them; Chinese has no spaces."""
    tokens = story_tokenizer(story(40, 1))
    text = "the fox lived in the wood"
    assert tokens(text.split(), is_split_into_words=True)["input_ids"] != tokens(text)["input_ids"]
    (found,) = TASK.prepare(rows(text), tokens, None)
    assert found["input_ids"] == tokens(text)["input_ids"]
    assert [place for place, label in enumerate(found["labels"]) if label != -100] == [
        place for place, word in enumerate(tokens(text).word_ids()) if word is not None and starts(tokens(text), place)
    ]
    (chinese,) = TASK.prepare(rows("张 三 在 北京"), tokens, None)
    assert tokens.decode(chinese["input_ids"], skip_special_tokens=True) == "张三在北京"


def starts(encoded, place):
    """Whether a word's first piece is at a place."""
    words = encoded.word_ids()
    return place == 0 or words[place] != words[place - 1]
