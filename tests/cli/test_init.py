"""The template, for every task."""

from importlib.resources import files

import pytest

from compressit import recipe, rules, tasks
from compressit.cli.init import fitted

TEMPLATE = files("compressit.cli").joinpath("template.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", tasks.names())
def test_it_is_a_valid_recipe(task, write):
    text = (
        fitted(TEMPLATE, task)
        .replace("demo:stdlib", "some/thing")
        .replace("task: text-classification", f"task: {task}")
    )
    found = recipe.load(write(text))
    assert rules.check(found) == []
    assert [*found.recipe.dataset.columns]
    assert found.recipe.targets[0].metric == tasks.load(task).METRICS[0]


def test_for_labels_of_texts_it_stays_as_it_is():
    assert fitted(TEMPLATE, "text-classification") == TEMPLATE
