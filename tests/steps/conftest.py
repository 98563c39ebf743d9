"""Tiny models of each family, and what a step is given."""

import itertools
from pathlib import Path

import pytest

from compressit import model as models
from compressit.data import DatasetSpec, rows
from compressit.progress import Silent
from compressit.steps import StepContext


@pytest.fixture(scope="session")
def family(tmp_path_factory, sentiment):
    """Give the folder of a tiny model of a family."""
    made = {"bert": sentiment / "model"}

    def folder(name):
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            tiny(name, place)
            made[name] = place
        return made[name]

    return folder


def tiny(name, folder):
    """Build an untrained model with four blocks from its config, seeded, and save it."""
    import torch
    import transformers

    from tests.conftest import tokenizer

    torch.manual_seed(0)
    tokens = tokenizer()
    text = {"vocab_size": len(tokens), "num_labels": 2, "pad_token_id": 0}
    decoder = {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    builders = {
        "distilbert": lambda: transformers.DistilBertForSequenceClassification(
            transformers.DistilBertConfig(**text, dim=32, n_layers=4, n_heads=4, hidden_dim=64)
        ),
        "modernbert": lambda: transformers.ModernBertForSequenceClassification(
            transformers.ModernBertConfig(
                **text, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64,
                max_position_embeddings=64, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
            )
        ),
        "llama": lambda: transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(
                **text, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                intermediate_size=64, max_position_embeddings=64,
            )
        ),
        "vit": lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                image_size=8, patch_size=2, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
                intermediate_size=64, num_labels=10,
            )
        ),
        "qwen": lambda: transformers.Qwen2ForSequenceClassification(transformers.Qwen2Config(**text, **decoder)),
        "mixtral": lambda: transformers.MixtralForSequenceClassification(
            transformers.MixtralConfig(**text, **decoder, num_local_experts=4, num_experts_per_tok=2)
        ),
        "gpt2": lambda: transformers.GPT2ForSequenceClassification(
            transformers.GPT2Config(**text, n_embd=32, n_layer=4, n_head=4, n_positions=64, bos_token_id=2,
                                    eos_token_id=3)
        ),
        "opt": lambda: transformers.OPTForSequenceClassification(
            transformers.OPTConfig(
                **text, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32,
                max_position_embeddings=64, bos_token_id=2, eos_token_id=3,
            )
        ),
        "t5": lambda: transformers.T5ForSequenceClassification(
            transformers.T5Config(
                **text, d_model=32, d_ff=64, num_layers=4, num_heads=4, d_kv=8, eos_token_id=3,
                decoder_start_token_id=0, classifier_dropout=0.0,
            )
        ),
    }  # fmt: skip
    module = builders[name]()
    # Outputs that hang on the weights, as a trained model's do.
    for parameter in module.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    module.save_pretrained(folder)
    if name == "vit":
        transformers.ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    else:
        tokens.save_pretrained(folder)


TASKS = {"vit": "image-classification"}


@pytest.fixture
def opened(family):
    """Open a tiny model of a family."""
    return lambda name, **more: models.load(family(name), TASKS.get(name, "text-classification"), **more)


@pytest.fixture
def context(sentiment, family, tmp_path):
    """Make a step's context for a model: 64 rows to train on, the same to calibrate with, seed 0."""
    numbers = itertools.count()

    def made(model, *, count=64, teacher=None, seed=0):
        if model.task == "image-classification":
            spec = DatasetSpec(path="demo:digits", evaluation="test")
        else:
            spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
        split = "train" if model.task == "image-classification" else "train.jsonl"
        labels = {index: str(index) for index in model.module.config.id2label}
        some = rows(spec, f"{split}[:{count}]", model.task, labels, sentiment)
        source = model.source
        return StepContext(
            train=some,
            calibration=some,
            teacher=teacher or (lambda path: models.load(Path(source), model.task)),
            device="cpu",
            seed=seed,
            progress=Silent(),
            scratch=tmp_path / f"scratch-{next(numbers)}",
        )

    return made


@pytest.fixture
def logits():
    """Run a model over its context's rows."""
    import torch

    from compressit import data

    def run(model, context):
        with torch.inference_mode():
            said = [
                model.module(**{k: v for k, v in batch.items() if k != "labels"}).logits
                for _, batch in data.batches(context.train, model, 16)
            ]
        return torch.cat(said)

    return run
