"""trim_vocabulary: what is read as before, what follows, and what is refused."""

import json
import random

import datasets
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as kinds

from compressit import model as models
from compressit import recipe, rules, tasks, weights
from compressit.errors import RecipeError, StepError
from compressit.model import tokens, vocabulary
from compressit.progress import Silent
from compressit.steps import StepContext
from compressit.steps.trim_vocabulary import Config, chosen, claim, foresee, run
from tests import conftest, tiny

draw = random.Random(3)
SYLLABLES = ["ba", "ko", "ri", "tun", "sel", "mi", "dor", "ap", "nes", "qua", "ing", "er", "lu", "zo", "fan", "thi"]
WORDS = sorted({"".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(500)})
CORPUS = [" ".join(draw.choices(WORDS[::9], k=draw.randint(3, 9))) for _ in range(60)]
ALL = [*CORPUS, *(" ".join(draw.choices(WORDS, k=6)) for _ in range(500)), *["žluťoučký kůň", "пёс и кот"] * 9]
HELD_OUT = ["thizoquaba xylophone, Ürümqi!", "日本 🙂 ba", "a", "  two  spaces\nand\tmore "]
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def trained(model, trainer, setup, size, special, **more):
    """Train a tokenizer on all the texts."""
    made = Tokenizer(model)
    setup(made)
    made.train_from_iterator(ALL, trainer(vocab_size=size, special_tokens=special, show_progress=False, **more))
    return json.loads(made.to_str())["model"]


def wordpiece():
    model = trained(kinds.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer, whitespace, 300, BERT)
    return transformers.BertTokenizer(vocab=model["vocab"], model_max_length=64)


def wordlevel():
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(
            json.dumps({**json.loads(conftest.tokenizer().backend_tokenizer.to_str()), "model": level()})
        ),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64,
    )  # fmt: skip


def level():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    return {"type": "WordLevel", "vocab": {name: index for index, name in enumerate(names)}, "unk_token": "[UNK]"}


def whitespace(made):
    made.pre_tokenizer = pre_tokenizers.Whitespace()


def byte_level(made):
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def metaspace(made):
    made.pre_tokenizer = pre_tokenizers.Metaspace(split=False)


def roberta():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model = trained(
        kinds.BPE(), trainers.BpeTrainer, byte_level, 480, list(SPECIAL.values()), initial_alphabet=alphabet
    )
    return transformers.RobertaTokenizer(vocab=model["vocab"], merges=pairs(model), model_max_length=64)


def byte_bpe():
    """Byte-level, with no class of its own, and special tokens at the end."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = Tokenizer(kinds.BPE())
    byte_level(made)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(ALL, trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens(["<s>", "<pad>"])
    made.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]),
    ])  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", model_max_length=64
    )


def llama():
    """As sentencepiece does it: spaces are letters, whole texts are one word, unknown letters are bytes."""
    size = [*("<unk>", "<s>", "</s>", "<pad>"), *(f"<0x{byte:02X}>" for byte in range(256))]
    model = trained(kinds.BPE(), trainers.BpeTrainer, metaspace, 500, size)
    return transformers.LlamaTokenizer(
        vocab=model["vocab"], merges=pairs(model), pad_token="<pad>", model_max_length=64
    )


def unigram(special):
    model = trained(kinds.Unigram(), trainers.UnigramTrainer, metaspace, 260, special, unk_token="<unk>")
    return [tuple(entry) for entry in model["vocab"]]


def xlm_roberta():
    return transformers.XLMRobertaTokenizer(
        vocab=unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]), model_max_length=64
    )


def albert():
    return transformers.AlbertTokenizer(
        vocab=unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]), model_max_length=64
    )


def t5():
    return transformers.T5Tokenizer(vocab=unigram(["<pad>", "</s>", "<unk>"]), extra_ids=4, model_max_length=64)


def pairs(model):
    return [tuple(pair) for pair in model["merges"]]


KINDS = {
    "bert": wordpiece, "distilbert": wordlevel, "roberta": roberta, "gpt2": byte_bpe, "llama": llama,
    "xlm-roberta": xlm_roberta, "albert": albert, "t5": t5,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give the folder of a tiny model with a tokenizer of its own kind."""
    made = {}

    def saved(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            tokenizer = KINDS[name]()
            ids = {f"{key}_token_id": getattr(tokenizer, f"{key}_token_id") for key in ("pad", "bos", "eos")}
            more = {key: index for key, index in ids.items() if index is not None}
            tiny.build(name, **{**more, "vocab_size": len(tokenizer)}).save_pretrained(made[name])
            tokenizer.save_pretrained(made[name])
        return made[name]

    return saved


@pytest.fixture
def context(tmp_path):
    def made(texts=CORPUS, **more):
        rows = datasets.Dataset.from_list([{"text": text, "label": 0} for text in texts])
        given = {"train": rows, "calibration": None, **more}
        return StepContext(**given, teacher=None, device="cpu", seed=0, progress=Silent(), scratch=tmp_path / "scratch")

    return made


def trim(**fields):
    return Config(step="trim_vocabulary", **fields)


def read(tokenizer, texts):
    return [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]


def logits(module, tokenizer, texts):
    batch = tasks.load("text-classification").collate(tokenizer)([{**tokenizer(text), "labels": 0} for text in texts])
    with torch.inference_mode():
        return module(**{name: value for name, value in batch.items() if name != "labels"}).logits


@pytest.mark.parametrize("name", KINDS)
def test_what_is_all_kept_is_read_as_before_and_gets_the_same_logits(name, folder, context, tmp_path):
    model = models.load(folder(name), "text-classification")
    before, said = model.processor, logits(model.module, model.processor, CORPUS)
    notes = run(model, trim(), context())
    assert notes["tokens_after"] < 0.9 * notes["tokens_before"]
    assert (notes["corpus_covered"], notes["texts_read_alike"]) == (1, 1)
    assert notes["embedding_share_after"] < notes["embedding_share_before"]
    assert read(model.processor, CORPUS) == read(before, CORPUS)
    assert torch.equal(logits(model.module, model.processor, CORPUS), said)

    model.save(tmp_path / "saved")
    module = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(tokenizer) == notes["tokens_after"] == module.get_input_embeddings().num_embeddings
    assert read(tokenizer, CORPUS) == read(before, CORPUS)
    assert torch.equal(logits(module, tokenizer, CORPUS), said)
    assert claim(tmp_path / "saved", trim()) is None


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_kept_is_still_read(name, folder, context):
    model = models.load(folder(name), "text-classification")
    before = model.processor
    run(model, trim(min_count=3), context())
    after = model.processor
    count = vocabulary.size(model.module)
    for text in [*HELD_OUT, *WORDS]:
        found = after(text)["input_ids"]
        assert found
        assert max(found) < count
    assert bool(torch.isfinite(logits(model.module, after, HELD_OUT)).all())
    if name in ("roberta", "gpt2", "llama"):
        # Bytes say everything.
        for text in ["日本 🙂 ba", *WORDS]:
            assert after.decode(after(text)["input_ids"], skip_special_tokens=True).strip() == text
    if name in ("bert", "xlm-roberta", "albert", "t5"):
        unknown = after.unk_token_id
        assert all(unknown not in after(word)["input_ids"] for word in WORDS)
    for key in ("model_max_length", "padding_side", "truncation_side", "chat_template", "special_tokens_map"):
        assert getattr(after, key) == getattr(before, key), key


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("seed", "alphabet"), [(0, "all"), (1, "all"), (2, "seen"), (3, "seen")])
def test_any_tokens_may_stay(name, seed, alphabet, folder, tmp_path):
    """Whatever tokens are kept, a text that needs no other is read as before, also where it has unknown words."""
    before = models.processor(folder(name), "text-classification")
    spec = tokens.described(before)
    draw, needs = random.Random(seed), tokens.needs(spec)
    every = sorted(tokens.pieces(spec).values())
    picked = {*draw.sample(every, k=len(every) // 2)}
    letters = tokens.characters(spec, picked) if alphabet == "seen" else None
    kept = tokens.stay(spec, letters).union(*map(needs, picked))
    ids = tokens.numbered(spec, kept, len(before))
    after = tokens.reopened(before, tokens.cut(spec, ids), tmp_path)
    texts = [*WORDS, *HELD_OUT, *ALL, *(f"{word}🙂x {word}" for word in WORDS[::7])]
    whole = [text for text in texts if ids.keys() >= {*before(text)["input_ids"]}]
    assert len(whole) > 20
    assert read(after, whole) == read(before, whole)
    assert [*ids] == sorted(ids)
    assert [*ids.values()] == [*range(len(ids))]


@pytest.mark.parametrize("ignore", [False, True])
def test_bpe_with_marks_at_the_end_of_words_or_inside_them(ignore):
    """As CLIP and the first GPT have it, and the other way round."""
    for marks in ({"end_of_word_suffix": "</w>"}, {"continuing_subword_prefix": "@@"}):
        made = Tokenizer(kinds.BPE(unk_token="<unk>", ignore_merges=ignore, **marks))
        whitespace(made)
        made.train_from_iterator(
            ALL, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False, **marks)
        )
        spec = json.loads(made.to_str())
        needs, kept = tokens.needs(spec), tokens.stay(spec)
        for word in WORDS[::5]:
            kept = kept.union(*(needs(index) for index in made.encode(word).ids))
        assert len(kept) < made.get_vocab_size()
        after = Tokenizer.from_str(json.dumps(tokens.cut(spec, tokens.numbered(spec, kept, len(WORDS)))))
        for word in WORDS:
            if kept >= {*made.encode(word).ids}:
                assert after.encode(word).tokens == made.encode(word).tokens


@pytest.mark.parametrize("name", tiny.TEXTS)
def test_every_family_computes_what_it_did(name, opened, context):
    model = opened(name)
    texts = ["the film was good", "a dull plot", "it is good and very lovely music"]
    before, heads = logits(model.module, model.processor, texts), type(model.module.get_input_embeddings())
    notes = run(model, trim(), context(texts))
    assert notes["tokens_after"] < notes["tokens_before"]
    assert torch.equal(logits(model.module, model.processor, texts), before)
    embeddings = model.module.get_input_embeddings()
    assert type(embeddings) is heads
    assert embeddings.weight.shape[0] == embeddings.num_embeddings == notes["tokens_after"]
    configs = {id(part.config): part.config for part in model.module.modules() if hasattr(part, "config")}
    assert {each.vocab_size for each in configs.values()} == {notes["tokens_after"]}


HEADS = {
    "BertForMaskedLM": "bert", "ElectraForMaskedLM": "electra", "AlbertForMaskedLM": "albert",
    "ModernBertForMaskedLM": "modernbert", "DistilBertForMaskedLM": "distilbert", "DebertaV2ForMaskedLM": "deberta-v2",
    "GPT2LMHeadModel": "gpt2", "LlamaForCausalLM": "llama", "Gemma3ForCausalLM": "gemma3_text", "OPTForCausalLM": "opt",
    "GPTNeoXForCausalLM": "gpt_neox", "T5ForConditionalGeneration": "t5", "BartForConditionalGeneration": "bart",
}  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_outputs_of_the_kept_tokens_are_what_they_were(name, tied, tmp_path):
    prefix, fields = tiny.TEXTS[HEADS[name]]
    torch.manual_seed(0)
    made = getattr(transformers, f"{prefix}Config")(
        **{"pad_token_id": 0, **fields}, vocab_size=50, tie_word_embeddings=tied
    )
    module = getattr(transformers, name)(made).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for key, buffer in module.named_buffers():
        if "logits_bias" in key:
            buffer.normal_()
    kept = sorted({0, 1, 2, 3, 7, 11, 30, 31, 49} | vocabulary.named(module))
    ids = {old: new for new, old in enumerate(kept)}
    given = torch.tensor([[2, 7, 11, 49, 3], [2, 30, 31, 7, 3]])

    def say(tokens):
        more = {"decoder_input_ids": tokens} if module.config.is_encoder_decoder else {}
        with torch.inference_mode():
            return module(input_ids=tokens, **more).logits

    before, was = say(given), module.get_output_embeddings().weight is module.get_input_embeddings().weight
    vocabulary.cut(module, ids)
    renumbered = torch.tensor([[ids[token] for token in row] for row in given.tolist()])
    after = say(renumbered)
    assert torch.allclose(after, before[..., kept], atol=1e-5)
    output = module.get_output_embeddings()
    assert output.weight.shape[0] == output.out_features == len(kept)
    assert (output.weight is module.get_input_embeddings().weight) is was
    module.save_pretrained(tmp_path)
    again, info = type(module).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    module = again.eval()
    assert torch.equal(say(renumbered), after)


def test_a_causal_model_keeps_the_likelihoods_of_what_it_can_still_say(storyteller, context, tmp_path):
    model = models.load(storyteller / "model", "text-generation")
    spec, before = tokens.described(model.processor), model.processor
    text = (storyteller / "test.txt").read_text()[:200]
    old = before(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        said = model.module(input_ids=old).logits
    notes = run(model, trim(), context(train=datasets.Dataset.from_list([{"text": text}])))
    assert notes["tokens_after"] < notes["tokens_before"]
    model.save(tmp_path / "saved")
    module = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    after = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert after.tokenize(text) == before.tokenize(text)
    names = {**tokens.pieces(spec), **tokens.added(spec)}
    kept = [names[piece] for piece in after.convert_ids_to_tokens(range(len(after)))]
    new = after(text, return_tensors="pt")["input_ids"]
    assert [kept[index] for index in new[0].tolist()] == old[0].tolist()
    with torch.inference_mode():
        assert torch.allclose(module(input_ids=new).logits, said[..., kept], atol=1e-5)
    told = module.generate(new[:, :9], max_new_tokens=8, do_sample=False, pad_token_id=module.config.eos_token_id)
    assert told.shape[1] > 9


def test_ids_follow_wherever_they_are_written(folder, context, tmp_path):
    model = models.load(folder("gpt2"), "text-classification")
    pieces = model.processor.get_vocab()
    module, word = model.module, pieces["ba"]
    there = str(read(model.processor, CORPUS))
    # A vocabulary comes in any order; <pad> stays, though nobody reads it.
    unused = next(pieces[piece] for piece in sorted({*pieces} - {"<pad>"}) if len(piece) > 2 and piece not in there)
    module.config.eos_token_id = [pieces["<s>"], word]
    module.config.forced_eos_token_id = 9999
    generation = transformers.GenerationConfig(
        bos_token_id=pieces["<s>"],
        pad_token_id=pieces["<pad>"],
        suppress_tokens=[word, unused],
        bad_words_ids=[[word, word], [unused, word]],
    )
    module.generation_config = generation
    run(model, trim(), context())
    now = model.processor.get_vocab()
    assert module.config.pad_token_id == now["<pad>"] == model.processor.pad_token_id != pieces["<pad>"]
    assert module.config.eos_token_id == [now["<s>"], now["ba"]]
    assert module.config.forced_eos_token_id == 9999
    assert (generation.bos_token_id, generation.pad_token_id) == (now["<s>"], now["<pad>"])
    assert generation.suppress_tokens == [now["ba"]]
    assert generation.bad_words_ids == [[now["ba"], now["ba"]]]


def test_positions_that_are_counted_from_the_padding_token_stay(folder, context):
    model = models.load(folder("xlm-roberta"), "text-classification")
    assert model.module.config.pad_token_id == 1
    run(model, trim(), context())
    assert model.module.config.pad_token_id == 1
    assert model.module.base_model.embeddings.word_embeddings.padding_idx == 1
    with pytest.raises(StepError, match="padding token would move"):
        vocabulary.cut(model.module, {1: 0, 2: 1})


def test_how_many_stay(folder, context):
    counts, stay, alone = {5: 10, 6: 30, 7: 1, 8: 10, 9: 49}, {0, 1}, lambda token: {token}
    assert chosen(trim(), counts, stay, alone) == {0, 1, 5, 6, 7, 8, 9}
    assert chosen(trim(min_count=2), counts, stay, alone) == {0, 1, 5, 6, 8, 9}
    assert chosen(trim(keep=5), counts, stay, alone) == {0, 1, 9, 6, 5}
    assert chosen(trim(keep=0.79), counts, stay, alone) == {0, 1, 9, 6}
    assert chosen(trim(keep=0.795, min_count=20), counts, stay, alone) == {0, 1, 9, 6}
    assert chosen(trim(keep=5), counts, stay, lambda token: {token, token + 100}) == {0, 1, 9, 109}
    with pytest.raises(RecipeError, match="the 2 special tokens"):
        chosen(trim(keep=1), counts, stay, alone)
    model = models.load(folder("llama"), "text-classification")
    notes = run(model, trim(keep=320), context())
    assert 315 <= notes["tokens_after"] <= 320
    assert notes["corpus_covered"] < 1


@pytest.mark.parametrize(("name", "keep"), [("bert", 80), ("llama", 320), ("gpt2", 290)])
def test_the_plan_foresees_and_the_claim_counts(name, keep, folder, context, tmp_path):
    model = models.load(folder(name), "text-classification")
    run(model, trim(keep=keep), context())
    model.save(tmp_path / "saved")
    table = foresee(weights.read(folder(name)), trim(keep=keep))
    held = weights.read(tmp_path / "saved")
    assert table.bytes == pytest.approx(held.bytes, rel=0.02)
    assert claim(tmp_path / "saved", trim(keep=keep)) is None
    assert "70 were to stay" in claim(tmp_path / "saved", trim(keep=70))
    assert foresee(held, trim()) == held


@pytest.mark.parametrize(
    ("name", "fewer"), [("bert", True), ("xlm-roberta", True), ("llama", True), ("roberta", False)]
)
def test_characters_that_the_corpus_has_not_may_go_but_bytes_never(name, fewer, folder, context):
    sizes = {}
    for alphabet in ("all", "seen"):
        model = models.load(folder(name), "text-classification")
        sizes[alphabet] = run(model, trim(alphabet=alphabet), context(["ba ri", "ri ba ba"]))["tokens_after"]
    assert (sizes["seen"] < sizes["all"]) is fewer
    if name != "roberta":
        assert len(model.processor.tokenize("bari")) > 1
    assert model.processor("quasel")["input_ids"]


def test_what_the_corpus_is(folder, context):
    rows = datasets.Dataset.from_list([{"text": WORDS[1], "label": 0}])
    sizes = []
    for fields, given in (({}, {}), ({}, {"calibration": rows}), ({"corpus": "calibration"}, {"calibration": rows})):
        model = models.load(folder("distilbert"), "text-classification")
        sizes.append(run(model, trim(**fields), context(CORPUS[:1], **given))["tokens_after"])
    words = {*CORPUS[0].split()}
    assert sizes == [4 + len(words), 4 + len(words | {WORDS[1]}), 4 + 1]
    assert [need.value for need in trim().needs()] == ["training data"]
    assert [need.value for need in trim(corpus="calibration").needs()] == ["calibration"]


def test_slow_tokenizers_and_those_without_a_word_for_the_unknown_are_refused(folder, context):
    model = models.load(folder("bert"), "text-classification")
    model.processor = transformers.CanineTokenizer()
    with pytest.raises(StepError, match="slow tokenizer"):
        run(model, trim(), context())
    with pytest.raises(StepError, match="unknown words"):
        tokens.described(
            transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(kinds.WordLevel({"a": 0}, unk_token="b")))
        )


RECIPE = """
name: trim
task: {task}
model: {model}
dataset: {{path: {data}, evaluation: test, {more}}}
steps:
  - step: trim_vocabulary
{steps}
"""


@pytest.mark.parametrize(
    ("task", "more", "steps", "message"),
    [
        ("text-classification", "calibration: train", "", "needs training data"),
        ("text-classification", "train: train", "    corpus: calibration", "needs calibration"),
        ("text-classification", "train: train", "    keep: 1.5", "keep"),
        ("image-classification", "train: train", "", "does not work on models for image-classification"),
        ("text-generation", "train: train", "", "perplexity, agreement, kl_divergence can't be compared"),
        ("text-generation", "train: train", "  - step: distill\nmetrics: [size]", "a teacher that reads the same"),
        ("text-generation", "train: train", "metrics: [size]", None),
        ("text-classification", "train: train", "  - step: distill", None),
    ],
)
def test_recipes_that_can_not_work_are_refused(task, more, steps, message, write, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = RECIPE.format(task=task, model=tmp_path, data=tmp_path, more=more, steps=steps)
    try:
        found = [problem.message for problem in rules.check(recipe.load(write(text)))]
    except recipe.RecipeProblems as error:
        found = [problem.message for problem in error.problems]
    assert (found == []) if message is None else any(message in each for each in found), found
