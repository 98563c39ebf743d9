"""Tiny models of each family, and what a step is given."""

import itertools
import json
from pathlib import Path

import pytest

from compressit import model as models
from compressit.data import DatasetSpec, rows
from compressit.progress import Silent
from compressit.steps import StepContext
from tests import heard, paired, questions, tagged, tiny, written


@pytest.fixture(scope="session")
def family(tmp_path_factory, sentiment):
    """Give the folder of a tiny model of a family."""
    made = {"bert": sentiment / "model"}

    def folder(name):
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            tiny.save(name, place)
            made[name] = place
        return made[name]

    return folder


@pytest.fixture(scope="session")
def tags(tmp_path_factory):
    """Give a folder with a train.jsonl of sentences, as texts and as tagged words; tags are numbers."""
    folder = tmp_path_factory.mktemp("tags")
    rows = [
        {**row, "text": " ".join(row["tokens"]), "tags": [tagged.TAGS.index(tag) for tag in row["tags"]]}
        for row in tagged.sentences(512, 1)
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """Give a folder with a train.jsonl of questions, some of which can't be answered."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, questions.questions(256, 1, 0.2))))
    return folder


@pytest.fixture(scope="session")
def likes(tmp_path_factory):
    """Give a folder with a train.jsonl of pairs of sentences and how alike they are."""
    folder = tmp_path_factory.mktemp("likes")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, paired.pairs(512, 1))))
    return folder


@pytest.fixture(scope="session")
def translations(tmp_path_factory):
    """Give a folder with a train.jsonl of texts and their translations."""
    folder = tmp_path_factory.mktemp("translations")
    written.write(folder, train=written.pairs(256, 1))
    return folder


@pytest.fixture(scope="session")
def noises(tmp_path_factory):
    """Give a folder of sounds."""
    folder = tmp_path_factory.mktemp("noises")
    heard.write(folder / "train", 24, 1)
    return folder


@pytest.fixture
def opened(family):
    """Open a tiny model of a family."""
    return lambda name, **more: models.load(family(name), tiny.task(name), **more)


@pytest.fixture
def context(sentiment, tags, asked, likes, translations, noises, family, tmp_path):
    """Make a step's context for a model: 64 rows to train on, the same to calibrate with, seed 0."""
    numbers = itertools.count()
    folders = {"token-classification": tags, "question-answering": asked, "sentence-similarity": likes,
               "fill-mask": tags, "translation": translations}  # fmt: skip

    def made(model, *, count=64, teacher=None, seed=0):
        split = "train.jsonl"
        if model.task == "audio-classification":
            spec = DatasetSpec(path=str(noises), evaluation="train")
            split = "train"
        elif model.task == "image-classification":
            spec, split = DatasetSpec(path="demo:digits", evaluation="test"), "train"
        elif model.task in folders:
            spec = DatasetSpec(path=str(folders[model.task]), evaluation="train.jsonl")
        else:
            spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
        labels = {index: str(index) for index in model.module.config.id2label}
        if model.task == "audio-classification":
            labels = dict(enumerate(heard.CLASSES))
        some = rows(spec, f"{split}[:{count}]", model.task, labels, sentiment)
        source, own = model.source, model.task in ("image-classification", "audio-classification", "fill-mask")
        pupil = Path(source) if own else family("distilbert")
        return StepContext(
            train=some,
            calibration=some,
            teacher=teacher or (lambda path: models.load(Path(source), model.task)),
            device="cpu",
            seed=seed,
            progress=Silent(),
            scratch=tmp_path / f"scratch-{next(numbers)}",
            student=lambda path, labels: models.beginner(pupil, model.task, labels),
        )

    return made


@pytest.fixture
def logits():
    """Run a model over its context's rows."""
    import torch

    from compressit import data
    from compressit.steps._answers import said as answers

    def run(model, context):
        with torch.inference_mode():
            said = [
                answers(model, {k: v for k, v in batch.items() if k != "labels"})
                for _, batch in data.batches(context.train, model, 16)
            ]
        return torch.cat([each.reshape(-1, each.shape[-1]) for each in said])

    return run
