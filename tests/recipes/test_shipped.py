"""Every recipe that ships is valid and plans offline, and so does what `init` writes."""

from pathlib import Path

import pytest

import compressit
from compressit import plan, recipe, search

ROOT = Path(compressit.__file__).parents[1]
SHIPPED = [*sorted((ROOT / "recipes").glob("*.yaml")), ROOT / "compressit" / "cli" / "template.yaml"]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_it_is_valid_and_plans_offline(file):
    opened = recipe.load_open(file)
    # Not all that they need is installed wherever the tests run.
    found = plan.plan(search.check(opened) if opened.ranges else recipe.load(file), elsewhere=True)
    assert found.written.recipe.targets
    assert found.metrics


def test_there_are_several():
    assert len(SHIPPED) >= 5
