"""A model with code of its own: refused, and run only where the command line says so."""

import json

import pytest

import compressit
from compressit import plan, recipe
from compressit.errors import UnsafeError
from compressit.runner.foreseeing import foresee

CODE = """
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
import torch

class BagConfig(PretrainedConfig):
    model_type = "bag-of-words"
    def __init__(self, vocab_size=64, **fields):
        super().__init__(**fields)
        self.vocab_size = vocab_size

class BagForSequenceClassification(PreTrainedModel):
    config_class = BagConfig
    def __init__(self, config):
        super().__init__(config)
        self.words = torch.nn.Embedding(config.vocab_size, 2)
        self.post_init()
    def forward(self, input_ids, attention_mask=None, **unused):
        return SequenceClassifierOutput(logits=(self.words(input_ids) * attention_mask[..., None]).sum(1))
"""


@pytest.fixture
def bag(tmp_path):
    """A folder with weights, a tokenizer and a Python file."""
    import torch
    from safetensors.torch import save_file

    from tests.conftest import BAD, GOOD, tokenizer

    folder = tmp_path / "bag"
    tokens = tokenizer()
    tokens.save_pretrained(folder)
    weight = torch.zeros(len(tokens), 2)
    for column, words in enumerate((BAD, GOOD)):
        weight[tokens.convert_tokens_to_ids(words), column] = 1.0
    save_file({"words.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "bag.py").write_text(CODE)
    config = {
        "model_type": "bag-of-words", "vocab_size": len(tokens), "architectures": ["BagForSequenceClassification"],
        "auto_map": {"AutoConfig": "bag.BagConfig",
                     "AutoModelForSequenceClassification": "bag.BagForSequenceClassification"},
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_it_is_refused_and_runs_where_it_is_trusted(bag, sentiment, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    file = tmp_path / "r.yaml"
    file.write_text(
        f"name: bag\ntask: text-classification\nmodel: {bag}\n"
        f"dataset: {{path: {sentiment}, evaluation: test.jsonl, columns: {{text: sentence}}}}\n"
        "steps: [cast]\nmetrics: [accuracy, size]\ntargets: [{metric: size, max_ratio: 0.7}]\n"
    )
    with pytest.raises(UnsafeError, match="--trust-remote-code"):
        compressit.apply(file, tmp_path / "out")
    report = compressit.apply(file, tmp_path / "out", trust_remote_code=True)
    assert report.exit_code == 0
    assert report.artifacts[0].readings[0].value > 0.9
    # A plan runs no code: it says what is kept without the data, and that it can't say where that would be needed.
    assert [each.kept for each in foresee(plan.plan(recipe.load(file)))] == [True]
    more = ("dataset.train=train.jsonl",)
    assert "code of its own" in foresee(plan.plan(recipe.load(file, more)))[0].why[0]
