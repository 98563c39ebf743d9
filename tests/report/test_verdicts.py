"""Targets: what passes, what fails, and what can't be told."""

import re
from dataclasses import replace

import numpy as np
import pytest

from compressit import metrics
from compressit.metrics import Answers, Evidence, Kind, Pairs, Predictions, Tags, Timings, TokenScores
from compressit.outputs import Texts
from compressit.recipe import Target
from compressit.report import Outcome, bounds, verdicts
from compressit.runtimes import Facts


def predictions(right, total=2000, seed=0):
    """Logits of which the first `right` examples are right."""
    labels = np.random.default_rng(seed).integers(0, 2, total)
    choices = np.where(np.arange(total) < right, labels, 1 - labels)
    logits = np.eye(2, dtype=np.float32)[choices] * 4
    return Predictions(logits, labels, np.arange(total, dtype=np.uint64))


def windows(worse=0.0, noise=0.001, total=100, tokens=100, seed=0):
    """What a language model says of windows that differ much, each worse by about as many nats a token."""
    draw = np.random.default_rng(seed)
    nll = tokens * (3 + 0.5 * draw.normal(size=total) + worse)
    nll += tokens * noise * np.random.default_rng(seed + 1).normal(size=total)
    count = np.full(total, tokens)
    examples = np.arange(total, dtype=np.uint64)
    return TokenScores(nll, count, count // 2, examples, count * 9 // 10, count * (0.01 + worse))


def tags(right, total=2000):
    """Five words to an example, all of them tagged right in the first `right` examples."""
    labels = np.tile([0, 1, 2, 0, 1], total)
    said = np.where(np.arange(len(labels)) < 5 * right, labels, (labels + 1) % 3)
    names = np.array(["O", "B-X", "I-X"])
    counts, examples = np.full(total, 5), np.arange(total, dtype=np.uint64)
    return Tags(np.eye(3, dtype=np.float32)[said], labels, counts, names, examples)


def answers(right, total=2000):
    """Answers of which the first `right` are right, and the others half."""
    exact = (np.arange(total) < right).astype(float)
    said = np.where(exact > 0, "old mill", "mill")
    return Answers(said, exact, np.maximum(exact, 2 / 3), np.arange(total) % 4 > 0, np.arange(total, dtype=np.uint64))


def pairs(right, total=2000):
    """Similarities that follow scores in the first `right` examples, and are any in the others."""
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 6, total).astype(float)
    cosines = np.where(np.arange(total) < right, scores / 5, draw.random(total))
    return Pairs(cosines, scores, np.arange(total, dtype=np.uint64))


def timings(artifact=1.0, runs=101, noise=0.02, size=1, seed=0):
    """A baseline of 10 ms and an artifact at a share of it."""
    draw = np.random.default_rng(seed)

    def jitter():
        return np.exp(draw.normal(0, noise, runs))

    baseline = 0.010 * jitter()
    return Timings(size, baseline * artifact * jitter(), baseline, baseline * jitter(), baseline * 2)


def evidence(said=None, reference=None, *, size=100, timing=None, parameters=1000):
    said = said or predictions(1800)
    return Evidence(
        Facts(size, parameters, parameters, {"float32": parameters}),
        said,
        reference or said,
        {timing.batch_size: timing} if timing else {},
        5_000_000,
    )


def judge(metric, bound, after, before, **fields):
    config = metrics.load(metric).Config(metric=metric, **fields)
    return verdicts.judge(Target(metric=metric, **bound), config, "onnx", after, before)


@pytest.mark.parametrize(
    ("lost", "gained", "total", "outcome"),
    [
        (0, 0, 2000, Outcome.PASS),
        (10, 5, 2000, Outcome.PASS),
        (60, 20, 2000, Outcome.FAIL),
        (20, 5, 2000, Outcome.INCONCLUSIVE),
        # Nothing lost of fifty is not proof of a drop below one point.
        (0, 0, 50, Outcome.INCONCLUSIVE),
    ],
)
def test_a_drop_is_judged_on_the_same_examples(lost, gained, total, outcome):
    before = predictions(total * 9 // 10, total)
    wrong = np.ones(total, bool)
    wrong[: total * 9 // 10] = False
    flips = np.zeros(total, bool)
    flips[np.flatnonzero(~wrong)[:lost]] = True
    flips[np.flatnonzero(wrong)[:gained]] = True
    after = Predictions(np.where(flips[:, None], before.logits[:, ::-1], before.logits), before.labels, before.examples)
    verdict = judge("accuracy", {"max_drop": 0.01}, evidence(after, before), evidence(before))
    assert verdict.outcome is outcome
    assert verdict.value == pytest.approx((gained - lost) / total)
    assert (verdict.needed is not None) == (outcome is Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("least", "outcome"), [(0.88, Outcome.PASS), (0.92, Outcome.FAIL), (0.9, Outcome.INCONCLUSIVE)]
)
def test_a_share_is_judged_by_its_bound(least, outcome):
    one = evidence(predictions(1800))
    assert judge("accuracy", {"min": least}, one, one).outcome is outcome


@pytest.mark.parametrize("metric", ["f1", "precision", "recall", "matthews"])
def test_figures_of_the_whole_split_are_judged_by_resampling(metric):
    good, bad = evidence(predictions(1900)), evidence(predictions(1500))
    assert judge(metric, {"max_drop": 0.02}, bad, good).outcome is Outcome.FAIL
    assert judge(metric, {"max_drop": 0.02}, good, bad).outcome is Outcome.PASS
    assert judge(metric, {"min_ratio": 0.95}, good, good).outcome is Outcome.PASS
    assert judge(metric, {"min": 0.5}, good, good).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ({"max_drop": 0.01}, r"against the original; 95% sure of a drop of at least 0\.0[2-5]\d+, 0\.0100 is allowed"),
        ({"min": 0.9}, r"0\.8500, 95% sure of at most 0\.8[56]\d+; at least 0\.9000 is asked"),
        ({"min_ratio": 0.99}, r"95% sure of at most 0\.9[5-7]\d*x; at least 0\.99x is asked"),
    ],
)
def test_what_fails_says_what_is_sure(bound, said):
    verdict = judge("accuracy", bound, evidence(predictions(1700)), evidence(predictions(1800)))
    assert verdict.outcome is Outcome.FAIL
    assert re.search(said, verdict.why), verdict.why


def test_a_slow_one_is_surely_slower_than_allowed():
    timing = timings(0.5)
    before = evidence(timing=Timings(1, timing.baseline, timing.baseline, timing.again, timing.original))
    for bound, said in (
        ({"max_ratio": 0.4}, r"95% sure of at least 0\.4[89]\d*x; at most 0\.4x is asked"),
        ({"max": "4 ms"}, r"95% sure of at least 4\.[89]\d* ms; at most 4 ms is asked"),
    ):
        why = judge("latency", bound, evidence(timing=timing), before).why
        assert re.search(said, why), why


def test_size_is_exact_and_takes_units():
    small, large = evidence(size=70_000_000), evidence(size=280_000_000)
    assert judge("size", {"max": "70 MB"}, small, large).outcome is Outcome.PASS
    assert judge("size", {"max": "69.9 MB"}, small, large).outcome is Outcome.FAIL
    assert judge("size", {"max_ratio": 0.25}, small, large).outcome is Outcome.PASS
    assert judge("size", {"max_ratio": 0.2499}, small, large).outcome is Outcome.FAIL
    assert "70 MB, at most 69.9 MB" in judge("size", {"max": "69.9 MB"}, small, large).why


@pytest.mark.parametrize(
    ("share", "bound", "outcome"),
    [
        (0.5, {"max_ratio": 0.6}, Outcome.PASS),
        (0.5, {"max_ratio": 0.4}, Outcome.FAIL),
        (0.5, {"max_ratio": 0.501}, Outcome.INCONCLUSIVE),
        (0.5, {"max": "6 ms"}, Outcome.PASS),
        (0.5, {"max": "4 ms"}, Outcome.FAIL),
        (0.5, {"max": "5.001 ms"}, Outcome.INCONCLUSIVE),
    ],
)
def test_latency_is_judged_run_by_run_with_the_machines_noise(share, bound, outcome):
    timing = timings(share)
    after = evidence(timing=timing)
    before = evidence(timing=Timings(1, timing.baseline, timing.baseline, timing.again, timing.original))
    assert judge("latency", bound, after, before).outcome is outcome


def test_throughput_is_the_other_way_up():
    timing = timings(0.25, size=32)
    after = evidence(timing=timing)
    before = evidence(timing=Timings(32, timing.baseline, timing.baseline, timing.again, timing.original))
    assert judge("throughput", {"min_ratio": 3.5}, after, before).outcome is Outcome.PASS
    assert judge("throughput", {"min_ratio": 4.5}, after, before).outcome is Outcome.FAIL
    assert judge("throughput", {"min": "10000 /s"}, after, before).outcome is Outcome.PASS


def test_a_machine_too_noisy_to_tell_says_so():
    timing = timings(0.9, runs=21, noise=0.8)
    after = evidence(timing=timing)
    before = evidence(timing=Timings(1, timing.baseline, timing.baseline, timing.again, timing.original))
    assert judge("latency", {"max_ratio": 0.8}, after, before).outcome is Outcome.INCONCLUSIVE


def test_what_is_not_a_number_never_passes():
    broken = predictions(1800)
    broken = Predictions(np.full_like(broken.logits, np.nan), broken.labels, broken.examples)
    verdict = judge("kl_divergence", {"max": 0.1}, evidence(broken, predictions(1800)), evidence())
    assert verdict.outcome is Outcome.FAIL
    assert verdict.value is None
    assert verdict.why == "it is not a number"


def test_agreement_and_divergence_need_no_labels():
    one, other = predictions(1800), predictions(1795)
    after = evidence(one, other)
    assert judge("agreement", {"min": 0.99}, after, evidence()).outcome is Outcome.PASS
    assert judge("kl_divergence", {"max": 0.1}, after, evidence()).outcome is Outcome.PASS
    config = metrics.load("kl_divergence").Config(metric="kl_divergence")
    assert bounds.value(config, evidence(one, one))[0] == 0


def texts(right):
    """Sentences of which so many in 2,000 are as they should be, and one in four of these is made."""
    true = [f"the {word} goes home at last {number}" for number, word in enumerate(["fox", "bear"] * 250)]
    said = [text if number < right / 4 else "nobody knows" for number, text in enumerate(true)]
    packed = [np.frombuffer("".join(each).encode(), dtype=np.uint8) for each in (said, true)]
    lengths = [np.array([len(text) for text in each]) for each in (said, true)]
    overlap = np.array([float(one == other) for one, other in zip(said, true, strict=True)])
    return Texts(packed[0], lengths[0], packed[1], lengths[1], overlap, np.arange(len(true), dtype=np.uint64))


@pytest.mark.parametrize(
    "metric", [name for name in metrics.names() if name not in ("evaluate", "latency", "throughput")]
)
def test_every_metric_measures_and_bounds_itself(metric):
    module = metrics.load(metric)
    config = module.Config(metric=metric)
    reads = getattr(module, "READS", (Predictions,))
    said = replace(predictions(1800), groups=np.arange(2000) // 10) if Predictions in reads else windows()
    kinds = {(Tags,): tags, (Answers,): answers, (Pairs,): pairs, (Texts,): texts}
    said = kinds.get(reads, lambda right: said)(1800)
    value, interval = bounds.value(config, evidence(said))
    assert interval.low <= value <= interval.high or (
        np.isclose(value, interval.low) or np.isclose(value, interval.high)
    )


@pytest.mark.parametrize(
    ("metric", "lost", "drop", "outcome"),
    [
        ("exact_match", 10, 0.02, Outcome.PASS),
        ("exact_match", 80, 0.02, Outcome.FAIL),
        ("answer_f1", 80, 0.02, Outcome.PASS),
        ("answer_f1", 200, 0.02, Outcome.FAIL),
    ],
)
def test_answers_are_judged_on_the_same_questions(metric, lost, drop, outcome):
    verdict = judge(metric, {"max_drop": drop}, evidence(answers(1800 - lost)), evidence(answers(1800)))
    assert verdict.outcome is outcome
    assert judge("agreement", {"min": 0.99}, evidence(answers(1800), answers(1799)), evidence()).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("worse", "bound", "outcome"),
    [
        (0.01, {"max_ratio": 1.02}, Outcome.PASS),
        (0.03, {"max_ratio": 1.02}, Outcome.FAIL),
        (0.0198, {"max_ratio": 1.02}, Outcome.INCONCLUSIVE),
        # The windows themselves differ much more than the two models do.
        (0.01, {"max": 21}, Outcome.INCONCLUSIVE),
        (0.01, {"max": 30}, Outcome.PASS),
    ],
)
def test_perplexity_is_judged_on_the_same_windows(worse, bound, outcome):
    after, before = windows(worse), windows(0, noise=0)
    verdict = judge("perplexity", bound, evidence(after, before), evidence(before))
    assert verdict.outcome is outcome
    if "max_ratio" in bound:
        assert verdict.value == pytest.approx(np.exp(worse), rel=1e-3)


def test_too_few_windows_tell_nothing():
    after, before = windows(total=4), windows(total=4)
    assert judge("perplexity", {"max_ratio": 2}, evidence(after), evidence(before)).outcome is Outcome.INCONCLUSIVE


def test_a_model_too_broken_for_a_float_fails():
    broken, before = windows(worse=1000), windows()
    for bound in ({"max_ratio": 2}, {"max": 1e9}):
        assert judge("perplexity", bound, evidence(broken), evidence(before)).outcome is Outcome.FAIL
    silent = windows(worse=float("nan"))
    assert judge("perplexity", {"max": 1e9}, evidence(silent), evidence(before)).why == "it is not a number"


def test_means_over_tokens_are_resampled_by_window():
    said = evidence(windows())
    for name, value in (("agreement", 0.9), ("kl_divergence", 0.01)):
        config = metrics.load(name).Config(metric=name)
        assert bounds.kind_of(config, said) is Kind.CORPUS
        assert bounds.kind_of(config, evidence()) is Kind.MEAN
        assert bounds.value(config, said)[0] == pytest.approx(value)
    assert judge("agreement", {"min": 0.89}, said, said).outcome is Outcome.PASS
