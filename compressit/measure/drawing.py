"""Inputs drawn at random: tokens in texts of an exact length, or noise for images and sounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressit import model, tasks
from compressit.errors import DataError
from compressit.runtimes import Batch

SECONDS = 1.0
"""Of a sound, unless the model's feature extractor brings all to a length of its own."""


class Drawn:
    """What makes batches for the model of a folder; of one seed, models of one vocabulary get the same ones."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        self.task: Any = tasks.load(setting["task"])
        self.processor = model.processor(folder, setting["task"], trust_remote_code=setting["trust_remote_code"])
        kind = self.task.PROCESSOR_CLASS
        self.images, self.sounds = kind == "AutoImageProcessor", kind == "AutoFeatureExtractor"

    def batch(self, size: int, length: int | None, seed: int) -> Batch:
        """Draw a batch.

        Args:
            size: Texts, images or sounds in it.
            length: Tokens of each text, those included that the tokenizer puts around a text; images have none, and
                sounds are of `SECONDS`.
            seed: Of the draw.

        Raises:
            DataError: the length leaves no room, or is beyond the model's limit.
        """
        draw = np.random.default_rng(seed)
        if self.images:
            return {"pixel_values": draw.standard_normal((size, *self._shape()), dtype=np.float32)}
        if self.sounds:
            return self._sounds(draw, size)
        assert length is not None, "only images and sounds have no length"
        # What is run for a timing may be every second text, or be told the length of all.
        whole = self._texts(draw.random((2 * size, length)))
        timed = getattr(self.task, "timed", lambda batch: batch)(whole)
        return {name: array[:size] for name, array in timed.items()}

    def _texts(self, points: NDArray[np.float64]) -> dict[str, Any]:
        """Put tokens at points from 0 to 1 of the vocabulary, special ones only where a text has them."""
        limit, length = self.processor.model_max_length, points.shape[1]
        if length > limit:
            raise DataError(f"length {length} is beyond the {limit} tokens that the model takes")
        special = {*self.processor.all_special_ids}
        before, after = _around(self.processor("a")["input_ids"], special)
        ends = len(before) + len(after)
        if length <= ends:
            raise DataError(f"length {length} leaves no room for a token beside {ends} special ones")
        plain = np.array([token for token in range(len(self.processor)) if token not in special] or [0])
        ids = plain[(points * len(plain)).astype(np.int64)]
        ids[:, : len(before)] = before
        ids[:, length - len(after) :] = after
        known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return {name: known[name] for name in self.processor.model_input_names if name in known}

    def _sounds(self, draw: np.random.Generator, size: int) -> Batch:
        rate, name = self.processor.sampling_rate, self.processor.model_input_names[0]
        waves = draw.standard_normal((size, round(SECONDS * rate)), dtype=np.float32)
        rows = [{name: self.processor(wave, sampling_rate=rate, return_tensors="np")[name][0]} for wave in waves]
        batch = self.task.collate(self.processor)([{**row, "labels": 0} for row in rows])
        return {key: value.numpy() for key, value in batch.items() if key != "labels"}

    def _shape(self) -> tuple[int, ...]:
        """Find what the processor makes of an image: (channels, height, width)."""
        from PIL import Image

        made = self.processor([Image.new("RGB", (64, 64))], return_tensors="np")["pixel_values"]
        return tuple(made.shape[1:])


def _around(tokens: list[int], special: set[int]) -> tuple[list[int], list[int]]:
    """Take the special tokens off both ends of a text."""
    own = [place for place, token in enumerate(tokens) if token not in special]
    return (list(tokens[: own[0]]), list(tokens[own[-1] + 1 :])) if own else (list(tokens), [])
