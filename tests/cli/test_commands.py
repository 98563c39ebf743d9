"""The command line as a user meets it, in processes of its own."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest
import yaml

QUICK = """\
name: quick
task: text-classification
model: {model}
dataset:
  path: {data}
  train: train.jsonl[:100]
  evaluation: test.jsonl
  columns: {{text: sentence}}
steps:
  - step: drop_layers
    keep: 2
targets:
  - {{metric: size, max_ratio: 0.9}}
"""


@pytest.fixture
def quick(write, sentiment):
    def made(**changes):
        text = QUICK.format(model=sentiment / "model", data=sentiment)
        for old, new in changes.items():
            text = text.replace(old, new)
        return write(text)

    return made


def test_help_and_version(cli):
    done = cli("--help")
    assert done.returncode == 0
    for verb in (
        "init",
        "validate",
        "plan",
        "apply",
        "batch",
        "compare",
        "verify",
        "bench",
        "predict",
        "check",
        "report",
        "steps",
        "exports",
        "tasks",
        "metrics",
        "schema",
        "doctor",
    ):
        assert re.search(rf"^  {verb} ", done.stdout, re.M), verb
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").stdout)


def test_init_writes_a_recipe_that_is_valid_and_never_overwrites(cli, tmp_path):
    done = cli("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "recipe.schema.json"}
    assert cli("validate", "recipe.yaml", cwd=tmp_path).returncode == 0
    schema = json.loads((tmp_path / "recipe.schema.json").read_text())
    tree = yaml.safe_load((tmp_path / "recipe.yaml").read_text().replace("5e-4", "0.0005"))
    jsonschema.validate(tree, schema)
    again = cli("init", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_validate_takes_several_recipes_and_tells_of_all(cli, quick, write):
    right = quick()
    wrong = write(right.read_text().replace("keep", "kep"), "wrong.yaml")
    done = cli("validate", wrong, right)
    assert done.returncode == 2
    assert f"{right}: valid" in done.stdout
    assert "wrong.yaml:11:5: error: unknown key 'kep'" in done.stderr


def test_validate_says_what_is_wrong_where_and_exits_2(cli, quick):
    assert cli("validate", quick()).returncode == 0
    done = cli("validate", quick(keep="kep", size="sise"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "recipe.yaml:11:5: error: unknown key 'kep'; did you mean 'keep'?" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["validate", "nowhere.yaml"], "nowhere.yaml"),
        (["apply", "RECIPE", "--set", "steps.0.kep=1"], "unknown key 'kep'; did you mean 'keep'?"),
        (["apply", "RECIPE", "--set", "nonsense"], "nonsense"),
        (["apply", "RECIPE", "--device", "tpu"], "expected auto, cpu or cuda"),
        (["steps", "show", "prune_magnitud"], "did you mean 'prune_magnitude'"),
        (["aply"], "aply"),
        (["verify", "nowhere"], "there is no folder nowhere"),
        (["search", "RECIPE", "-o", "s3://bucket/run"], "s3:/bucket/run is no folder of this machine"),
        (["predict", "s3://bucket/run", "--input", "a.csv"], "only `apply` and `verify` take a URL"),
        (["init", "recipe.schema.json"], "is the schema's own name"),
        (["plan"], "RECIPE"),
    ],
)
def test_a_wrong_command_line_exits_2_and_says_why(cli, quick, arguments, said):
    done = cli(*[str(quick()) if argument == "RECIPE" else argument for argument in arguments])
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_shows_sizes_without_opening_weights(cli, quick):
    done = cli("plan", quick())
    assert done.returncode == 0, done.stderr
    assert "drop_layers" in done.stdout
    assert "memory    about" in done.stdout
    found = json.loads(cli("plan", quick(), "--json").stdout)
    assert [step["step"] for step in found["steps"]] == ["drop_layers"]
    assert 0 < found["steps"][0]["bytes"] < 4 * 40_000
    assert found["memory_bytes"] > 0


@pytest.mark.parametrize("room", ["steps", "exports", "tasks", "metrics"])
def test_the_catalog_lists_and_shows(cli, room):
    listed = cli(room, "list")
    names = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    assert len(names) >= 1
    shown = cli(room, "show", names[0])
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) > 2


def test_show_gives_every_field_its_type_default_and_meaning(cli):
    said = cli("steps", "show", "quantize_rtn").stdout
    assert "arXiv:2210.17323" in said
    assert re.search(r"group_size: whole number > 1 \(default none\)\n +Consecutive inputs that share a scale", said)


def test_a_reader_that_goes_early_is_no_error(quick):
    command = f"{sys.executable} -m compressit plan {quick()} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_schema_and_doctor(cli):
    assert json.loads(cli("schema").stdout)["title"] == "compressit recipe"
    said = cli("doctor").stdout
    for word in ("torch", "onnxruntime", "devices", "disk", "hub"):
        assert word in said


def test_apply_verify_and_what_a_script_reads(cli, quick, tmp_path):
    # Other tests may have done the same step.
    nothing_kept = {"COMPRESSIT_CACHE": str(tmp_path / "cache")}
    done = cli("apply", quick(), "-o", tmp_path / "out", "--json", env=nothing_kept)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdicts"][0]["outcome"] == "pass"
    assert "\x1b" not in done.stderr
    assert re.search(r"^\d\d:\d\d:\d\d step 1 of 1: drop_layers$", done.stderr, re.M)
    assert cli("verify", tmp_path / "out").returncode == 0
    weights = tmp_path / "out" / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    done = cli("verify", tmp_path / "out")
    assert done.returncode == 6
    assert "checkpoint/model.safetensors: its content changed" in done.stderr


def test_quiet_prints_nothing_and_targets_decide_the_exit_code(cli, quick, tmp_path):
    done = cli("apply", quick(**{"max_ratio: 0.9": "max_ratio: 0.1"}), "-o", tmp_path / "out", "-q")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == ""
    done = cli("apply", quick(), "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "--overwrite" in done.stderr


def test_a_table_for_people_names_the_verdicts(cli, quick, tmp_path):
    changed = quick(**{"{metric: size, max_ratio: 0.9}": "{metric: accuracy, min: 0.93}"}).read_text()
    quick().write_text(changed)
    file = tmp_path / "recipe.yaml"
    done = cli(
        "apply", file, "-o", tmp_path / "out", "--set", "targets.0.min=0.999", env={"NO_COLOR": "1", "FORCE_COLOR": "1"}
    )
    assert done.returncode in (3, 4)
    assert ("FAIL" in done.stdout) == (done.returncode == 3)
    assert f"exit {done.returncode}:" in done.stdout
    assert "--set targets.0.min=0.999" in (tmp_path / "out" / "recipe.yaml").read_text()


@pytest.mark.parametrize("flag", ["--waterfall", "--no-waterfall"])
def test_a_step_that_gained_nothing_is_named(flag, cli, quick, tmp_path):
    file = quick(**{"    keep: 2\n": "    keep: 2\n  - step: prune_magnitude\n    sparsity: 0.2\n"})
    done = cli("apply", file, "-o", tmp_path / "out", flag, "--set", "metrics=[size]", env={"NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    named = "step 2 (prune_magnitude) gained nothing" in done.stdout
    assert named == (flag == "--waterfall")
    assert ("measure what step 1 made" in done.stderr) == named


def test_an_undecidable_target_exits_4_and_says_how_many_examples_would_do(cli, quick, tmp_path):
    file = quick(
        **{"{metric: size, max_ratio: 0.9}": "{metric: accuracy, max_drop: 0.05}", "test.jsonl": "test.jsonl[:10]"}
    )
    done = cli("apply", file, "-o", tmp_path / "out", "--set", "steps.0.keep=3", "--set", "steps.0.choose=last")
    assert done.returncode in (3, 4)
    if done.returncode == 4:
        assert "can't tell" in done.stdout
        assert "examples would decide" in done.stdout


def test_a_hub_out_of_reach_exits_75(cli, quick, sentiment, tmp_path):
    file = quick(**{f"model: {sentiment / 'model'}": "model: nobody/nothing"})
    done = cli("apply", file, "-o", tmp_path / "out")
    assert done.returncode == 75
    assert "the hub can't be reached" in done.stderr
    assert not (tmp_path / "out").exists()
    assert cli("validate", file).returncode == 0
    assert cli("plan", file).returncode == 0


def test_a_folder_that_is_not_ours_exits_7(cli, quick, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("x")
    done = cli("apply", quick(), "-o", tmp_path / "mine", "--overwrite")
    assert done.returncode == 7
    assert os.listdir(tmp_path / "mine") == ["a.txt"]
