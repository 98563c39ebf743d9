"""How rows of text become windows, and which of their tokens are scored."""

from itertools import chain

import datasets
import pytest

from compressit import tasks
from compressit.errors import DataError
from tests.conftest import story, story_tokenizer

TASK = tasks.load("text-generation")
TEXT = story(40, 3)
CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def with_bos():
    return story_tokenizer(TEXT)


@pytest.fixture(scope="module")
def without_bos():
    return story_tokenizer(TEXT, bos=False)


def texts(*rows):
    return datasets.Dataset.from_dict({"text": list(rows)})


def ids(tokens, text, **options):
    return tokens(text, verbose=False, **options)["input_ids"]


def scored(window):
    return [token for token, label in zip(window["input_ids"], window["labels"], strict=True) if label != -100]


@pytest.mark.parametrize("bos", [True, False])
def test_joined_windows_are_those_of_the_published_protocol(bos, with_bos, without_bos):
    tokens = with_bos if bos else without_bos
    rows = TEXT.split("\n\n")
    found = TASK.prepare(texts(*rows), tokens, 50)
    whole = ids(tokens, "\n\n".join(rows))
    assert (whole[0] == 0) == bos
    assert found["input_ids"][:] == [whole[at : at + 50] for at in range(0, len(whole) - 49, 50)]
    for window in found:
        assert window["labels"] == [-100, *window["input_ids"][1:]]
    assert found["example"][:] == list(range(len(found)))


def test_overlapping_windows_score_each_token_once(with_bos):
    whole = ids(with_bos, TEXT)
    found = TASK.prepare(texts(TEXT), with_bos, 50, stride=20)
    assert found["input_ids"][:3] == [whole[:50], whole[20:70], whole[40:90]]
    covered = 50 + 20 * (len(found) - 1)
    assert list(chain.from_iterable(map(scored, found))) == whole[1:covered]
    assert len(whole) - covered < 20
    assert [len(scored(window)) for window in found] == [49, *[20] * (len(found) - 1)]


def test_documents_are_cut_by_themselves(with_bos):
    rows = TEXT.split("\n\n")[:5]
    found = TASK.prepare(texts(rows[0], "", *rows[1:]), with_bos, 16, packing="documents")
    assert sorted(set(found["example"])) == list(range(5)), "the empty one has nothing to score"
    for number, row in enumerate(rows):
        windows = [window for window in found if window["example"] == number]
        whole = ids(with_bos, row)
        assert list(chain.from_iterable(window["input_ids"] for window in windows)) == whole
        assert list(chain.from_iterable(map(scored, windows))) == [t for at, t in enumerate(whole) if at % 16]


def test_a_text_shorter_than_a_window_is_one(with_bos):
    assert TASK.prepare(texts("Once a fox"), with_bos, 100)["input_ids"][:] == [ids(with_bos, "Once a fox")]


def test_a_start_token_is_never_doubled_and_an_end_token_never_put(with_bos, without_bos):
    from tokenizers.processors import TemplateProcessing

    written = TASK.prepare(texts("<s>Once a fox"), with_bos, 100)["input_ids"][0]
    assert written == ids(with_bos, "Once a fox")
    both = story_tokenizer(TEXT)
    both._tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    assert ids(both, "Once")[-1] == 1
    assert TASK.prepare(texts("Once a fox"), both, 100)["input_ids"][0] == written
    assert TASK.prepare(texts("Once a fox"), without_bos, 100)["input_ids"][0] == written[1:]


def test_conversations_are_written_by_the_chat_template(with_bos):
    turns = [{"role": "user", "content": "Once?"}, {"role": "assistant", "content": "Once a fox."}]
    rows = datasets.Dataset.from_list([{"messages": turns}, {"messages": turns[:1]}])
    with pytest.raises(DataError, match="no chat template"):
        TASK.prepare(rows, with_bos, 64)
    spoken = story_tokenizer(TEXT)
    spoken.chat_template = CHAT
    found = TASK.prepare(rows, spoken, 64)
    wanted = ids(spoken, "<s>user: Once?\n<s>assistant: Once a fox.\n", add_special_tokens=False)
    assert found["input_ids"][0] == wanted == spoken.apply_chat_template(turns, return_dict=True)["input_ids"]
    assert found["example"][:] == [0, 1]
    spoken.chat_template = "{{ raise_exception('only one turn') }}"
    with pytest.raises(DataError, match="refuses a conversation: only one turn"):
        TASK.prepare(rows, spoken, 64)


@pytest.mark.parametrize(
    ("context", "continuation", "whole"),
    [
        ("Once a", "fox", "Once a fox"),
        ("Once a ", "fox", "Once a fox"),
        ("Once a", " fox", "Once a fox"),
        ("", "Once a", "Once a"),
        ("从前有一只", "狐狸", "从前有一只狐狸"),
    ],
)
def test_only_a_continuation_is_scored(context, continuation, whole, with_bos):
    rows = datasets.Dataset.from_dict({"context": [context], "continuation": [continuation]})
    (window,) = TASK.prepare(rows, with_bos, 100)
    assert window["input_ids"] == ids(with_bos, whole)
    assert with_bos.decode(scored(window)).strip() == continuation.strip()


def test_of_a_long_context_the_end_counts(with_bos):
    rows = datasets.Dataset.from_dict({"context": [TEXT], "continuation": ["Once a fox"]})
    (window,) = TASK.prepare(rows, with_bos, 20)
    assert window["input_ids"] == ids(with_bos, TEXT + " Once a fox")[-20:]
    assert with_bos.decode(scored(window)) == " Once a fox"


def test_padding_stands_on_the_right_whatever_the_tokenizer_does(with_bos):
    found = TASK.prepare(texts("Once a fox", "Once"), with_bos, 100, packing="documents")
    batches = []
    for side in ("left", "right"):
        with_bos.padding_side = side
        batches.append({name: value.tolist() for name, value in TASK.collate(with_bos)(list(found)).items()})
    assert batches[0] == batches[1]
    short = len(found[1]["input_ids"])
    assert batches[0]["attention_mask"][1][short - 1 : short + 1] == [1, 0]
    assert set(batches[0]["labels"][1][short:]) == {-100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 129}, "beyond the 128 tokens"),
        ({"max_length": 1}, "no token to predict"),
        ({"max_length": 20, "stride": 21}, "stride 21 is longer than a window of 20"),
    ],
)
def test_windows_that_make_no_sense(options, message, with_bos):
    with pytest.raises(DataError, match=message):
        TASK.prepare(texts(TEXT), with_bos, **options)


def test_rows_without_anything_to_score(with_bos, without_bos):
    with pytest.raises(DataError, match="no token to score"):
        TASK.prepare(texts("", ""), with_bos, 20, packing="documents")
    rows = datasets.Dataset.from_dict({"context": ["Once"], "continuation": [" "]})
    with pytest.raises(DataError, match="continuation is empty"):
        TASK.prepare(rows, with_bos, 20)
    for packing in ("joined", "documents"):
        with pytest.raises(DataError, match=f"packing: {packing} is for plain text"):
            TASK.prepare(rows, with_bos, 20, packing=packing)
    with pytest.raises(DataError, match="a continuation is one"):
        TASK.prepare(rows, with_bos, 20, stride=10)


def test_the_protocol_says_what_was_done(with_bos, without_bos):
    rows = texts(TEXT)
    said = TASK.protocol(TASK.prepare(rows, with_bos, 50, stride=25), rows, with_bos, 50, stride=25)
    windows, tokens = (len(ids(with_bos, TEXT)) - 50) // 25 + 1, with_bos
    assert said == {
        "packing": "joined", "context length": 50, "stride": 25, "windows": windows, "tail": "left out",
        "start token": "<s>", "scored tokens": 49 + 25 * (windows - 1),
    }  # fmt: skip
    assert TASK.protocol(TASK.prepare(rows, without_bos, None), rows, without_bos, None)["context length"] == 128
    assert TASK.protocol(TASK.prepare(rows, without_bos, 50), rows, without_bos, 50)["start token"] == "none"
    assert tokens.decode([0]) == "<s>"
