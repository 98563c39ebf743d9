"""What a recipe for a language model may and may not say, told before any work."""

import pytest

from compressit import metrics, recipe, rules

TEXT = """\
name: stories
task: text-generation
model: some/model
dataset:
  path: some/data
  evaluation: test
{dataset}
steps: [quantize_rtn]
{rest}
"""


@pytest.fixture
def problems(write):
    def found(dataset="", rest="", task="text-generation"):
        lines = "\n".join(f"  {line}" for line in dataset.splitlines())
        text = TEXT.format(dataset=lines, rest=rest).replace("text-generation", task)
        return rules.check(recipe.load(write(text)))

    return found


def test_the_tasks_own_metrics_and_settings(problems, write):
    assert problems() == []
    found = rules.measured(recipe.load(write(TEXT.format(dataset="", rest=""))).recipe)
    assert [config.key for config in found] == [
        "perplexity", "agreement", "kl_divergence", "latency", "throughput", "size"
    ]  # fmt: skip
    assert found[4].batch_size == 4
    assert metrics.load("throughput").Config(metric="throughput").batch_size == 32


@pytest.mark.parametrize("rest", ["metrics: [size, accuracy]", "targets: [{metric: accuracy, max_drop: 0.01}]"])
def test_a_metric_of_labels_does_not_fit(rest, problems):
    (problem,) = problems(rest=rest)
    assert problem.message == "accuracy does not fit text-generation"
    assert "agreement, kl_divergence, last_word_accuracy, perplexity" in problem.hint
    (other,) = problems(rest=rest.replace("accuracy", "perplexity").replace("max_drop: 0.01", "max_ratio: 1.1"),
                        task="text-classification")  # fmt: skip
    assert other.message == "perplexity does not fit text-classification"
    assert "accuracy" in other.hint


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("labels: {a: b}", "text-generation has no labels"),
        ("columns: {label: x}", "no role 'label'"),
        ("columns: {text: x, messages: y}", "one kind of row at a time: text or messages"),
        ("columns: {messages: x}\npacking: joined", "packing: joined is for text, not for messages"),
        ("columns: {messages: x}\npacking: documents", "packing: documents is for text, not for messages"),
        ("columns: {context: a, continuation: b}\nstride: 8", "a continuation is one"),
        ("max_length: 512\nstride: 513", "stride 513 is beyond max_length 512"),
    ],
)
def test_data_that_does_not_fit(dataset, message, problems):
    (problem,) = problems(dataset)
    assert message in problem.message


@pytest.mark.parametrize("field", ["packing: joined", "stride: 5"])
def test_windows_are_for_language_models(field, problems):
    assert problems(field) == []
    (problem,) = problems(field, task="text-classification")
    name = field.split(":")[0]
    takers = "question-answering, text-generation" if name == "stride" else "text-generation"
    assert problem.message == f"{name} is for {takers}; text-classification has no use for it"


def test_an_export_that_can_not_hold_it(problems):
    found = {problem.message for problem in problems(rest="exports: [onnx]")}
    assert "onnx does not hold models for text-generation" in found


def test_what_makes_sense_of_perplexity(problems):
    assert problems(rest="targets: [{metric: perplexity, max_ratio: 1.05}]") == []
    assert problems(rest="targets: [{metric: perplexity, max: 30}]") == []
    assert "lower is better" in problems(rest="targets: [{metric: perplexity, max_drop: 1}]")[0].message
    assert "lies between 1 and inf" in problems(rest="targets: [{metric: perplexity, max: 0.5}]")[0].message
