"""trim_vocabulary with `others: nearest`: what is kept, what is read as what, and that files hold it."""

import itertools

import datasets
import pytest
import torch
import transformers

from compressit import model as models
from compressit.errors import StepError
from compressit.exports import onnx, openvino
from compressit.progress import Silent
from compressit.steps import StepContext, _aliasing
from compressit.steps.trim_vocabulary import Config, run
from tests import conftest, tiny


def trim(**fields):
    return Config(step="trim_vocabulary", others="nearest", **fields)


@pytest.fixture
def context(tmp_path):
    def made(count=80):
        rows = [{"text": row["sentence"], "label": row["label"]} for row in conftest.sentences(count, 5)]
        data = datasets.Dataset.from_list(rows)
        return StepContext(data, data, None, "cpu", 0, Silent(), tmp_path / "scratch")

    return made


@pytest.fixture
def opened(sentiment):
    return models.load(sentiment / "model", "text-classification")


def logits(model, text):
    with torch.inference_mode():
        return model.module(**model.processor(text, return_tensors="pt")).logits


def test_what_stays_is_as_before_and_what_goes_is_read_as_one_that_stays(sentiment, opened, context, tmp_path):
    before = models.load(sentiment / "model", "text-classification")
    notes = run(opened, trim(keep=20), context())
    assert notes["tokens_after"] == 20
    opened.save(tmp_path / "saved")
    old = before.processor.get_vocab()
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert plain.get_vocab().keys() == old.keys()
    assert set(plain.get_vocab().values()) == set(range(20))
    assert notes["tokens_read_as_others"] == len(old) - 20
    rows = before.module.get_input_embeddings().weight
    left = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    cut = left.get_input_embeddings().weight
    stayed = {word for word, index in plain.get_vocab().items() if torch.equal(cut[index], rows[old[word]])}
    assert len(stayed) == 20
    text = " ".join(sorted(word for word in stayed if word.isalpha()))
    assert torch.equal(logits(opened, text), logits(before, text))
    for row in conftest.sentences(40, 6):
        # Every word is read, none as unknown.
        assert plain(row["sentence"])["input_ids"] == opened.processor(row["sentence"])["input_ids"]
        assert plain.unk_token_id not in plain(row["sentence"])["input_ids"]


def test_what_it_costs_is_less_than_spelling_or_knowing_not(sentiment, context):
    rows, right = conftest.sentences(200, 7), {}
    for name, fields in (("nearest", {"others": "nearest"}), ("pieces", {})):
        model = models.load(sentiment / "model", "text-classification")
        run(model, Config(step="trim_vocabulary", keep=12, **fields), context())
        right[name] = sum(int(logits(model, row["sentence"]).argmax()) == row["label"] for row in rows)
    assert right["nearest"] > right["pieces"]


def test_the_files_of_a_later_trim_and_of_an_export_hold_it_too(opened, context, tmp_path):
    run(opened, trim(keep=24), context())
    run(opened, trim(keep=16), context())
    opened.save(tmp_path / "saved")
    vocabulary = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved").get_vocab()
    assert set(vocabulary.values()) == set(range(16))
    assert len(vocabulary) == len(conftest.tokenizer().get_vocab())
    for export in (onnx, openvino):
        folder = tmp_path / export.__name__
        folder.mkdir()
        batch = {**opened.processor(["it was good"], return_tensors="pt"), "labels": torch.tensor([1])}
        export.run(opened, export.Config(export="any"), folder, [batch])
        assert transformers.AutoTokenizer.from_pretrained(folder).get_vocab() == vocabulary


def test_distance_is_what_the_logits_feel(opened, context):
    """By brute force: the mean square, over tokens met, of J times the difference of two embeddings."""
    given = context(80)
    places = _aliasing.placed(opened, 8, given)
    rows = opened.module.get_input_embeddings().weight.detach()
    pair = places[5] - places[9]
    total, even = 0.0, 0.0
    for row in given.calibration:
        batch = opened.processor(row["text"], return_tensors="pt")
        embedded = rows[batch.pop("input_ids")]

        def answer(embedded, batch=batch):
            said = opened.module(inputs_embeds=embedded, **batch).logits[0]
            return said - said.mean()

        slopes = torch.autograd.functional.jacobian(answer, embedded)[:, 0]
        total += float((slopes @ (rows[5] - rows[9])).square().sum())
        even += float(slopes.square().sum()) / rows.shape[1]
    expected = total + _aliasing.EVEN * even * float((rows[5] - rows[9]).square().sum())
    # A random sum of the two logits of each text stands for both.
    assert float(pair.square().sum()) == pytest.approx(expected, rel=0.4)


def test_those_are_kept_that_would_be_missed_most():
    draw = torch.Generator().manual_seed(1)
    places = torch.rand(9, 2, generator=draw)
    counts, stay = {3: 4, 5: 2, 6: 9}, {0, 8}

    def cost(kept):
        others = places[sorted(kept - {8})]
        return sum(
            (1 + counts.get(token, 0)) * float(torch.cdist(places[token : token + 1], others).min()) ** 2
            for token in range(8)
        )

    kept = _aliasing.worth_keeping(places, counts, stay, {8}, 3)
    (new,) = kept - stay
    weights = {token: (1 + counts.get(token, 0)) * float((places[token] - places[0]).norm()) ** 2 for token in range(8)}
    assert new == max(weights, key=weights.get)
    every = [cost(stay | {token}) for token in range(1, 8)]
    assert cost(kept) <= sorted(every)[3]
    near = _aliasing.closest(places, [1, 2], [0, new])
    assert all(
        (places[token] - places[other]).norm() <= (places[token] - places[rival]).norm()
        for (token, other), rival in itertools.product(near.items(), (0, new))
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [({}, "a number to keep"), ({"keep": 0.5}, "a number to keep"), ({"keep": 9, "alphabet": "seen"}, "alphabet")],
)
def test_fields_that_would_do_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        trim(**fields)


def test_tokenizers_that_spell_by_joining_are_refused(storyteller, context, tmp_path):
    tiny.build("llama", vocab_size=320).save_pretrained(tmp_path / "llama")
    conftest.story_tokenizer("a b c").save_pretrained(tmp_path / "llama")
    model = models.load(tmp_path / "llama", "text-classification")
    with pytest.raises(StepError, match="BPE tokenizer"):
        run(model, trim(keep=300), context())
