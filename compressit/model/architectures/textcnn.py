"""Convolutions over word embeddings, the strongest answer of each filter, and a linear layer.

Kim 2014, arXiv:1408.5882. Windows reach over both ends of a text, so that one shorter than a filter is read too.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def classes() -> tuple[Any, Any]:
    """Make the config and the model class."""
    import torch
    from torch import nn
    from torch.nn import functional
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class TextCnnConfig(PreTrainedConfig):  # type: ignore[misc]
        """Sizes of the network."""

        model_type = "compressit-textcnn"
        vocab_size: int = 30522
        hidden_size: int = 128
        filters: int = 100
        kernels: list[int] | tuple[int, ...] = (3, 4, 5)
        dropout: float = 0.5
        pad_token_id: int | None = 0

    class TextCnnForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
        """The network."""

        config_class = TextCnnConfig
        base_model_prefix = "network"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.embedding = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
            self.convolutions = nn.ModuleList(
                nn.Conv1d(config.hidden_size, config.filters, size, padding=size - 1) for size in config.kernels
            )
            self.dropout = nn.Dropout(config.dropout)
            self.classifier = nn.Linear(config.filters * len(config.kernels), config.num_labels)
            self.post_init()

        def get_input_embeddings(self) -> Any:
            """Give the word embeddings."""
            return self.embedding

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
            """Read token ids (B, T), masked (B, T); give logits (B, labels)."""
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            mask_B1T = mask[:, None].to(self.embedding.weight.dtype)
            words_BDT = self.embedding(input_ids).transpose(1, 2) * mask_B1T
            strongest = []
            for convolution in self.convolutions:
                found_BFT = convolution(words_BDT).relu()
                # What a filter says of windows that hold padding alone doesn't count.
                reach = convolution.kernel_size[0]
                # max_pool1d can't be exported for texts of any length.
                padded_B11T = functional.pad(mask_B1T, (reach - 1, reach - 1))[:, :, None]
                seen_B1T = functional.max_pool2d(padded_B11T, (1, reach), 1)[:, :, 0]
                strongest.append((found_BFT * seen_B1T).amax(-1))
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(torch.cat(strongest, -1))))

    return TextCnnConfig, TextCnnForSequenceClassification
