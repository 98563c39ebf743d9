"""A language model, measured as saved: every figure against plain transformers, one window at a time."""

import json
import math

import numpy as np
import pytest
import torch
import transformers

from compressit import data, metrics
from compressit.data import DatasetSpec
from compressit.measure import Setting, Subject, measure
from compressit.metrics import Evidence
from compressit.runtimes import Facts
from tests.conftest import story, story_tokenizer

TASK = "text-generation"
CHAT = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def folder(storyteller, tmp_path_factory):
    """The storyteller, another like it with other weights, and rows of every kind."""
    place = tmp_path_factory.mktemp("language")
    module = transformers.AutoModelForCausalLM.from_pretrained(storyteller / "model")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + 0.1 * torch.randn_like(weight))
    module.save_pretrained(place / "other")
    tokens = transformers.AutoTokenizer.from_pretrained(storyteller / "model")
    tokens.chat_template = CHAT
    tokens.save_pretrained(place / "other")
    bare = place / "bare"
    module.save_pretrained(bare)
    story_tokenizer((storyteller / "train.txt").read_text(), bos=False).save_pretrained(bare)
    told = story(12, 5).split("\n\n")
    words = [text.rsplit(" ", 1) for text in told]
    rows = {
        "text": [{"text": text} for text in told],
        "chat": [{"messages": [{"role": "user", "content": said} for said in (text, "Once")]} for text in told],
        "words": [{"context": first, "continuation": last} for first, last in words],
    }
    for name, lines in rows.items():
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return place


@pytest.fixture
def run(folder, tmp_path, measured_here):
    """Measure a model of the folder on one of its files; in this process, for speed."""

    def measured(model, file, max_length=32, original=None, batch_size=32, **fields):
        spec = DatasetSpec(path=str(folder), evaluation=file)
        rows = data.rows(spec, file, TASK, {}, folder)
        place = tmp_path / "rows"
        rows.save_to_disk(str(place))
        setting = Setting(TASK, str(place), 0, max_length, fields=fields)
        beside = Subject(str(original), "torch") if original else None
        return measure(Subject(str(model), "torch"), setting, original=beside, batch_size=batch_size)

    return measured


def opened(folder):
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


def alone(module, tokens, first=1):
    """Sum of the negative log likelihoods of one window's tokens from `first` on, by transformers' own loss."""
    labels = torch.tensor([[-100] * first + tokens[first:]])
    with torch.inference_mode():
        return float(module(input_ids=torch.tensor([tokens]), labels=labels).loss) * (len(tokens) - first)


def value(name, outcome, reference=None):
    found = Evidence(Facts(1, 1, 1, {}), outcome.predictions, reference or outcome.predictions, {}, 0)
    return metrics.value(found, metrics.load(name).Config(metric=name))


def test_perplexity_is_that_of_the_published_protocol(folder, run):
    module, tokens = opened(folder / "other")
    found = run(folder / "other", "text.jsonl", batch_size=5)
    whole = tokens(story(12, 5), verbose=False)["input_ids"]
    windows = [whole[at : at + 32] for at in range(0, len(whole) - 31, 32)]
    nll = [alone(module, window) for window in windows]
    assert np.allclose(found.predictions.nll, nll, rtol=1e-4)
    assert found.predictions.tokens.tolist() == [31] * len(windows)
    assert value("perplexity", found) == pytest.approx(math.exp(sum(nll) / (31 * len(windows))), rel=1e-5)
    assert found.protocol["scored tokens"] == 31 * len(windows)
    assert len(set(found.predictions.examples)) == len(windows)


def test_with_a_stride_only_new_tokens_count(folder, run):
    module, tokens = opened(folder / "other")
    found = run(folder / "other", "text.jsonl", stride=12)
    whole = tokens(story(12, 5), verbose=False)["input_ids"]
    starts = range(0, len(whole) - 31, 12)
    nll = [alone(module, whole[at : at + 32], 20 if at else 1) for at in starts]
    assert np.allclose(found.predictions.nll, nll, rtol=1e-4)
    assert value("perplexity", found) == pytest.approx(math.exp(sum(nll) / (31 + 12 * (len(starts) - 1))), rel=1e-5)


@pytest.mark.parametrize("model", ["other", "bare"])
def test_documents_of_unequal_length_are_padded_and_added_up(model, folder, run):
    module, tokens = opened(folder / model)
    found = run(folder / model, "text.jsonl", packing="documents", max_length=24)
    nll = []
    for text in story(12, 5).split("\n\n"):
        whole = tokens(text)["input_ids"]
        windows = [whole[at : at + 24] for at in range(0, len(whole), 24)]
        nll.append(sum(alone(module, window) for window in windows if len(window) > 1))
    assert np.allclose(found.predictions.nll, nll, rtol=1e-4)
    assert found.protocol["start token"] == ("<s>" if model == "other" else "none")


def test_conversations(folder, run):
    module, tokens = opened(folder / "other")
    found = run(folder / "other", "chat.jsonl", max_length=128)
    texts = [f"{text}\nOnce\n" for text in story(12, 5).split("\n\n")]
    nll = [alone(module, tokens(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert np.allclose(found.predictions.nll, nll, rtol=1e-4)


def test_last_words(folder, run):
    module, tokens = opened(folder / "other")
    found = run(folder / "other", "words.jsonl", max_length=128)
    nll, right = [], []
    for text in story(12, 5).split("\n\n"):
        whole = tokens(text)["input_ids"]
        given = len(tokens(text.rsplit(" ", 1)[0])["input_ids"])
        nll.append(alone(module, whole, given))
        with torch.inference_mode():
            likeliest = module(input_ids=torch.tensor([whole])).logits[0].argmax(-1).tolist()
        right.append(likeliest[given - 1 : -1] == whole[given:])
    assert np.allclose(found.predictions.nll, nll, rtol=1e-4)
    assert value("last_word_accuracy", found) == np.mean(right)
    assert 0 < np.mean(right) < 1


def test_a_model_is_like_itself_and_unlike_another(folder, storyteller, run):
    model = storyteller / "model"
    same = run(model, "text.jsonl", original=model)
    assert value("agreement", same) == 1
    assert value("kl_divergence", same) == 0
    found = run(folder / "other", "text.jsonl", original=model)
    (module, tokens), (before, _) = opened(folder / "other"), opened(model)
    whole = tokens(story(12, 5), verbose=False)["input_ids"]
    agreed, divergence, total = 0, 0.0, 0
    for at in range(0, len(whole) - 31, 32):
        window = torch.tensor([whole[at : at + 32]])
        with torch.inference_mode():
            q, p = (m(input_ids=window).logits[0, :-1].double().log_softmax(-1) for m in (module, before))
        agreed += int((q.argmax(-1) == p.argmax(-1)).sum())
        divergence += float((p.exp() * (p - q)).sum())
        total += 31
    assert value("agreement", found) == agreed / total < 1
    assert value("kl_divergence", found) == pytest.approx(divergence / total, rel=1e-4)
    alone_ = run(folder / "other", "text.jsonl")
    assert alone_.predictions.agreed is None, "the original is not opened where nobody compares"
