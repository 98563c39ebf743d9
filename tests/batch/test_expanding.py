"""What a batch makes of files and a matrix, and what it finds wrong before any work."""

import hashlib
import re

import pytest

from compressit import recipe
from compressit.batch import expanding
from compressit.errors import RecipeError

RECIPE = """\
name: {name}
task: text-classification
model: demo:stdlib
dataset: {{path: data, train: train.jsonl, evaluation: test.jsonl, columns: {{text: sentence}}}}
steps:
  - step: drop_layers
    keep: 2
metrics: [accuracy, size]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "data").mkdir()
    for name in ("one", "two"):
        (tmp_path / "recipes" / f"{name}.yaml").write_text(RECIPE.format(name=name))
    return tmp_path


def tasks(here, *matrix, changes=(), files=("recipes/*.yaml",)):
    return expanding.tasks(expanding.files(files), changes, expanding.matrix(matrix), here / "runs")


def test_a_pattern_is_the_same_whoever_spells_it_out(here):
    assert expanding.files(["recipes/*.yaml"]) == expanding.files(["recipes/one.yaml", "recipes/two.yaml"])
    assert expanding.files(["recipes/*.yaml", "recipes/one.yaml"]) == expanding.files(["recipes/*.yaml"])


def test_a_matrix_makes_a_job_of_each_combination(here):
    made = tasks(here, "seed=0,1", "steps.0.keep=2,[0,3]", changes=("metrics=[size]",))
    first = ["one-seed0-keep2", "one-seed0-keep_0_3_", "one-seed1-keep2", "one-seed1-keep_0_3_"]
    assert [each.name for each in made[:4]] == first
    assert len({each.name for each in made}) == len({each.digest for each in made}) == 8
    last = made[-1]
    assert last.source == "recipes/two.yaml, metrics=[size], seed=1, steps.0.keep=[0, 3]"
    assert last.output == here / "runs" / "two-seed1-keep_0_3_"
    assert hashlib.sha256(last.recipe).hexdigest() == last.sha256
    # It says the same wherever it is read from.
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "r.yaml").write_bytes(last.recipe)
    read = recipe.load(here / "elsewhere" / "r.yaml").recipe
    assert (read.name, read.seed, read.steps[0].keep) == ("two-seed1-keep_0_3_", 1, (0, 3))
    assert read.dataset.path == str(here / "recipes" / "data")
    assert recipe.digest(read) == last.digest


def test_values_are_those_of_yaml(here):
    found = expanding.matrix(['a.b=0.5,1e-4,true,text with space,"0",{x: 1}', "seed=7"])
    assert found == {"a.b": (0.5, 0.0001, True, "text with space", "0", {"x": 1}), "seed": (7,)}


def test_texts_that_look_like_numbers_stay_texts(here):
    (one,) = tasks(here, 'dataset.labels={"1e-4": "0x1"}', files=["recipes/one.yaml"])
    (here / "r.yaml").write_bytes(one.recipe)
    assert recipe.load(here / "r.yaml").recipe.dataset.labels == {"1e-4": "0x1"}


def test_everything_wrong_is_told_at_once(here):
    (here / "recipes" / "one.yaml").write_text(RECIPE.format(name="one").replace("keep", "kep"))
    (here / "recipes" / "two.yaml").write_text(
        RECIPE.format(name="two") + "targets: [{metric: latency, max_ratio: 1}]\nx: 1\n"
    )
    with pytest.raises(RecipeError) as caught:
        tasks(here)
    for part in ("one.yaml:7:5", "did you mean 'keep'", "two.yaml:10:1"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("matrix", "files", "said"),
    [
        (["steps.9.keep=1,2"], ["recipes/one.yaml"], "--matrix steps.9.keep=1: there is no steps.9"),
        (["sede=0,1"], ["recipes/one.yaml"], "--matrix sede=0: error: .*did you mean 'seed'"),
        (["seed"], ["recipes/one.yaml"], "expected path=value,value"),
        (["seed=[0"], ["recipes/one.yaml"], "--matrix seed=\\[0"),
        (["seed=0,0"], ["recipes/one.yaml"], "0 is named twice"),
        (["seed=0", "seed=1"], ["recipes/one.yaml"], "seed is named twice"),
        ([], ["recipes/three*.yaml"], "matches no file"),
        ([], ["recipes/oen.yaml"], "did you mean recipes/one.yaml"),
        ([], ["recipes"], "matches no file"),
        (["name=same"], ["recipes/*.yaml"], "two jobs would be named same"),
        (["seed=" + ",".join(map(str, range(501)))], ["recipes/*.yaml"], "1,002 jobs"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(here, matrix, files, said):
    with pytest.raises(RecipeError) as caught:
        tasks(here, *matrix, files=files)
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)


def test_the_command_line_says_so_with_its_exit_code(here, cli):
    done = cli("batch", "recipes/*.yaml", "--matrix", "seed=0,x", "--on", "local:2", cwd=here)
    assert done.returncode == 2
    assert "--matrix seed=x" in done.stderr
    for arguments in (["--on", "lokal"], ["--on", "local:x"], ["--timeout", "soon"], ["--track", "nobody"]):
        done = cli("batch", "recipes/one.yaml", *arguments, cwd=here)
        assert done.returncode == 2, done
        assert arguments[1] in done.stderr
    assert not any((here / "runs").rglob("1"))
    done = cli("batch", "recipes/*.yaml", "--matrix", "seed=0,1", "--dry-run", cwd=here)
    assert done.returncode == 0
    assert "two-seed1" in done.stdout
    script = cli("batch", "recipes/*.yaml", "--on", "slurm", "--dry-run", "--timeout", "2h", cwd=here)
    assert script.returncode == 0
    for line in ("#SBATCH --array=0-1", "#SBATCH --requeue", "#SBATCH --signal=B:USR1@60", "#SBATCH --time=122"):
        assert line in script.stdout
    done = cli("batch", "status", "nothing", cwd=here)
    assert (done.returncode, "there is no batch nothing" in done.stderr) == (2, True)
