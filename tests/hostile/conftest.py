"""A stranger's files, and what the command line makes of them: its exit code, its words, and the memory it took."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests import tiny


@dataclass(frozen=True)
class Ended:
    """How a command ended; `megabytes` is the most memory it held."""

    code: int
    out: str
    said: str
    megabytes: float


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """An untrained BERT for text classification, as transformers saves it."""
    folder = tmp_path_factory.mktemp("pristine") / "model"
    tiny.save("bert", folder)
    return folder


@pytest.fixture
def folder(pristine, tmp_path):
    """A copy of it, to be harmed."""
    return shutil.copytree(pristine, tmp_path / "model")


# A process counts as its own the memory of the one that it was split from; this one is small.
LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:], timeout=120).returncode
with open(sys.argv[1], "w") as file:
    file.write(f"{code} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}")
"""


@pytest.fixture
def ends(tmp_path):
    """Run the command line; whatever it is given, it ends by itself and never with a traceback."""

    def run(*arguments, env=None, cwd=None):
        told = tmp_path / ".ended"
        command = [sys.executable, "-S", "-c", LAUNCH, told, sys.executable, "-m", "compressit", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              cwd=cwd, env={**os.environ, **(env or {})}, check=True)  # fmt: skip
        code, megabytes = told.read_text().split()
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return Ended(int(code), done.stdout, done.stderr, float(megabytes))

    return run


RECIPE = """\
name: r
task: text-classification
model: {model}
dataset: {{path: ., train: rows.jsonl, evaluation: rows.jsonl, max_leak: 1}}
steps: [{step}]
metrics: [size]
"""


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe about a model, with rows beside it."""

    def written(model="./model", step="cast", more=""):
        (tmp_path / "rows.jsonl").write_text(
            '{"text": "good film", "label": 1}\n{"text": "bad plot", "label": 0}\n' * 4
        )
        file = tmp_path / "r.yaml"
        file.write_text(RECIPE.format(model=model, step=step) + more)
        return file

    return written
