"""How texts become vectors, as the files of sentence-transformers say, and what is kept of these files."""

import json
import math

import datasets
import pytest
import torch

from compressit import model as models
from compressit import tasks
from compressit.errors import DataError, StepError
from compressit.tasks import _pooling
from tests import paired, tiny
from tests.conftest import tokenizer

NAME = "sentence-similarity"
TASK = tasks.load(NAME)
DRAW = torch.Generator().manual_seed(0)
LENGTHS = [5, 1, 3]
HIDDEN = torch.randn(3, 5, 4, generator=DRAW)


def padded(side):
    """Hidden states and masks of three texts, their padding full of other numbers."""
    hidden, mask = torch.randn(3, 5, 4, generator=DRAW), torch.zeros(3, 5, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        place = slice(0, length) if side == "right" else slice(5 - length, 5)
        hidden[row, place], mask[row, place] = HIDDEN[row, :length], 1
    return {"last_hidden_state": hidden}, {"attention_mask": mask}


BY_HAND = {
    "mean": lambda h: h.mean(0),
    "cls": lambda h: h[0],
    "max": lambda h: h.max(0).values,
    "lasttoken": lambda h: h[-1],
    "mean_sqrt_len_tokens": lambda h: h.sum(0) / math.sqrt(len(h)),
    "weightedmean": lambda h: sum((n + 1) * h[n] for n in range(len(h))) / sum(range(1, len(h) + 1)),
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", BY_HAND)
def test_a_vector_is_made_of_the_real_positions(mode, side, tmp_path):
    paired.modules(tmp_path, pooling=mode, normalize=False)
    made = tasks.reader(NAME, tmp_path)(*padded(side))
    wanted = torch.stack([BY_HAND[mode](HIDDEN[row, :length]) for row, length in enumerate(LENGTHS)])
    assert torch.allclose(made, wanted, atol=1e-6)


def test_what_comes_after_pooling(tmp_path):
    weight, bias = torch.randn(3, 4, generator=DRAW), torch.randn(3, generator=DRAW)
    paired.modules(tmp_path, dense=(weight, bias, "Tanh"))
    reader = tasks.reader(NAME, tmp_path)
    means = torch.stack([HIDDEN[row, :length].mean(0) for row, length in enumerate(LENGTHS)])
    wanted = torch.nn.functional.normalize(torch.tanh(means @ weight.T + bias), dim=-1)
    assert torch.allclose(reader(*padded("right")), wanted, atol=1e-6)
    assert reader.protocol() == {"pooling": "mean, dense to 3, normalised", "similarity": "cosine"}


def test_several_poolings_stand_side_by_side(tmp_path):
    paired.modules(tmp_path, pooling="mean", normalize=False)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": ["cls", "max"]}))
    made = tasks.reader(NAME, tmp_path)(*padded("right"))
    wanted = torch.stack([torch.cat([BY_HAND["cls"](h), BY_HAND["max"](h)]) for h in (HIDDEN[0], HIDDEN[1, :1])])
    assert torch.allclose(made[:2], wanted)


def test_a_folder_that_says_nothing_gets_the_mean_and_the_report_says_so(tmp_path):
    reader = tasks.reader(NAME, tmp_path)
    assert torch.allclose(reader(*padded("right"))[0], HIDDEN[0].mean(0), atol=1e-6)
    assert reader.protocol()["pooling"] == "mean, for want of a modules.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: part(folder, "LSTM"), "names a LSTM, which compressit can't compute"),
        (lambda folder: part(folder, "Normalize", path="../other"), "outside of the model's folder"),
        (lambda folder: paired.modules(folder, pooling="best"), "pooling is 'best'"),
        (lambda folder: paired.modules(folder, default_prompt_name="query"), "puts a prompt before each text"),
        (lambda folder: lower(folder), "put in lower case"),
        (
            lambda folder: paired.modules(folder, dense=(torch.ones(2, 4), torch.ones(2), "GLU")),
            "dense layer of a kind",
        ),
        (lambda folder: pickled(folder), "holds no model.safetensors"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(change, message, tmp_path):
    paired.modules(tmp_path)
    change(tmp_path)
    with pytest.raises(StepError, match=message):
        tasks.reader(NAME, tmp_path)


def part(folder, kind, path="3_More"):
    file = folder / "modules.json"
    more = {"idx": 9, "name": "9", "path": path, "type": f"sentence_transformers.models.{kind}"}
    file.write_text(json.dumps([*json.loads(file.read_text()), more]))


def lower(folder):
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))


def pickled(folder):
    paired.modules(folder, dense=(torch.ones(2, 4), torch.ones(2), "Tanh"))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")


def test_a_checkpoint_keeps_the_files_with_its_own_width(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "saved"
    source.mkdir()
    folder.mkdir()
    paired.modules(source, length=20)
    (source / "onnx").mkdir()
    (source / "onnx" / "model.onnx").write_text("not ours")
    tasks.keep(NAME, source, folder, 24)
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == [
        "1_Pooling/config.json", "2_Normalize/config.json", "config_sentence_transformers.json", "modules.json",
        "sentence_bert_config.json",
    ]  # fmt: skip
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 24
    assert tasks.cut_at(NAME, folder) == 20
    assert _pooling.read(folder).protocol() == _pooling.read(source).protocol()


def test_a_dense_layer_of_another_width_says_so(tmp_path):
    paired.modules(tmp_path, dense=(torch.ones(3, 6), torch.ones(3), "Tanh"))
    with pytest.raises(StepError, match="takes 6 channels, and is given 4"):
        tasks.reader(NAME, tmp_path)(*padded("right"))


ROWS = datasets.Dataset.from_list([
    {"text": "the film", "text_pair": "a very good film", "score": 4.0},
    {"text": "music with a plot and a scene", "text_pair": "dull", "score": 0.5},
])  # fmt: skip


def test_both_texts_of_a_pair_go_through_the_model_one_after_the_other():
    tokens = tokenizer()
    prepared = TASK.prepare(ROWS, tokens, None)
    batch = TASK.collate(tokens)(list(prepared))
    texts = [text for row in ROWS for text in (row["text"], row["text_pair"])]
    wanted = tokens(texts, padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == wanted["input_ids"].tolist()
    assert batch["attention_mask"].tolist() == wanted["attention_mask"].tolist()
    assert batch["labels"].tolist() == [4.0, 0.5]
    assert TASK.timed(batch)["input_ids"].tolist() == wanted["input_ids"][[0, 2]].tolist()


def test_texts_without_partners_are_single_rows():
    tokens = tokenizer()
    alone = TASK.singly(ROWS)
    assert sorted(alone["text"]) == sorted([*ROWS["text"], *ROWS["text_pair"]])
    batch = TASK.collate(tokens)(list(TASK.prepare(alone, tokens, None)))
    assert len(batch["input_ids"]) == len(batch["labels"]) == 4
    assert batch["labels"].isnan().all()
    assert len(TASK.singly(alone)) == 4


def test_texts_are_cut_where_the_recipe_or_the_model_says():
    tokens = tokenizer()
    prepared = TASK.prepare(ROWS, tokens, 4)
    assert max(map(len, [*prepared["input_ids"], *prepared["pair_input_ids"]])) == 4
    with pytest.raises(DataError, match="max_length 65 is beyond the 64 tokens"):
        TASK.prepare(ROWS, tokens, 65)


def test_a_model_whose_pooler_was_never_trained_goes_without(tmp_path):
    whole = tiny.build("bert-pairs")
    bare = type(whole)(whole.config, add_pooling_layer=False)
    bare.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if "pooler" not in name})
    bare.save_pretrained(tmp_path / "bare")
    tiny.processor("bert-pairs").save_pretrained(tmp_path / "bare")
    model = models.load(tmp_path / "bare", NAME)
    model.save(tmp_path / "saved")
    again = models.load(tmp_path / "saved", NAME)
    assert {*again.module.state_dict()} == {*bare.state_dict()}
    batch = model.processor(["the film was good"], return_tensors="pt")
    with torch.no_grad():
        wanted = whole.eval()(**batch).last_hidden_state.mean(1)
        assert torch.allclose(again.answer(again.module(**batch), batch), wanted, atol=1e-6)
    del bare.encoder.layer[1]
    bare.save_pretrained(tmp_path / "broken")
    bare.config.num_hidden_layers = 4
    bare.config.save_pretrained(tmp_path / "broken")
    tiny.processor("bert-pairs").save_pretrained(tmp_path / "broken")
    with pytest.raises(StepError, match="holds no trained weights for sentence-similarity"):
        models.load(tmp_path / "broken", NAME)
