"""A classifier, real inputs to check files on and to calibrate with, and what a file says of many rows."""

import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch

from compressit import data
from compressit import model as models
from compressit.data import DatasetSpec
from compressit.runtimes import load
from tests import heard, paired, tagged, tiny
from tests.questions import questions

TASK = "text-classification"


@pytest.fixture(scope="session")
def classifier(sentiment):
    return models.load(sentiment / "model", TASK)


@pytest.fixture(scope="session")
def rows(sentiment, classifier):
    spec = DatasetSpec(path=str(sentiment), evaluation="test.jsonl", columns={"text": "sentence"})
    return data.rows(spec, "test.jsonl", TASK, classifier.module.config.id2label, sentiment)


@pytest.fixture(scope="session")
def examples(rows, classifier):
    return [
        batch for part in (rows.select([0]), rows.select(range(40))) for _, batch in data.batches(part, classifier, 8)
    ]


@pytest.fixture(scope="session")
def calibration(rows, classifier):
    """Give single rows, as the runner does; they are other ones than those that files are checked on."""
    return lambda count: data.singles(rows.select(range(40, 300)), classifier, count)


@pytest.fixture
def exported_tiny(tmp_path, rows):
    """Build a tiny model of a family, export it, and give the folder and the notes."""

    def made(export, config, name, dtype=torch.float32):
        task = tiny.task(name)
        model = models.Model(tiny.build(name), tiny.processor(name), task, name)
        models.cast(model.module, dtype)
        kinds = {
            "token-classification": tagged_rows,
            "question-answering": asked,
            "sentence-similarity": paired_rows,
            "audio-classification": lambda: heard.rows(40, 1),
        }
        some = rows if task == TASK else kinds.get(task, lambda: digits(tmp_path))()
        examples = [batch for _, batch in data.batches(some.select(range(24)), model, 8)]
        notes = export.run(model, config, tmp_path, examples, lambda count: data.singles(some, model, count))
        return model, tmp_path, notes

    return made


def tagged_rows():
    some = [{**row, "tags": [tagged.TAGS.index(tag) for tag in row["tags"]]} for row in tagged.sentences(40, 1)]
    return datasets.Dataset.from_list(some)


def asked():
    """Questions, some of which can't be answered."""
    some = [{part: row[part] for part in ("question", "context", "answers")} for row in questions(40, 1, 0.2)]
    return datasets.Dataset.from_list(some)


def paired_rows():
    return datasets.Dataset.from_list(paired.pairs(40, 1))


def digits(base):
    labels = {index: str(index) for index in range(10)}
    return data.rows(
        DatasetSpec(path="demo:digits", evaluation="test"), "test[:40]", "image-classification", labels, base
    )


def run_all(session, model, rows, size):
    """Give what a session says of all rows: (rows, 2)."""
    said = np.empty((len(rows), 2), dtype=np.float32)
    for places, batch in data.batches(rows, model, size):
        said[places] = session({name: value.numpy() for name, value in batch.items() if name != "labels"})
    return said


def file_said(runtime, folder, model, rows, size=16):
    return run_all(load(runtime).open(folder, TASK, "cpu"), model, rows, size)


def checkpoint_said(model, rows, size=16):
    def session(batch):
        return model.module(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.numpy()

    with torch.inference_mode():
        return run_all(session, model, rows, size)


ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compressit":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import json, transformers
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokens = dict(transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="np"))
"""


def python(code, *arguments):
    """Run code that compressit is hidden from, with the texts' tokens at hand; give what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE + code, *map(str, arguments)],
        # Plain openvino would send usage statistics.
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
