"""What a recipe of rankings may and may not say, told before any work."""

import pytest

from compressit import recipe, rules

TEXT = """\
name: clicks
task: {task}
model: some/model
dataset:
  path: {path}
  evaluation: {split}
  columns: {columns}
steps: [quantize_rtn]
metrics: [auc, {{metric: hit, k: 1}}]
targets: [{{metric: ndcg, max_drop: 0.01}}]
"""


@pytest.fixture
def problems(write):
    def found(columns="{}", path="some/data", split="test", task="text-classification"):
        text = TEXT.format(columns=columns, path=path, split=split, task=task)
        return rules.check(recipe.load(write(text)))

    return found


def test_a_group_column_is_missed_in_the_plan_where_the_file_tells(problems, tmp_path):
    (tmp_path / "clicks.csv").write_text("text,label,user\na,1,7\n")
    local = {"path": ".", "split": "clicks.csv"}
    hit, ndcg = problems(**local)
    assert hit.message == "hit is about rows that have group, which . has not"
    assert hit.hint == "name the column in the recipe's dataset: columns: {group: COLUMN}; there are text, label, user"
    assert (hit.place.line, ndcg.place.line) == (9, 10)
    assert problems("{group: user}", **local) == []
    (wrong,) = problems("{group: users}", **local)
    assert wrong.message == ". has no column 'users'; did you mean 'user'?"
    (tmp_path / "clicks.csv").write_text("text,label,group\na,1,7\n")
    assert problems(**local) == []


def test_what_lies_elsewhere_is_seen_when_it_is_opened(problems):
    assert problems() == []


def test_images_have_no_groups(problems):
    found = {problem.message for problem in problems(task="image-classification")}
    assert found == {
        f"{metric} is about rows that have group, which rows for image-classification have not"
        for metric in ("hit", "ndcg")
    }
