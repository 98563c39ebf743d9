"""Put a small convolutional network in the model's place, for `distill` to teach.

It has the model's tokenizer and labels. Its word embeddings are the model's, turned so that the width that is left
holds as much of them as can be; nothing else of it has learned anything, so train it next: `distill` with the original
as teacher, and as much text as there is, labelled or not.

Kim 2014, arXiv:1408.5882. Plain transformers doesn't know the network: `compressit.load` opens the checkpoint, and an
export opens anywhere.

Recipe::

    - step: student_textcnn
    - step: distill
      epochs: 5
      learning_rate: 1e-3
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from compressit import weights
from compressit.model import Model, architectures
from compressit.steps import Fact, Notes, StepConfig, StepContext, Unsaid
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch

CLASSIFIERS = re.compile(r"(^|\.)(classifier|score|(classifier|classification_head)\.out_proj)\.weight$")
"""How the matrix is called that has a row for each label."""


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    tasks: ClassVar[frozenset[str]] = frozenset({"text-classification"})

    embedding: int = Field(128, ge=1)
    """Width of the word embeddings."""
    filters: int = Field(100, ge=1)
    """Filters of each length."""
    kernels: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)] = (3, 4, 5)
    """Lengths of the filters, in tokens."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Share of features that training leaves out at random."""

    def unsaid(self, end: Weights | None) -> Unsaid | None:
        """Name the network."""
        return Unsaid("plain transformers doesn't know the network", sure=True)


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Replace the model, in place."""
    import torch

    before = model.module
    config.refuse_others(model.task)
    words = before.get_input_embeddings().weight.detach()
    config_class, model_class = architectures.classes("textcnn")
    made = model_class(
        config_class(
            vocab_size=len(words),
            hidden_size=config.embedding,
            filters=config.filters,
            kernels=list(config.kernels),
            dropout=config.dropout,
            pad_token_id=model.processor.pad_token_id,
            id2label=before.config.id2label,
            label2id=before.config.label2id,
        )
    )
    start, kept = principal(words.float().cpu(), config.embedding)
    with torch.no_grad():
        made.get_input_embeddings().weight.copy_(start)
    model.module = made.to(before.device, before.dtype).eval()
    model.quantized.clear()
    return {"words_kept": round(kept, 4), "opens_with": "compressit.load; exports open anywhere"}


def principal(words_VD: torch.Tensor, width: int) -> tuple[torch.Tensor, float]:
    """Turn word embeddings so that as few directions as `width` hold as much of them as can be, scaled to spread by 1.

    Returns:
        (V, width), with zeros where `width` is more than there is; and the share of the variance that is left.
    """
    import torch
    from torch.nn import functional

    centred_VD = words_VD - words_VD.mean(0)
    values, vectors = torch.linalg.eigh(centred_VD.T @ centred_VD)
    order = values.argsort(descending=True)[:width]
    turned = centred_VD @ vectors[:, order]
    share = float(values[order].clamp(min=0).sum() / values.clamp(min=0).sum().clamp(min=1e-30))
    return functional.pad(turned / turned.std().clamp(min=1e-30), (0, width - turned.shape[1])), share


def foresee(table: Weights, config: Config) -> Weights:
    """Say what the network will hold."""
    labels = next((tensor.shape[0] for tensor in reversed(table.tensors) if CLASSIFIERS.search(tensor.name)), 2)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (table.vocabulary or 0, config.embedding)}
    for index, length in enumerate(config.kernels):
        shapes[f"convolutions.{index}.weight"] = (config.filters, config.embedding, length)
        shapes[f"convolutions.{index}.bias"] = (config.filters,)
    shapes |= {"classifier.weight": (labels, config.filters * len(config.kernels)), "classifier.bias": (labels,)}
    tensors = tuple(Weight(name, shape, weights.BITS["F32"]) for name, shape in shapes.items())
    return Weights(f"{architectures.PREFIX}textcnn", tensors, width=config.embedding, vocabulary=table.vocabulary)
