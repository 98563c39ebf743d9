"""`compressit report`: what is for people is made again from what is on disk."""

import json
import re
import shutil

import pytest

import compressit
from compressit import store

RECIPE = """\
name: kept
task: text-classification
model: {model}
dataset:
  path: {data}
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: drop_layers
    keep: 1
metrics: [accuracy, size]
targets:
  - {{metric: size, max_ratio: 0.9}}
"""


@pytest.fixture(scope="module")
def kept(sentiment, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    compressit.apply(folder / "recipe.yaml", folder / "out")
    return folder / "out"


@pytest.fixture
def run(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "out")


def test_texts_are_made_again_as_the_run_wrote_them(run, kept, cli):
    for name in ("report.md", "checkpoint/README.md"):
        (run / name).write_text("spoiled")
    done = cli("report", run)
    assert done.returncode == 0, done.stderr
    for name in ("report.md", "checkpoint/README.md"):
        assert (run / name).read_text() == (kept / name).read_text()
        assert name in done.stdout
    assert store.verify(run) == []
    assert cli("verify", run).returncode == 0


def test_nothing_is_made_of_figures_that_were_changed(run, cli):
    said = (run / "report.json").read_text()
    (run / "report.json").write_text(said.replace('"seed":0', '"seed":1').replace('"seed": 0', '"seed": 1'))
    done = cli("report", run)
    assert done.returncode == 6
    assert "report.json: its content changed" in done.stderr
    assert cli("report", run.parent / "nowhere").returncode == 2
    assert cli("report", run.parent).returncode == 6


def test_an_amendment_that_was_cut_off_is_mended_by_the_next(run, cli):
    before = (run / "manifest.json").read_text()
    assert cli("report", run).returncode == 0
    (run / "report.md").write_text("of a process that was killed before it wrote the manifest")
    (run / ".manifest.json.half").write_text("{")
    (run / "manifest.json").write_text(before)
    assert cli("verify", run).returncode == 6
    assert cli("report", run).returncode == 0
    assert cli("verify", run).returncode == 0


def test_the_page_is_made_again_with_its_flips(run, kept, cli):
    before = (kept / "report.html").read_text()
    assert "Worst flips" in before
    assert re.search(r"<td><bdi>[a-z ]+</bdi></td><td><bdi>(NEGATIVE|POSITIVE)</bdi>", before)
    (run / "report.html").unlink()
    assert cli("report", run).returncode == 0
    assert (run / "report.html").read_text() == before
    done = cli("report", run, "--html", run.parent / "page.html")
    assert done.returncode == 0
    assert (run.parent / "page.html").read_text() == before
    assert cli("verify", run).returncode == 0
    assert cli("report", run, "--html", run.parent / "nowhere" / "page.html").returncode == 2


def test_texts_are_those_that_were_judged_or_none(sentiment, cli, tmp_path):
    data = shutil.copytree(sentiment, tmp_path / "data")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=sentiment / "model", data=data))
    compressit.apply(tmp_path / "recipe.yaml", tmp_path / "out", waterfall=False)
    whole = (tmp_path / "out" / "report.html").read_text()
    rows = (data / "test.jsonl").read_text().splitlines()
    shown = [row for row in rows if f"<bdi>{json.loads(row)['sentence']}</bdi>" in whole]
    assert shown
    changed = [row.replace('{"sentence": "', '{"sentence": "not ') if row == shown[0] else row for row in rows]
    (data / "test.jsonl").write_text("\n".join(changed))
    done = cli("report", tmp_path / "out", "--html", tmp_path / "page.html")
    assert "not in the data any more" in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "<bdi>not " not in page
    assert json.loads(shown[0])["sentence"] not in page
    assert all(json.loads(row)["sentence"] in page for row in shown[1:])
    (data / "test.jsonl").unlink()
    done = cli("report", tmp_path / "out")
    assert done.returncode == 0
    assert "the data can't be read again" in done.stdout
    assert not re.search(r"<td><bdi>[a-z ]+</bdi></td><td><bdi>(NEG|POS)", (tmp_path / "out/report.html").read_text())


def test_what_each_part_costs_is_measured_once_and_kept(run, kept, cli):
    assert json.loads((kept / "report.json").read_text())["sensitivity"] is None
    assert "What each part costs" not in (kept / "report.html").read_text()
    (run / "report.html").unlink()
    done = cli("report", run, "--sensitivity", "--rows", 12)
    assert done.returncode == 0, done.stderr
    assert "on 12 examples of the recipe's evaluation, test.jsonl" in done.stdout
    found = json.loads((run / "report.json").read_text())["sensitivity"]
    assert f"the 10 that cost most of {len(found['swaps'])}; report.md has all" in done.stdout
    worst = max(found["swaps"], key=lambda swap: swap["moved"] or 0)
    assert worst["kind"] == "block left out"
    assert worst["moved"] > 0
    assert found["examples"] == 12
    assert cli("verify", run).returncode == 0
    page = (run / "report.html").read_text()
    assert "What each part costs" in page
    for name in ("report.md", "report.html"):
        assert worst["name"] in (run / name).read_text()
    assert cli("report", run).returncode == 0
    assert (run / "report.html").read_text() == page, "without measuring again"


def test_nothing_is_lost_where_it_cannot_be_measured(run, cli):
    before = (run / "report.json").read_bytes(), (run / "manifest.json").read_bytes()
    weights = run / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = cli("report", run, "--sensitivity")
    assert done.returncode == 6
    assert "model.safetensors" in done.stderr
    assert before == ((run / "report.json").read_bytes(), (run / "manifest.json").read_bytes())
