"""Which examples got worse, by each kind of output: ranked, and said in words."""

import numpy as np
import pytest

from compressit.outputs import Answers, Pairs, Predictions, Tags, TokenScores
from compressit.report import flips

IDS = np.array([11, 12, 13, 14], dtype=np.uint64)
NAMES = ["bad", "good"]


def found(said, original, rows=None):
    return flips.found("onnx", said, original, NAMES, (rows or {}).get)


def test_classes():
    labels = np.array([0, 1, 1, 0])
    before = Predictions(np.array([[2, 0], [0, 2], [0, 1], [0, 5]], np.float32), labels, IDS)
    after = Predictions(np.array([[0, 1], [3, 0], [0, 9], [0, 9]], np.float32), labels, IDS)
    told = found(after, before, {12: {"text": "a fine film", "label": 1}})
    assert (told.count, told.total) == (2, 4), "what was wrong before is no flip"
    assert [flip.example for flip in told.worst] == [f"{12:016x}", f"{11:016x}"], "the surer mistake first"
    first = told.worst[0]
    assert first.text == "a fine film"
    assert (first.change.truth, first.change.before, first.change.after) == ("good", "good 0.88", "bad 0.95")
    assert told.worst[1].text is None


def test_no_more_than_twenty_are_shown_and_texts_are_cut():
    ids = np.arange(50, dtype=np.uint64)
    before = Predictions(np.tile(np.array([[1, 0]], np.float32), (50, 1)), np.zeros(50, int), ids)
    after = Predictions(np.stack([np.zeros(50), np.arange(50) + 1], 1).astype(np.float32), np.zeros(50, int), ids)
    told = found(after, before, {number: {"text": "x" * 400} for number in range(50)})
    assert (told.count, len(told.worst)) == (50, 20)
    assert told.worst[0].example == f"{49:016x}"
    assert len(told.worst[0].text) == 303


def test_tags():
    names, counts = np.array(["O", "B-X"]), np.array([2, 3])
    labels = np.array([0, 1, 1, 0, 1])
    before = Tags(np.eye(2, dtype=np.float32)[labels], labels, counts, names, IDS[:2])
    after = Tags(np.eye(2, dtype=np.float32)[[0, 1, 0, 0, 0]], labels, counts, names, IDS[:2])
    told = found(after, before, {12: {"tokens": ["Rome", "is", "Roman"], "tags": [1, 0, 1]}})
    assert told.count == 1
    assert told.worst[0].text == "Rome is Roman"
    assert told.worst[0].change.before == "Rome: B-X, Roman: B-X"
    assert told.worst[0].change.after == "Rome: O, Roman: O"
    assert found(after, before).worst[0].change.truth == "word 1: B-X, word 3: B-X"


def test_answers():
    def answers(texts, f1):
        f1 = np.array(f1, dtype=float)
        return Answers(np.array(texts), np.floor(f1), f1, np.array([True, True, False, True]), IDS)

    before, after = answers(["Rome", "a", "", "b"], [1, 1, 1, 0.5]), answers(["", "a b", "c", "b"], [0, 0.6, 0, 0.5])
    told = found(after, before, {11: {"question": "Where?", "context": "In Rome.", "answers": {"text": ["Rome"]}}})
    assert [flip.example[-1] for flip in told.worst] == ["b", "d", "c"]
    assert told.worst[0].text == "Where? | In Rome."
    assert told.worst[0].change.truth == "Rome"
    assert told.worst[0].change.after == "no answer (F1 0.00)"
    assert told.worst[1].change.truth == "no answer"


def test_pairs():
    scores = np.array([5.0, 4.0, 3.0, 1.0])
    before = Pairs(np.array([0.9, 0.8, 0.7, 0.1]), scores, IDS)
    after = Pairs(np.array([0.2, 0.8, 0.7, 0.1]), scores, IDS)
    told = found(after, before, {11: {"text": "one", "text_pair": "the other"}})
    assert told.worst[0].example.endswith("b")
    assert told.worst[0].text == "one | the other"
    assert told.worst[0].change.before == "cosine 0.900, rank 1 of 4"
    assert told.worst[0].change.after == "cosine 0.200, rank 3 of 4"
    assert found(before, before).worst == ()


def test_windows_of_a_language_model():
    def scores(nll):
        return TokenScores(np.array(nll), np.full(4, 10), np.full(4, 5), IDS)

    told = found(scores([12.0, 20.0, 10.0, 9.0]), scores([10.0, 10.0, 10.0, 10.0]))
    assert [flip.example[-1] for flip in told.worst] == ["c", "b"]
    assert told.worst[0].change.after == "2.000 nats a token, 5 of 10 tokens right"


@pytest.mark.parametrize("row", [{"image": object(), "label": 1}, {}])
def test_what_is_no_text_has_none(row):
    assert flips.written(row) is None
