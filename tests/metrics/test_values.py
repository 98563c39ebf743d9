"""Each metric against what scikit-learn, scipy or arithmetic says."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy
from sklearn import metrics as sklearn_metrics

from compressit import metrics
from compressit.errors import RetryableError, StepError, UnsafeError
from compressit.metrics import Evidence, Predictions, Timings
from compressit.runtimes import Facts


def evidence(classes=3, total=200, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, total)
    examples = np.arange(total, dtype=np.uint64)
    said = [Predictions(draw.normal(size=(total, classes)).astype(np.float32), labels, examples) for _ in range(2)]
    seconds = np.array([0.2, 0.1, 0.4])
    timing = {size: Timings(size, seconds, seconds * 2, seconds * 2, seconds * 4) for size in (1, 8, 32)}
    return Evidence(Facts(1000, 4000, 3000, {"int8": 4000}), said[0], said[1], timing, 123)


def measure(name, found, **fields):
    return metrics.value(found, metrics.load(name).Config(metric=name, **fields))


@pytest.mark.parametrize("classes", [2, 3])
def test_figures_of_labels(classes):
    found = evidence(classes)
    truth, said = found.predictions.labels, found.predictions.choices
    assert measure("accuracy", found) == pytest.approx(sklearn_metrics.accuracy_score(truth, said))
    assert measure("matthews", found) == pytest.approx(sklearn_metrics.matthews_corrcoef(truth, said))
    for average in ("macro", "micro", "weighted"):
        for name in ("f1", "precision", "recall"):
            wanted = getattr(sklearn_metrics, f"{name}_score")(truth, said, average=average)
            assert measure(name, found, average=average) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_figures_of_labels_are_scikit_learns_however_few_have_a_label(seed):
    draw = np.random.default_rng(seed)
    labels, logits = draw.integers(0, 4, 6), draw.normal(size=(6, 5))
    said = Predictions(logits, labels, np.arange(6, dtype=np.uint64))
    found, chosen = Evidence(Facts(1, 1, 1, {}), said, said, {}, 0), logits.argmax(-1)
    assert measure("matthews", found) == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, chosen))
    for average in ("macro", "micro", "weighted"):
        for name in ("f1", "precision", "recall"):
            wanted = getattr(sklearn_metrics, f"{name}_score")(labels, chosen, average=average, zero_division=0)
            assert measure(name, found, average=average) == pytest.approx(wanted)


def test_closeness_to_the_original():
    found = evidence()
    one, other = found.predictions.logits.astype(float), found.reference.logits.astype(float)
    assert measure("agreement", found) == pytest.approx((one.argmax(-1) == other.argmax(-1)).mean())
    wanted = [entropy(np.exp(log_softmax(b)), np.exp(log_softmax(a))) for a, b in zip(one, other, strict=True)]
    assert measure("kl_divergence", found) == pytest.approx(np.mean(wanted))


def test_what_files_hold_and_what_runs_take():
    found = evidence()
    assert measure("size", found) == 1000
    assert measure("parameters", found) == 4000
    assert measure("nonzero", found) == 0.75
    assert measure("bits_per_weight", found) == 2
    assert measure("peak_memory", found) == 123
    assert measure("latency", found) == 0.2
    assert measure("latency", found, batch_size=8) == 0.2
    assert measure("throughput", found) == 160
    details = metrics.load("latency").details(found.timings[1], None)
    assert details == pytest.approx({"p50": 0.2, "p90": 0.36, "batch_size": 1})


MODULE = """
import datasets, evaluate
class Share(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}))
    def _compute(self, predictions, references):
        right = sum(p == r for p, r in zip(predictions, references))
        return {"wrong": 1 - right / len(references), "share": right / len(references)}
"""


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A metric in the place where `evaluate` keeps those it has fetched."""
    import evaluate.loading

    home = tmp_path / "modules"
    package = home / "evaluate_modules" / "metrics" / "evaluate-metric--share"
    revision = package / ("0" * 64)
    revision.mkdir(parents=True)
    for folder in (home / "evaluate_modules", home / "evaluate_modules" / "metrics", package, revision):
        (folder / "__init__.py").write_text("")
    (revision / "share.py").write_text(MODULE)
    (revision / "share.json").write_text('{"original file path": "share.py", "local file path": "share.py"}')
    monkeypatch.setattr(evaluate.loading, "init_dynamic_modules", lambda *a, **k: str(home / "evaluate_modules"))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.chdir(tmp_path)
    return "share"


def test_any_metric_of_evaluate_by_name(cached):
    found = evidence()
    accuracy = measure("accuracy", found)
    assert measure("evaluate", found, load=cached) == pytest.approx(accuracy)
    assert measure("evaluate", found, load=cached, result="wrong") == pytest.approx(1 - accuracy)
    with pytest.raises(StepError, match="gives wrong, share, not 'right'"):
        measure("evaluate", found, load=cached, result="right")


def test_a_metric_that_is_not_cached_can_be_had_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RetryableError, match="fetch it once where there is a network"):
        measure("evaluate", evidence(), load="nosuchmetric")


def test_code_that_lies_about_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sly").mkdir()
    (tmp_path / "sly" / "sly.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UnsafeError, match="would run code"):
        measure("evaluate", evidence(), load="sly")
    with pytest.raises(ValueError, match="pattern"):
        metrics.load("evaluate").Config(metric="evaluate", load="../sly")
