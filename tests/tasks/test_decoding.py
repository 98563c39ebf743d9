"""How texts and what is wanted of them become batches, and how texts are generated."""

import datasets
import numpy as np
import pytest
import torch

from compressit import model as models
from compressit import tasks
from compressit.errors import DataError, StepError
from compressit.tasks._decoding import Decoding
from tests import tiny, written

TASK = tasks.load("translation")
ROWS = written.pairs(12, 1)


@pytest.fixture(scope="module", params=["t5-writes", "bart-writes"])
def writer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    tiny.save(request.param, folder)
    return models.load(folder, "translation")


def data(rows=ROWS):
    return datasets.Dataset.from_list(rows)


def batch(model, rows=ROWS, **fields):
    prepared = TASK.prepare(data(rows), model.processor, None, **fields)
    return TASK.collate(model.processor)(list(prepared))


def test_the_decoder_reads_what_the_model_itself_would_make_of_the_labels(writer):
    made = batch(writer)
    shifted = writer.module.prepare_decoder_input_ids_from_labels(labels=made["labels"])
    assert torch.equal(shifted, made["decoder_input_ids"])
    lengths = (made["labels"] != -100).sum(1)
    assert torch.equal(made["decoder_attention_mask"].sum(1), lengths)
    assert len(set(lengths.tolist())) > 1
    own = writer.module(**{name: made[name] for name in ("input_ids", "attention_mask", "labels")})
    inputs = {name: value for name, value in made.items() if name != "labels"}
    logits, targets = TASK.scored(writer.module(**inputs).logits, made["labels"])
    assert torch.nn.functional.cross_entropy(logits, targets).item() == pytest.approx(own.loss.item(), rel=1e-5)


def test_padding_changes_nothing(writer):
    together = batch(writer)
    said = writer.module(**{name: value for name, value in together.items() if name != "labels"}).logits
    for number, row in enumerate(ROWS[:4]):
        alone = batch(writer, [row])
        own = writer.module(**{name: value for name, value in alone.items() if name != "labels"}).logits[0]
        assert torch.allclose(said[number, : len(own)], own, atol=1e-5)


def test_texts_are_cut_and_have_their_prefix():
    tokens = written.tokenizer()
    prepared = TASK.prepare(data(), tokens, 4, prefix="say: ", max_target=3)
    assert tokens.batch_decode(prepared["input_ids"][:]) == [
        f"say: {' '.join(row['text'].split()[:2])} </s>" for row in ROWS
    ]
    assert tokens.batch_decode(prepared["labels"][:]) == [
        f"{' '.join(row['translation'].split()[:2])} </s>" for row in ROWS
    ]
    assert prepared["reference"][:] == [row["translation"] for row in ROWS], "what is judged is not cut"


def test_rows_that_nobody_has_translated(writer):
    made = batch(writer, [{**ROWS[0], "translation": None}, {**ROWS[1], "translation": None}])
    assert (made["labels"] == -100).all()
    assert made["decoder_input_ids"].shape == (2, 1)


def test_what_is_generated_is_what_transformers_generates(writer):
    made = batch(writer)
    inputs = {name: made[name] for name in ("input_ids", "attention_mask")}
    ask = tasks.asker("translation", writer.processor, None)
    for generation in ({"max_new_tokens": 6}, {"num_beams": 3, "max_new_tokens": 6, "length_penalty": 0.5}):
        how = {name: torch.from_numpy(value) for name, value in TASK.manner(writer.processor, generation).items()}
        wanted = writer.module.generate(**inputs, **generation)
        texts = writer.processor.batch_decode(wanted, skip_special_tokens=True)
        assert ask(writer.module, {**made, **how}).tolist() == texts
        assert max(len(text.split()) for text in texts) <= 6


def test_timings_write_as_many_tokens_whatever_the_model_has_to_say(writer):
    calls = []
    hook = writer.module.get_decoder().register_forward_hook(lambda *given: calls.append(1))
    inputs = {name: value.numpy() for name, value in batch(writer, ROWS[:2]).items()}
    ask = tasks.asker("translation", writer.processor, None)
    try:
        for generation, wanted in (({"max_new_tokens": 5}, 5), (None, 32)):
            calls.clear()
            asked = TASK.timed({**inputs, **TASK.manner(writer.processor, generation)})
            ask(writer.module, {name: torch.from_numpy(value) for name, value in asked.items()})
            assert len(calls) == wanted
    finally:
        hook.remove()


def test_a_decoder_deeper_than_its_encoder_writes(tmp_path):
    """By itself, transformers has no room for what the last blocks of such a T5 have read."""
    tiny.build("t5-writes", num_layers=1).save_pretrained(tmp_path)
    written.tokenizer().save_pretrained(tmp_path)
    deep = models.load(tmp_path, "translation")
    made = batch(deep, ROWS[:3])
    how = {"max_new_tokens": torch.tensor([5]), "num_beams": torch.tensor([2])}
    wanted = deep.module.generate(
        input_ids=made["input_ids"], attention_mask=made["attention_mask"], max_new_tokens=5, num_beams=2,
        use_cache=False,
    )  # fmt: skip
    texts = deep.processor.batch_decode(wanted, skip_special_tokens=True)
    assert tasks.asker("translation", deep.processor, None)(deep.module, {**made, **how}).tolist() == texts


def test_without_any_limit_there_are_128_new_tokens(writer):
    own = {"t5": 128, "bart": 64}[writer.module.config.model_type]
    assert TASK.manner(writer.processor) == {"max_new_tokens": np.array([own])}
    said = TASK.protocol(None, None, writer.processor, 20, prefix="say: ", generation={"num_beams": 3})
    assert said == {
        "source length": 20,
        "prefix": "say: ",
        "generation": f"max_new_tokens {own}, num_beams 3",
        "timed": "at most 32 new tokens, as many for each text",
    }


def test_a_folders_own_way_to_generate_is_kept_and_told(tmp_path):
    tiny.save("bart-writes", tmp_path)
    import transformers

    own = transformers.GenerationConfig.from_pretrained(tmp_path)
    own.update(num_beams=2, max_length=9, no_repeat_ngram_size=2, do_sample=True, top_k=3)
    own.save_pretrained(tmp_path)
    model = models.load(tmp_path, "translation")
    assert TASK.manner(model.processor) == {}
    said = TASK.protocol(None, None, model.processor, None)["generation"]
    assert said == "max_length 9, no_repeat_ngram_size 2, num_beams 2"
    said = TASK.protocol(None, None, model.processor, None, generation={"num_beams": 1, "max_new_tokens": 4})
    assert said["generation"] == "max_new_tokens 4, no_repeat_ngram_size 2, num_beams 1"
    ask, made = tasks.asker("translation", model.processor, None), batch(model)
    assert ask(model.module, made).tolist() == ask(model.module, made).tolist(), "nothing is drawn at random"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 65}, "max_length 65 is beyond the 32 tokens"),
        ({"max_length": 1}, "leaves no room for a text"),
        ({"max_length": None, "max_target": 99}, "max_target 99 is beyond"),
        ({"max_length": None, "source_language": "eng_Latn"}, "no tokenizer of many languages"),
    ],
)
def test_what_can_not_be_read(fields, message):
    with pytest.raises(DataError, match=message):
        TASK.prepare(data(), written.tokenizer(), fields.pop("max_length"), **fields)


def test_more_tokens_than_a_model_can_write(tmp_path):
    tiny.save("bart-writes", tmp_path)
    with pytest.raises(DataError, match="max_new_tokens 65 is beyond the 64 tokens"):
        TASK.manner(models.processor(tmp_path, "translation"), {"max_new_tokens": 65})


def test_a_model_without_a_decoder_of_its_own(tmp_path):
    tiny.save("llama", tmp_path)
    with pytest.raises(StepError, match="holds a llama, which doesn't read one text and write another"):
        models.processor(tmp_path, "summarization")


def test_a_tokenizer_of_many_languages_is_told_them():
    from transformers import NllbTokenizer

    languages = ["eng_Latn", "deu_Latn"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "▁b", *languages, "a", "b"]
    made = NllbTokenizer(
        vocab={piece: place for place, piece in enumerate(pieces)}, merges=[("▁", "a"), ("▁", "b")],
        src_lang="deu_Latn", tgt_lang="eng_Latn", extra_special_tokens=languages, model_max_length=32,
    )  # fmt: skip
    made.decoding = Decoding(2)
    rows = data([{"text": "a b a", "translation": "b a"}])
    (row,) = TASK.prepare(rows, made, None, source_language="eng_Latn", target_language="deu_Latn")
    assert made.convert_ids_to_tokens(row["input_ids"]) == ["eng_Latn", "▁a", "▁b", "▁a", "</s>"]
    assert made.convert_ids_to_tokens(row["labels"]) == ["deu_Latn", "▁b", "▁a", "</s>"]
    assert TASK.manner(made, target_language="deu_Latn")["forced_bos_token_id"] == pieces.index("deu_Latn")
    with pytest.raises(DataError, match="target_language 'de' is none that the tokenizer knows"):
        TASK.prepare(rows, made, None, target_language="de")
