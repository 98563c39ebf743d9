"""The README says what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import compressit
from compressit import exports, recipe, rules, steps, tasks
from compressit.data import DatasetSpec
from compressit.recipe import document

ROOT = Path(compressit.__file__).parents[1]
README = (ROOT / "README.md").read_text()
PEERS = README[README.index("## Coming from another tool") : README.index("## What it does not do")]
HERE = [line.rpartition(" | ")[2] for line in re.findall(r"^\| (?!---|there)(.*) \|$", PEERS, re.M)]
"""The right side of the table of other tools."""
TYPED = re.compile(r"compressit|search |--|[\w.]+\.html")
"""What begins so is no piece of a recipe: commands, flags and files."""
PIECES = [(text, cell) for cell in HERE for text in re.findall(r"`([^`]+)`", cell) if not TYPED.match(text)]


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


def configured(room, kind, name, fields):
    """Validate fields of a step or an export as they stand; `...` stands for any value.

    What a recipe has to say besides is that of the example in the file's docstring.
    """
    config = room.load(name).Config
    example = re.search(rf"- {kind}: {name}\n((?:      .*\n)*)", room.load(name).__doc__)
    rest = document.parse(example[1], name).tree if example and example[1] else {}
    assert {*fields} <= {*config.model_fields}, f"{name} has no field { ({*fields} - {*config.model_fields}) }"
    # As a recipe's own lists are read.
    said = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items() if v != "..."}
    needed = {key: value for key, value in rest.items() if config.model_fields[key].is_required()}
    try:
        config(**{kind: name} | needed | said)
    except ValidationError:
        # One of several amounts has to be said, none of which is required by itself.
        config(**{kind: name} | rest | said)


def test_the_table_of_other_tools_is_read():
    assert len(HERE) > 20
    assert len(PIECES) > 40


@pytest.mark.parametrize(("text", "cell"), PIECES)
def test_its_pieces_for_who_comes_from_another_tool_are_pieces_of_a_recipe(text, cell):
    found = document.parse(text, text).tree
    beside = [name for name in steps.names() if re.search(rf"(`|step: ){name}\b", cell)]
    files = [name for name in exports.names() if f"export: {name}" in cell]
    if isinstance(found, str):
        fields = {field for name in beside for field in steps.load(name).Config.model_fields}
        assert found in {*steps.names(), *fields, *recipe.Target.model_fields}
        return
    first = next(iter(found))
    if first == "step":
        configured(steps, "step", found.pop("step"), found)
    elif first == "export":
        configured(exports, "export", found.pop("export"), found)
    elif first == "task":
        assert found["task"] in tasks.names()
    elif first == "dataset":
        DatasetSpec.model_validate(found["dataset"])
    elif found[first] is None:
        assert first in recipe.Recipe.model_fields
    else:
        owners = [(steps, "step", name) for name in beside or ([] if files else steps.names())]
        owners += [(exports, "export", name) for name in files]
        having = [each for each in owners if {*found} <= {*each[0].load(each[2]).Config.model_fields}]
        assert having, f"nothing named beside it has {', '.join(found)}"
        for each in having:
            configured(*each, found)
