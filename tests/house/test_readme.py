"""The README says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import compressit
from compressit import recipe, rules

ROOT = Path(compressit.__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_its_tables_are_those_of_the_code():
    subprocess.run([sys.executable, "-m", "cogapp", "--check", "README.md"], cwd=ROOT, check=True)


def test_its_recipe_is_valid(write):
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert rules.check(recipe.load(write(text))) == []


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#]+)\)", README))
def test_its_links_lead_somewhere(name):
    assert (ROOT / name).exists()


def test_its_commands_are_there():
    targets = {*re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)}
    assert {*re.findall(r"^make (\w+)", README, re.M)} <= targets
    verbs = {*re.findall(r"compressit (\w+)", README)} - {"takes", "is", "loads"}
    for verb in verbs & {"init", "plan", "apply", "verify", "tasks", "steps"}:
        assert (
            subprocess.run(
                [sys.executable, "-m", "compressit", verb, "--help"], capture_output=True, check=False
            ).returncode
            == 0
        )
