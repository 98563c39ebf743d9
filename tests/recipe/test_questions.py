"""What a recipe of questions may and may not say, told before any work."""

import pytest

from compressit import recipe, rules

TEXT = """\
name: questions
task: question-answering
model: some/model
dataset:
  path: some/data
  train: train
  calibration: train[:100]
  evaluation: test
  stride: 64
  max_answer: 20
steps: {steps}
{rest}
"""


@pytest.fixture
def problems(write):
    def found(steps="[finetune]", rest=""):
        return rules.check(recipe.load(write(TEXT.format(steps=steps, rest=rest))))

    return found


def test_the_tasks_own_metrics(problems, write):
    assert problems() == []
    found = rules.measured(recipe.load(write(TEXT.format(steps="[finetune]", rest=""))).recipe)
    assert [config.key for config in found] == [
        "exact_match", "answer_f1", "agreement", "latency", "throughput", "size"
    ]  # fmt: skip


def test_metrics_of_labels_do_not_fit(problems):
    (problem,) = problems(rest="metrics: [f1]")
    assert problem.message == "f1 does not fit question-answering"
    assert problem.hint == "for question-answering there are agreement, answer_f1, exact_match"


def test_where_answers_are_can_not_be_taught_in_other_tokens(problems):
    """Answers are still compared by their texts."""
    trim, distill = "{step: trim_vocabulary, keep: 0.5}", "{step: distill}"
    assert problems(f"[{distill}, {trim}]") == []
    (problem,) = problems(f"[{trim}, {distill}]")
    assert problem.message == "distill needs a teacher that reads the same tokens, and trim_vocabulary changes them"


@pytest.mark.parametrize("export", ["{export: onnx, weights: int8}", "{export: openvino, weights: int8}"])
def test_it_exports(export, problems):
    assert problems(rest=f"exports: [{export}]") == []
