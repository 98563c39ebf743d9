"""Any number of artifacts side by side: rows of a data set, each by its own tokenizer, or inputs drawn at random."""

import json
import random
from dataclasses import asdict

import numpy as np
import pytest

from compressit import data, machine
from compressit.data import DatasetSpec
from compressit.errors import CompressitError, ExitCode
from compressit.measure import Setting, Subject, child
from compressit.measure.drawing import Drawn
from compressit.measure.interleaving import RUNS, interleave
from compressit.measure.timings import Shape, side_by_side
from compressit.runtimes import torch as runtime
from tests import tiny

TASK = "text-classification"


def setting(task, rows=None):
    return {"task": task, "rows": rows, "trust_remote_code": False, "max_length": None, "fields": {}}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An untrained model of another architecture, whose tokenizer knows only half of the words."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("other")
    tiny.processor("bert").save_pretrained(folder)
    written = json.loads((folder / "tokenizer.json").read_text())
    words = written["model"]["vocab"]
    written["model"]["vocab"] = {word: place for word, place in words.items() if place < len(words) // 2}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    tokens = PreTrainedTokenizerFast.from_pretrained(folder)
    tokens.model_input_names = ["input_ids", "attention_mask"]
    tokens.save_pretrained(folder)
    config = DistilBertConfig(vocab_size=len(tokens), dim=32, n_layers=1, n_heads=4, hidden_dim=64)
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_artifacts_of_unlike_tokenizers_are_timed_on_the_same_rows(sentiment, other, tmp_path):
    spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    rows = data.rows(spec, "test.jsonl[:50]", TASK, {0: "NEGATIVE", 1: "POSITIVE"}, sentiment)
    rows.save_to_disk(str(tmp_path / "rows"))
    subjects = {"whole": Subject(str(sentiment / "model"), "torch"), "again": Subject(str(other), "torch")}
    found = side_by_side(subjects, Setting(TASK, str(tmp_path / "rows"), 0), [Shape(1), Shape(4)], seconds=0.0)
    assert list(found) == [Shape(1), Shape(4)]
    for timing in found.values():
        assert list(timing.seconds) == ["whole", "again"], "names are the caller's"
        times = (*timing.seconds.values(), timing.again)
        assert {len(each) for each in times} == {RUNS[0]}
        assert all(bool((each > 0).all()) for each in times)
        assert bool((timing.again != timing.seconds["whole"]).any())


def test_drawn_texts_have_the_length_asked_for_and_no_model_takes_longer_ones(sentiment, other):
    subjects = {"whole": Subject(str(sentiment / "model"), "torch"), "other": Subject(str(other), "torch")}
    found = side_by_side(subjects, Setting(TASK, None, 0), [Shape(2, 16), Shape(1, 64)], seconds=0.0)
    assert [*found] == [Shape(2, 16), Shape(1, 64)]
    with pytest.raises(CompressitError, match="timing whole, other: length 65 is beyond the 64 tokens") as caught:
        side_by_side(subjects, Setting(TASK, None, 0), [Shape(1, 65)])
    assert caught.value.exit_code is ExitCode.RECIPE


@pytest.mark.parametrize("name", ["bert", "bart", "bert-tags", "bert-qa", "bert-mask", "bert-pairs", "vit"])
def test_every_kind_of_model_runs_what_is_drawn_for_it(name, tmp_path):
    tiny.save(name, tmp_path)
    drawn = Drawn(tmp_path, setting(tiny.task(name)))
    length = None if name == "vit" else 12
    batch = drawn.batch(3, length, seed=5)
    first = batch["pixel_values" if name == "vit" else "input_ids"]
    assert first.shape == ((3, 3, 8, 8) if name == "vit" else (3, 12))
    assert len(runtime.open(tmp_path, tiny.task(name), "cpu")(batch)) == 3
    again, another = drawn.batch(3, length, seed=5), drawn.batch(3, length, seed=6)
    assert all(np.array_equal(again[key], batch[key]) for key in batch)
    assert not all(np.array_equal(another[key], batch[key]) for key in batch)
    if name == "bert":
        special = {*drawn.processor.all_special_ids}
        assert {*first[:, 0]} == {drawn.processor.cls_token_id}
        assert {*first[:, -1]} == {drawn.processor.sep_token_id}
        assert not special & {*first[:, 1:-1].flatten()}, "special tokens stand where a text has them only"
        with pytest.raises(CompressitError, match="length 2 leaves no room"):
            drawn.batch(1, 2, seed=0)


def test_a_language_model_is_asked_for_the_last_token_as_a_server_does(storyteller):
    batch = Drawn(storyteller / "model", setting("text-generation")).batch(2, 10, seed=0)
    assert batch["input_ids"].shape == (2, 10)
    assert batch["logits_to_keep"].tolist() == [9]
    assert runtime.open(storyteller / "model", "text-generation", "cpu")(batch).shape[:2] == (2, 1)


def test_every_round_runs_all_twice_in_a_row_and_each_round_in_an_order_of_its_own():
    ran, rounds = [], []
    sessions = {name: lambda batch, name=name: ran.append((name, batch)) for name in "abc"}

    def batches():
        rounds.append(len(ran))
        return {name: f"{name}{len(rounds)}" for name in sessions}

    took = interleave(sessions, batches, random.Random(0), seconds=0.0)
    assert {name: len(times) for name, times in took.items()} == dict.fromkeys("abc", RUNS[0])
    # What another model left behind is over when the second run is timed.
    assert ran[::2] == ran[1::2]
    parts = [ran[start : start + 6 : 2] for start in range(0, len(ran), 6)]
    for number, part in enumerate(parts, 1):
        assert {batch for _, batch in part} == {f"{name}{number}" for name in "abc"}
    assert len({tuple(name for name, _ in part) for part in parts}) > 3


def test_what_noise_is_told_by_is_opened_a_second_time_where_there_is_room(sentiment, tmp_path, monkeypatch):
    opened = child._Sessions({"task": TASK, "on_disk": None, "trust_remote_code": False}, tmp_path)
    subject = asdict(Subject(str(sentiment / "model"), "torch"))
    assert opened(subject) is opened(subject)
    assert opened.again(subject) is not opened(subject)
    monkeypatch.setattr(machine, "free_memory", lambda device: 1000)
    assert opened.again(subject) is opened(subject)
