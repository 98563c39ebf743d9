"""A result that goes to a URL: made here, sent there, and as sound there as in a folder."""

import json
import os
import subprocess
import sys

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

import compressit
from compressit import store
from compressit.errors import RetryableError

RECIPE = """\
name: away
task: text-classification
model: {model}
dataset: {{path: {data}, evaluation: "test.jsonl[:20]", columns: {{text: sentence}}}}
steps:
  - {{step: prune_magnitude, sparsity: 0.5}}
metrics: [accuracy, latency]
"""


class Breaks(LocalFileSystem):
    """A disk that loses its line once, and notes the report that had arrived by then."""

    protocol = "breaks"
    seen: list = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(path.removeprefix("breaks://"))

    def put_file(self, path1, path2, callback=None, **options):
        if not self.seen and path2.endswith("report.md"):
            with open(os.path.dirname(path2) + "/report.json") as file:
                self.seen.append(json.load(file))
            raise ConnectionResetError("the line is dead")
        self.makedirs(self._parent(path2), exist_ok=True)
        return super().put_file(path1, path2, **options)


def compress(*arguments, cache):
    environment = {**os.environ, "COMPRESSIT_CACHE": str(cache)}
    command = [sys.executable, "-m", "compressit", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=cache.parent, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_result_behind_a_url(sentiment, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    fsspec.register_implementation("breaks", Breaks, clobber=True)
    file, there = tmp_path / "away.yaml", tmp_path / "there" / "run"
    there.mkdir(parents=True)
    file.write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    with pytest.raises(RetryableError, match="the line is dead"):
        compressit.apply(file, f"breaks://{there}", waterfall=False)
    assert not (there / "manifest.json").exists()
    report = compressit.apply(file, f"breaks://{there}", waterfall=False)
    latency = [reading.value for reading in report.artifacts[0].readings if reading.metric == "latency"]
    before = [each["value"] for each in Breaks.seen[0]["artifacts"][0]["readings"] if each["metric"] == "latency"]
    assert latency == before, "what was measured is not measured again"
    assert store.verify(there) == []
    assert not [path for path in there.iterdir() if path.name.startswith(".")]

    said = compress("verify", f"file://{there}", cache=tmp_path / "cache")
    assert said.returncode == 0, said.stderr
    assert f"file://{there}: " in said.stdout
    assert "are as they were saved" in said.stdout
    again = compress("apply", file, "-o", f"file://{there}", cache=tmp_path / "cache")
    assert again.returncode == 2
    assert f"file://{there} exists already" in again.stderr
    wanted = ("--set", "steps.0.sparsity=0.6", "--no-waterfall", "--overwrite", "--track", "tensorboard")
    other = compress("apply", file, *wanted, "-o", f"file://{there}", cache=tmp_path / "cache")
    assert other.returncode == 0, other.stderr
    assert f"to file://{there}" in other.stderr
    assert f"saved in file://{there}" in other.stdout
    assert "warning" not in other.stderr
    assert [path.name.rsplit("-", 3)[0] for path in (tmp_path / "runs" / "tensorboard").iterdir()] == ["away"]
    assert store.verify(there) == []
    assert compressit.load(there).task == "text-classification"
    (there / "report.json").write_text("{}")
    said = compress("verify", f"file://{there}", cache=tmp_path / "cache")
    assert said.returncode == 6
    assert f"file://{there} is not as it was saved:\n  report.json:" in said.stderr
    unknown = compress("apply", file, "-o", "nowhere://bucket/run", cache=tmp_path / "cache")
    assert unknown.returncode == 2
    assert "nowhere:// is not known" in unknown.stderr
