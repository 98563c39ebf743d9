"""What the environment and the recipe hold in secret is in no byte that a command writes or leaves."""

import os
import subprocess
import sys

import pytest

CANARIES = {
    "HF_TOKEN": "hf_canaryAAAAAAAAAAAAAAAAAAAAAAAA",
    "HUGGING_FACE_HUB_TOKEN": "hf_canaryBBBBBBBBBBBBBBBBBBBBBBBB",
    "AWS_SECRET_ACCESS_KEY": "canary/CCCCCCCCCCCCCCCCCCCC",
    "AWS_ACCESS_KEY_ID": "AKIACANARYDDDDDDDDDD",
    "WANDB_API_KEY": "canaryEEEEEEEEEEEEEEEEEEEEEEE",
    "DATABASE_URL": "https://u:canaryFFFF@example.org",
    "MY_PASSWORD": "canaryGGGGGG",
}


@pytest.fixture
def told(ends, tmp_path, pristine, recipe):
    """Run a command with secrets in its environment; give how it ended and what it wrote, all in one."""

    def run(*arguments, code):
        homes = {"COMPRESSIT_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
        ended = ends(*arguments, env={**CANARIES, **homes}, cwd=tmp_path)
        assert ended.code == code, ended.said
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        return ended.said.encode() + ended.out.encode() + written

    return run


def hidden(told):
    return [name for name, value in CANARIES.items() if value.encode() in told]


def test_a_run_and_its_report_tell_none(told, recipe, pristine, tmp_path):
    file = recipe(pristine, "cast, quantize_rtn")
    assert hidden(told("apply", file, "-o", "out", "--set", "seed=1", code=0)) == []
    names = {path.name for path in (tmp_path / "out").iterdir()} | {
        path.name for path in (tmp_path / "cache").iterdir()
    }
    assert names >= {"report.html", "report.json", "recipe.yaml", "steps"}
    assert hidden(told("plan", file, "--json", code=0)) == []


def test_a_run_that_fails_tells_none(told, recipe, folder, tmp_path):
    (folder / "tokenizer.json").write_text("{}")
    assert hidden(told("apply", recipe(folder), "-o", "out", code=5)) == []


@pytest.mark.parametrize("verb", ["validate", "plan", "apply"])
def test_a_password_in_an_address_is_refused_before_anything_keeps_it(verb, told, recipe, tmp_path):
    file = recipe("https://someone:hunter2-canary@example.org/model")
    written = told(verb, file, code=2)
    assert written.replace(file.read_bytes(), b"").count(b"hunter2-canary") == 0
    assert not (tmp_path / "cache").exists()


def test_a_bug_prints_no_values(tmp_path):
    """What Python says of an error that nobody foresaw has the lines of the code, and none of its values."""
    code = (
        "import os, sys\nfrom compressit import recipe\nfrom compressit.cli import main\n"
        "def load(*given):\n    secret = os.environ['HF_TOKEN']\n    raise ZeroDivisionError(len(secret))\n"
        "recipe.load_open = load\nsys.argv = ['compressit', 'validate', 'r.yaml']\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, **CANARIES}, cwd=tmp_path
    )
    assert done.returncode == 1
    assert b"ZeroDivisionError" in done.stderr
    assert hidden(done.stderr + done.stdout) == []
