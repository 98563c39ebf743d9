"""Saved artifacts timed side by side, next to the original where that is at hand."""

import json
import shutil
from importlib.util import find_spec

import pytest

from compressit import runtimes
from compressit.errors import IntegrityError, MissingExtra, RecipeError
from compressit.progress import Silent
from compressit.serving import bench, finished
from compressit.serving.bench import Cell, Speed, Wanted


def test_everything_is_timed_over_the_grid(done, cli):
    made = cli("bench", done, "--batch", "1,2", "--length", "8", "--seconds", "0", "--device", "cpu", "--json")
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert [each["name"] for each in found["timed"]] == ["original", "checkpoint", "onnx"]
    assert [each["runtime"] for each in found["timed"]] == ["torch", "torch", "onnxruntime"]
    assert [(cell["batch"], cell["length"], cell["rounds"]) for cell in found["cells"]] == [(1, 8, 21), (2, 8, 21)]
    for cell in found["cells"]:
        first, *others = cell["speeds"]
        assert first["ratio"] is None
        for speed in (first, *others):
            assert 0 < speed["p50"] <= speed["p90"]
            assert speed["examples_per_second"] == pytest.approx(cell["batch"] / speed["p50"])
        for speed in others:
            assert speed["ratio_low"] < speed["ratio"] < speed["ratio_high"]
    assert found["notes"] == []
    assert found["hardware"]["cpu"]


def test_lengths_end_where_the_model_does_and_the_table_names_every_row(done, cli):
    made = cli("bench", done, "--artifact", "checkpoint", "--batch", "1", "--seconds", "0")
    assert made.returncode == 0, made.stderr
    assert "original takes 64 tokens, so no text is longer" in made.stderr
    rows = [line.split() for line in made.stdout.splitlines() if line.split()[:1] == ["1"]]
    assert [(row[1], row[2]) for row in rows] == [(length, name) for length in ("32", "64")
                                                  for name in ("original", "checkpoint")]  # fmt: skip
    assert "time / original" in made.stdout


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(lengths=(65,)), "--length 65 is beyond the 64 tokens that original takes"),
        (Wanted(artifacts=("onx",)), "no artifact 'onx'; did you mean 'onnx'"),
        (Wanted(device="tpu"), "expected auto, cpu or cuda"),
    ],
    ids=str,
)
def test_what_cannot_be_timed_is_refused_before_any_work(done, wanted, message):
    with pytest.raises(RecipeError, match=message):
        bench.bench([finished.opened(done)], wanted, Silent())


def test_numbers_are_read_strictly(done, cli):
    made = cli("bench", done, "--batch", "1,x")
    assert made.returncode == 2
    assert "--batch '1,x': expected whole numbers" in made.stderr
    made = cli("bench", done, "--batch", "9" * 20)
    assert made.returncode == 2
    assert "none above 1,000,000" in made.stderr
    made = cli("bench", done, "--seconds", "inf")
    assert made.returncode == 2
    assert "expected a number, not infinity" in made.stderr


def test_runs_of_unlike_tasks_are_not_timed_together(done):
    one = finished.opened(done)
    other = finished.Finished(one.folder, one.report.model_copy(update={"task": "fill-mask"}), one.recipe)
    with pytest.raises(RecipeError, match="of one task"):
        bench.bench([one, other], Wanted(), Silent())


def test_what_is_left_out_is_said(done, monkeypatch, tmp_path):
    """An original that is gone, and a runtime that is not installed."""
    run = finished.opened(done)
    gone = run.recipe.model_copy(update={"model": run.recipe.model.model_copy(update={"path": str(tmp_path / "gone")})})
    lacks = {"onnxruntime": MissingExtra("onnxruntime", "onnx")}
    monkeypatch.setattr(bench, "missing", lacks.get)
    monkeypatch.setattr(bench, "side_by_side", lambda subjects, *rest: {})
    found = bench.bench([finished.Finished(run.folder, run.report, gone)], Wanted(), Silent())
    assert [each.name for each in found.timed] == ["checkpoint"]
    assert "is not on this machine; name a copy with --original" in found.notes[0]
    assert found.notes[1] == "onnx is left out: onnxruntime is not installed; pip install 'compressit[onnx]'"


def test_several_runs_share_their_original_and_go_by_their_folders(done, monkeypatch, tmp_path):
    other = shutil.copytree(done, tmp_path / "other")
    monkeypatch.setattr(bench, "side_by_side", lambda subjects, *rest: {})
    found = bench.bench([finished.opened(done), finished.opened(other), finished.opened(done)], Wanted(), Silent())
    names = [each.name for each in found.timed]
    assert names == ["original", "done/checkpoint", "done/onnx", "other/checkpoint", "other/onnx",
                     "done/checkpoint (2)", "done/onnx (2)"]  # fmt: skip


def test_a_changed_file_is_never_timed(done, tmp_path):
    copy = shutil.copytree(done, tmp_path / "copy")
    (copy / "onnx" / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"onnx/config\.json"):
        finished.opened(copy)


def test_differences_below_the_noise_are_said():
    speeds = (
        Speed(name="original", p50=1.0, p90=1.0, examples_per_second=1.0),
        Speed(
            name="a", p50=0.98, p90=1.0, examples_per_second=1.0, ratio=0.98, ratio_low=0.9, ratio_high=1.1, sure=False
        ),
        Speed(name="b", p50=0.5, p90=0.5, examples_per_second=2.0, ratio=0.5, ratio_low=0.4, ratio_high=0.6, sure=True),
    )
    cell = Cell(batch=1, length=8, rounds=21, noise=1.05, speeds=speeds)
    timed = tuple(bench.Timed(name=speed.name, folder="", runtime="torch", device="cpu") for speed in speeds)
    found = bench.Benchmark(task="", timed=timed, cells=(cell,), notes=(), hardware={}, versions={})
    (line,) = found.undecided()
    assert line.startswith("batch 1, length 8: a can't be told from original")
    assert "5.0%" in line


def test_every_runtime_here_says_whether_it_is_ready():
    found = {name: runtimes.missing(name) for name in runtimes.names()}
    # What is too much for CI: one is compiled where it is installed, the other brings half of a phone.
    assert (found.pop("llamacpp") is None) == (find_spec("llama_cpp") is not None)
    assert (found.pop("executorch") is None) == (find_spec("executorch") is not None)
    assert found == dict.fromkeys(found)
