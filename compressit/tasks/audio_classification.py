"""Give each sound one label.

Roles: `audio` (an audio column, paths of sound files, or samples with their rate) and `label`. Sounds are mixed down to
one channel and brought to the rate that the model's feature extractor wants; `max_seconds` cuts long ones. Those of
like lengths share a batch: where the extractor gives no mask, as that of wav2vec 2.0 of base size, padding is heard as
silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compressit.outputs import Predictions
from compressit.tasks import _waveforms

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

AUTO_CLASS = "AutoModelForAudioClassification"
PROCESSOR_CLASS = "AutoFeatureExtractor"
ROLES = {"audio": True, "label": True}
OUTPUT = Predictions
METRICS = ("accuracy", "agreement", "latency", "throughput", "size")
FIELDS = READ_BY = ("max_seconds",)


def prepare(rows: Dataset, processor: Any, max_length: int | None, max_seconds: float | None = None) -> Dataset:
    """Have each sound read, resampled, cut, and made into what the model takes when its row is read."""
    import numpy as np

    rate, name = processor.sampling_rate, processor.model_input_names[0]

    def process(batch: dict[str, list[Any]]) -> dict[str, Any]:
        # One by one: normalised over itself, and padded only once it is.
        waves = (_waveforms.read(sound, rate, max_seconds) for sound in batch["audio"])
        made = [processor(wave, sampling_rate=rate, return_tensors="np")[name][0] for wave in waves]
        return {name: [np.asarray(each, dtype=np.float32) for each in made], "labels": batch["label"]}

    lengths = [_waveforms.seconds(sound) for sound in rows["audio"]]
    return rows.add_column("seconds", lengths).with_transform(process)


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a list of examples to the longest of them, with a mask where the model's feature extractor gives one."""
    import torch

    name = processor.model_input_names[0]

    def pad(examples: list[dict[str, Any]]) -> dict[str, Any]:
        padded = processor.pad({name: [example[name] for example in examples]}, padding=True, return_tensors="pt")
        return {**padded, "labels": torch.tensor([example["labels"] for example in examples])}

    return pad


def positions(module: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Mark which of the frames that flow between blocks are no padding, (B, T); None where the model has no mask."""
    mask = inputs.get("attention_mask")
    if mask is None or not hasattr(module, "_get_feature_vector_attention_mask"):
        return None
    frames = int(module._get_feat_extract_output_lengths(mask.shape[1]))
    found: torch.Tensor = module._get_feature_vector_attention_mask(frames, mask)
    return found


def protocol(
    prepared: Dataset, rows: Dataset, processor: Any, max_length: int | None, max_seconds: float | None = None
) -> dict[str, str | int]:
    """Say how sounds were read."""
    cut = {} if max_seconds is None else {"cut at": f"{max_seconds:g} s"}
    return {"samples a second": int(processor.sampling_rate), **cut}
