"""The page of a comparison: what was found between runs comes before the runs."""

import pytest

from compressit.compare import Compared, Comparison, Difference, Side, Sure
from compressit.compare.html import page
from compressit.report import Outcome
from tests import browser
from tests.report.test_html import HOSTILE, Counting, Words, shown, verdict


def side(name):
    return Side(name=name, source=f"runs/{name}", recipe=name, recipe_sha256="ab", artifact="onnx",
                runtime="onnxruntime", seed=0)  # fmt: skip


def compared(name, *outcomes, text="a note"):
    differences = (
        Difference(metric="accuracy", unit="", better="higher", base=0.92, candidate=0.9, difference=-0.02, low=-0.03,
                   high=-0.01, sure=Sure.WORSE, lost=9, gained=3, mcnemar_p=0.1),
        Difference(metric="latency", unit="seconds", better="lower", base=0.004, candidate=0.002, ratio=0.5,
                   ratio_low=0.45, ratio_high=0.55, sure=Sure.BETTER),
        Difference(metric="size", unit="bytes", better="lower", base=2e7, candidate=2e7, ratio=1.0),
    )  # fmt: skip
    gates = tuple(verdict(outcome, bound="max_drop", limit=0.01, why=text) for outcome in outcomes)
    return Compared(side=side(name), differences=differences, verdicts=gates, notes=(text,))


def comparison(*candidates):
    return Comparison(base=side("base"), candidates=candidates, examples=300)


@pytest.mark.parametrize(
    ("gates", "targets", "words", "why"),
    [
        ([Outcome.PASS], [Outcome.PASS], "Ship it.", "1 of 1 gate met. 1 of 1 own target met."),
        ([Outcome.PASS, Outcome.FAIL], [], "Don\u2019t ship it.", "1 of 2 gates met; missed: accuracy of onnx."),
        ([Outcome.PASS], [Outcome.FAIL], "Don\u2019t ship it.", "1 of 1 gate met. 0 of 1 own target met; missed"),
        ([Outcome.INCONCLUSIVE], [], "Can\u2019t tell yet.", "0 of 1 gate met; undecided: accuracy of onnx."),
        ([], [], "No gates: nothing was judged.", "It is surely worse in accuracy and surely better in latency."),
        ([], [Outcome.PASS], "No gates: nothing was judged.", "better in latency. 1 of 1 own target met."),
    ],
)
def test_gates_and_targets_decide_as_on_the_command_line(gates, targets, words, why):
    text = str(Words(page([shown("base", []), shown("new", targets)], comparison(compared("new", *gates)))))
    text = text[text.index("new against base") :]
    places = [text.index(part) for part in (words, why, "onnx on onnxruntime, against onnx of base on onnxruntime")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([Outcome.PASS], "Met its own targets."),
        ([Outcome.FAIL], "Missed its own targets."),
        ([Outcome.INCONCLUSIVE], "Its own targets can\u2019t all be decided."),
        ([], "No targets of its own."),
    ],
)
@pytest.mark.parametrize("gates", [[], [Outcome.FAIL]])
def test_a_runs_own_targets_never_say_to_ship_it(gates, targets, words):
    text = str(Words(page([shown("base", []), shown("new", targets)], comparison(compared("new", *gates)))))
    assert words in text[text.index("Each run against its own original") :]
    assert "Ship it." not in text


def test_what_was_found_comes_before_the_runs():
    text = str(Words(page([shown("base"), shown("new")], comparison(compared("new", Outcome.PASS)))))
    parts = ["Ship it.", "accuracy drop \u2264 0.01", "new against base", "0.9200", "0.9000",
             "-0.0200, -0.0300 to -0.0100", "worse", "0.5x, 0.45x to 0.55x", "9 right answers lost, 3 gained", "a note",
             "Each run against its own original", "Quality against what it costs", "Before and after"]  # fmt: skip
    start = text.index("Ship it.")
    places = [text.index(part, start) for part in parts]
    assert places == sorted(places)
    assert " better" in text[places[7] :]


@browser.needed
def test_a_browser_takes_it_hostile_notes_and_all(tmp_path):
    file = tmp_path / "compare.html"
    runs = [shown(f"run-{number}", text=text) for number, text in enumerate(HOSTILE)]
    held = [compared(run.name, Outcome.FAIL, text=text) for run, text in zip(runs, HOSTILE, strict=True)]
    file.write_text(page([shown("base"), *runs], comparison(*held)))
    assert not {tag[0] for tag in Counting(file.read_text()).tags} & {"script", "img", "iframe", "a"}
    with browser.opened(tmp_path) as chromium:
        for width in (360, 1200):
            chromium.screen(width)
            chromium.open(file)
            assert (chromium.complaints, chromium.asked) == ([], [file.as_uri()])
            assert chromium.value("document.documentElement.scrollWidth") == width
