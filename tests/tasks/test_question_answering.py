"""How contexts become windows, and windows one answer."""

import datasets
import numpy as np
import pytest
import torch

from compressit import tasks
from compressit.algorithms import imitation
from compressit.errors import DataError, StepError
from compressit.outputs import Answers
from tests.conftest import story_tokenizer
from tests.questions import questions, tokenizer

TASK = tasks.load("question-answering")
ROWS = questions(40, 3, 0.3)
CHINESE = {
    "question": "他住在哪里",
    "context": "他原来住在上海。后来他住在北京市的NBA总部。",
    "answers": {"text": ["北京市"], "answer_start": [13]},
}


@pytest.fixture(scope="module")
def tokens():
    return tokenizer([row[part] for row in (*ROWS, CHINESE) for part in ("question", "context")])


def data(*rows):
    columns = {name: [row[name] for row in rows] for name in ("question", "context", "answers")}
    return datasets.Dataset.from_dict(columns)


def marks(window):
    """The labels of one window: (L, 2)."""
    return TASK.collate(tokenizer())([window])["labels"][0].numpy()


def answer(prepared, rows, said=None):
    """Answer with logits for each window; by default those that the labels themselves would be."""
    batch = TASK.collate(tokenizer(["a"]))(list(prepared))
    labels = batch["labels"].numpy()
    said = (labels == 1) * 9.0 if said is None else said
    return Answers.gather(Answers.reduce(said.astype(np.float32), labels, None), prepared, rows, [])


@pytest.mark.parametrize(("size", "stride"), [(16, 4), (20, 3), (64, 1), (24, 11)])
def test_windows_are_those_that_the_tokenizer_itself_makes(size, stride, tokens):
    rows = data(*ROWS)
    prepared = TASK.prepare(rows, tokens, size, stride=stride)
    wanted, owners = [], []
    for number, row in enumerate(ROWS):
        question = len(tokens(row["question"], add_special_tokens=False)["input_ids"])
        room = size - question - 3
        made = tokens(
            row["question"], row["context"], truncation="only_second", max_length=size, stride=max(0, room - stride),
            return_overflowing_tokens=True,
        )  # fmt: skip
        wanted += [{name: made[name][at] for name in tokens.model_input_names} for at in range(len(made["input_ids"]))]
        owners += [number] * len(made["input_ids"])
    assert [{name: window[name] for name in tokens.model_input_names} for window in prepared] == wanted
    assert prepared["row"][:] == owners
    assert (len(owners) > len(ROWS)) == (size < 30)


def test_labels_mark_the_answer_where_a_window_holds_it_whole(tokens):
    prepared = TASK.prepare(data(*ROWS), tokens, 16, stride=4)
    held = dict.fromkeys(range(len(ROWS)), 0)
    for window in prepared:
        labels, row = marks(window), ROWS[window["row"]]
        assert ((labels == 1).sum(0) == 1).all(), "an answer starts and ends once"
        first, last = labels.argmax(0)
        text = row["answers"]["text"][:1]
        begins, ends = window["begins"], window["ends"]
        context = [place for place in range(1, len(labels)) if labels[place, 0] != -100]
        if first == last == 0:
            whole = [at for at in row["answers"]["answer_start"] if begins[0] <= at and at + len(text[0]) <= ends[-1]]
            assert whole == []
            continue
        held[window["row"]] += 1
        assert row["context"][begins[context.index(first)] : ends[context.index(last)]] == text[0]
        assert window["input_ids"][context[0] - 1] == tokens.sep_token_id
        assert len(context) == len(begins)
    assert [bool(count) for count in held.values()] == [bool(row["answers"]["text"]) for row in ROWS]


def test_questions_nobody_answered_have_no_labels(tokens):
    rows = datasets.Dataset.from_list([{**ROWS[0], "answers": None}, ROWS[1]])
    prepared = TASK.prepare(rows, tokens, None)
    labels = torch.from_numpy(marks(prepared[0]))[None]
    _, places = TASK.scored(labels, labels)
    assert places.tolist() == [-100, -100]


def test_a_long_question_leaves_half_the_room(tokens):
    row = {**ROWS[0], "question": "who is it " * 30}
    prepared = TASK.prepare(data(row), tokens, 23)
    assert max(len(window["input_ids"]) for window in prepared) == 23
    assert {len(window["begins"]) for window in prepared} <= set(range(1, 11))
    assert tokens.decode(prepared[0]["input_ids"][:12]) == "[CLS] " + "who is it " * 3 + "who [SEP]"


@pytest.mark.parametrize("seed", range(25))
def test_the_answer_is_the_best_span_of_all_windows(seed, tokens):
    draw = np.random.default_rng(seed)
    some = [ROWS[place] for place in draw.permutation(len(ROWS))[:3]]
    if seed % 2:
        some = [row for row in some if row["answers"]["text"]] or [ROWS[next(
            place for place, row in enumerate(ROWS) if row["answers"]["text"])]]  # fmt: skip
    rows, longest = data(*some), int(draw.integers(1, 5))
    prepared = TASK.prepare(rows, tokens, int(draw.integers(9, 30)), stride=2, max_answer=longest)
    size = max(len(window["input_ids"]) for window in prepared)
    said = draw.normal(size=(len(prepared), size, 2)).astype(np.float32)
    found = answer(prepared, rows, said)
    optional = any(not row["answers"]["text"] for row in some)
    for number, row in enumerate(some):
        spans, none = [], []
        for logits, window in zip(said, prepared, strict=True):
            if window["row"] != number:
                continue
            none.append(float(logits[0].sum()))
            at = np.flatnonzero(marks(window)[:, 0] != -100)[1:]
            for i, first in enumerate(at):
                for j in range(i, min(len(at), i + longest)):
                    text = row["context"][window["begins"][i] : window["ends"][j]]
                    spans.append((float(logits[first, 0] + logits[at[j], 1]), text))
        score, text = max(spans)
        assert found["answers"][number] == ("" if optional and min(none) > score else text)
    assert found["answerable"].tolist() == [bool(row["answers"]["text"]) for row in some]


def spelled():
    """RoBERTa's way: bytes, a space goes with the word behind it, and no types of tokens."""
    from tokenizers.processors import TemplateProcessing

    made = story_tokenizer(" ".join(row["context"] for row in ROWS[:5]))
    ends = [("<s>", 0), ("</s>", 1)]
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    made.pad_token = "</s>"
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


def test_what_the_labels_say_is_right_however_words_are_spelled():
    rows = data(*ROWS, CHINESE)
    made = spelled()
    assert len(made("old mill 北")["input_ids"]) > 5
    for size, stride in ((128, None), (80, 9)):
        prepared = TASK.prepare(rows, made, size, stride=stride, max_answer=60)
        assert {*TASK.collate(made)(list(prepared)[:3])} == {"input_ids", "attention_mask", "labels"}
        found = answer(prepared, rows)
        assert (found["exact"] == 1).all()


def test_what_the_labels_say_is_right(tokens):
    rows = data(*ROWS)
    for size, stride in ((64, None), (16, 4)):
        found = answer(TASK.prepare(rows, tokens, size, stride=stride), rows)
        assert (found["exact"] == 1).all()
        assert (found["f1"] == 1).all()
        assert found["answers"].tolist() == [*(("", *row["answers"]["text"])[-1] for row in ROWS)]


def test_a_tie_with_no_answer_is_an_answer(tokens):
    rows = data(*(row for row in ROWS if not row["answers"]["text"]))
    prepared = TASK.prepare(rows, tokens, None)
    even = np.zeros((len(prepared), max(len(window["input_ids"]) for window in prepared), 2))
    assert all(answer(prepared, rows, even)["answers"])
    even[:, 0] = 1
    assert not any(answer(prepared, rows, even)["answers"])


def test_chinese(tokens):
    rows = data(CHINESE)
    prepared = TASK.prepare(rows, tokens, 24, stride=4)
    assert len(prepared) > 1
    assert answer(prepared, rows)["answers"].tolist() == ["北京市"]
    (window,) = TASK.prepare(rows, tokens, None)
    said, labels = np.zeros((1, len(window["input_ids"]), 2)), marks(window)
    first, last = labels.argmax(0)
    said[0, first - 1, 0] = said[0, last, 1] = 5
    found = answer(TASK.prepare(rows, tokens, None), rows, said)
    assert found["answers"].tolist() == ["在北京市"]
    assert (found["exact"][0], found["f1"][0]) == (0, pytest.approx(6 / 7))


def test_training_learns_from_starts_and_ends_inside_the_context(tokens):
    prepared = TASK.prepare(data(*ROWS), tokens, 16)
    labels = TASK.collate(tokens)(list(prepared)[:5])["labels"]
    logits = torch.randn(labels.shape)
    given, places = TASK.scored(logits, labels)
    assert given.shape == (10, labels.shape[1])
    odds, wanted = given.softmax(-1), []
    for window in range(5):
        for side in (0, 1):
            there = labels[window, :, side] != -100
            assert odds[2 * window + side][~there].sum() == 0
            alone = logits[window, there, side].softmax(-1)
            assert torch.allclose(odds[2 * window + side][there], alone, atol=1e-6)
            wanted.append(int((labels[window, :, side] == 1).nonzero()))
    assert places.tolist() == wanted
    teacher, _ = TASK.scored(torch.randn(labels.shape), labels)
    for temperature in (0.01, 2.0):
        assert torch.isfinite(imitation.divergence(given, teacher, temperature))
        assert imitation.divergence(given, imitation.together([given, given], temperature), temperature) < 1e-5


def test_padding_stands_on_the_right(tokens):
    prepared = list(TASK.prepare(data(*ROWS[:6]), tokens, None))
    found = []
    for side in ("left", "right"):
        tokens.padding_side = side
        found.append({name: value.tolist() for name, value in TASK.collate(tokens)(prepared).items()})
    assert found[0] == found[1]
    assert {*found[0]} == {*tokens.model_input_names, "labels"}


@pytest.mark.parametrize(("length", "message"), [(65, "beyond the 64 tokens"), (4, "no room for a question")])
def test_windows_that_make_no_sense(length, message, tokens):
    with pytest.raises(DataError, match=message):
        TASK.prepare(data(*ROWS), tokens, length)


def test_a_tokenizer_that_knows_no_places():
    with pytest.raises(StepError, match="slow tokenizer"):
        TASK.prepare(data(*ROWS), object(), None)


def test_the_protocol_says_what_was_done(tokens):
    rows = data(*ROWS)
    prepared = TASK.prepare(rows, tokens, 16, stride=4, max_answer=7)
    assert TASK.protocol(prepared, rows, tokens, 16, stride=4, max_answer=7) == {
        "context length": 16, "stride": 4, "windows": len(prepared), "longest answer": 7,
        "unanswerable": sum(not row["answers"]["text"] for row in ROWS), "no answer": "allowed",
    }  # fmt: skip
    answered = data(*(row for row in ROWS if row["answers"]["text"]))
    assert TASK.protocol(TASK.prepare(answered, tokens, 16), answered, tokens, 16)["no answer"] == "not allowed"
