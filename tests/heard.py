"""Sounds of three classes, written as files, and models that hear them: no download, and the same bytes every time."""

import numpy as np

CLASSES = ["falling", "high", "low"]
RATE = 16_000
"""Of the files; the models hear half of it."""


def sound(label, draw):
    """Draw a tone or a chirp of a third to half a second, in a little noise."""
    time = np.arange(round(RATE * draw.uniform(0.3, 0.5))) / RATE
    start, stop = {"low": (200, 200), "high": (2200, 2200), "falling": (2600, 250)}[label]
    pitch = np.linspace(start, stop, len(time)) * draw.uniform(0.9, 1.1)
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE + draw.uniform(0, 6)) * draw.uniform(0.3, 0.9)
    return (wave + draw.normal(0, 0.02, len(time))).astype(np.float32)


def sounds(count, seed):
    """Draw sounds with their labels, as many of each class."""
    draw = np.random.default_rng(seed)
    return [(sound(CLASSES[index % 3], draw), CLASSES[index % 3]) for index in range(count)]


def write(folder, count, seed):
    """Write sounds as an audiofolder has them: a folder for each class."""
    import soundfile

    for index, (wave, label) in enumerate(sounds(count, seed)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / label / f"{index:03}.wav", wave, RATE)


def rows(count, seed):
    """Give rows with the sounds in them."""
    import datasets

    from compressit.tasks import _waveforms

    some = [{"audio": {"bytes": _waveforms.written(wave, RATE), "path": None}, "label": CLASSES.index(label)}
            for wave, label in sounds(count, seed)]  # fmt: skip
    return datasets.Dataset.from_list(some)


def extractor(mask=False):
    """Give a feature extractor of waveforms at 8 kHz; with `mask` it marks what is padding."""
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(sampling_rate=RATE // 2, return_attention_mask=mask)


def train(module, processor, some, passes=12):
    """Have a model learn to hear, seeded."""
    import torch

    from compressit.tasks import audio_classification

    torch.manual_seed(0)
    prepared = audio_classification.prepare(some, processor, None)
    whole = [prepared[index] for index in range(len(prepared))]
    collate = audio_classification.collate(processor)
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(passes):
        for part in torch.randperm(len(whole)).split(16):
            module(**collate([whole[index] for index in part])).loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return module.eval()
