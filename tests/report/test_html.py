"""The page: what it says, and how a real browser takes it, hostile texts and all."""

import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from compressit.outputs import Change
from compressit.report import (
    Artifact,
    Layer,
    Outcome,
    Provenance,
    Reading,
    Report,
    Sensitivity,
    StepRecord,
    Swap,
    Verdict,
)
from compressit.report.flips import Flip, Flips
from compressit.report.html import page, pareto, sections
from compressit.report.html.svg import Point
from compressit.report.pictures import picture
from compressit.report.shown import Shown
from tests import browser

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</style></title></svg><svg onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    '<a href="https://example.org/">https://example.org/x.png</a>',
    "=cmd()|' /C calc'!A0",
    "\x1b[31mred\x1b]8;;https://example.org\x07",
    "{{7*7}}{% raw %}${7*7}",
    "\u202eesrever\u2066",
    "&lt;b&gt; &#0; \x00 \uffff",
    "x" * 10_000,
    "long " * 2_000,
]


def reading(metric, unit, better, value, baseline=None, spread=0.01, **more):
    near = {} if unit == "bytes" else {"low": value * (1 - spread), "high": value * (1 + spread)}
    against = {} if baseline is None else {"baseline": baseline, "ratio": value / baseline}
    return Reading(metric=metric, unit=unit, better=better, value=value, **near, **against, **more)


def artifact(name, runtime, accuracy, seconds, size, original=None, **more):
    was = original.readings if original else (None, None, None)
    readings = [
        reading(metric, unit, better, value, before and before.value)
        for (metric, unit, better), value, before in zip(
            (("accuracy", "", "higher"), ("latency", "seconds", "lower"), ("size", "bytes", "lower")),
            (accuracy, seconds, size), was, strict=True)
    ]  # fmt: skip
    return Artifact(name=name, path=name, runtime=runtime, device="cpu", bytes=size, parameters=1000, nonzero=900,
                    dtypes={"float32": 1000}, readings=tuple(readings), **more)  # fmt: skip


def verdict(outcome, **more):
    said = {"metric": "accuracy", "artifact": "onnx", "bound": "min", "limit": 0.9, "unit": "", "value": 0.91,
            "low": 0.89, "high": 0.93, "outcome": outcome, "why": "so it is"} | more  # fmt: skip
    return Verdict(**said)


def shown(name="run", outcomes=(Outcome.PASS,), text="an example", onnx=(0.91, 0.002, 20_000_000), **more):
    """A run of two steps, whose every free text is `text`."""
    original = artifact("original", "torch", 0.92, 0.008, 90_000_000)
    checkpoint = artifact("checkpoint", "torch", 0.9, 0.004, 40_000_000, original, multiplications=0.5)
    exported = artifact("onnx", "onnxruntime", *onnx, original, multiplications=0.5, runtime_ratio={1: 0.5})
    layers = [
        Layer(name=f"encoder.layer.{block}.{part}", block=f"encoder.layer.{block}", before=(8, 8), after=(8, 8),
              kind="float32", zeros=0.5, moved=0.01 * (block + 1))
        for block in range(3) for part in ("query", f"dense {text}"[:60])
    ]  # fmt: skip
    layers += [Layer(name=f"gone.{text}", before=(4, 4)), Layer(name="head", after=(2, 8), kind="int8", zeros=0.0)]
    provenance = Provenance(created="2026-01-01", seconds=9, recipe_sha256="ab", overrides=(text,), seed=0,
                            device="cpu", model={"source": text}, data={"source": text, "examples": 300},
                            versions={"torch": text}, hardware={"processor": text})  # fmt: skip
    steps = (
        StepRecord(step="drop_layers", config={}, notes={"kept": text}, seconds=1, parameters=500,
                   after=checkpoint, gained=("size",)),
        StepRecord(step="distill", config={}, notes={}, seconds=2, parameters=500, gained=()),
    )  # fmt: skip
    report = Report(name=name, task="text-classification", provenance=provenance, original=original, steps=steps,
                    artifacts=(checkpoint, exported), layers=tuple(layers), sensitivity=sensitivity(text),
                    verdicts=tuple(verdict(outcome, why=text) for outcome in outcomes))  # fmt: skip
    flips = (Flips("onnx", 30, 300, tuple(Flip("0f", words, Change(text, text, text)) for words in (text, None))),)
    return Shown(name, report, f"name: {name}\n# {text}\n", "a/b", flips, "it isn't there", **more)


def sensitivity(text, parts=30):
    swaps = [
        Swap(name=f"encoder.layer.{number}.{text}"[:80], block=f"encoder.layer.{number}", moved=0.001 * number)
        for number in range(parts)
    ]
    swaps += [Swap(name=f"head {text}", why=text), Swap(name="encoder.layer.99", kind="block left out",
                                                         block="encoder.layer.99", moved=0.5)]  # fmt: skip
    return Sensitivity(measure="kl_divergence", split=text, examples=64, whole=0.25, swaps=tuple(swaps))


class Words(HTMLParser):
    """The text of a page, without its style."""

    def __init__(self, text):
        super().__init__()
        self.style, self.said = False, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.style = tag == "style"

    def handle_data(self, data):
        self.said += [] if self.style else [data.strip()]

    def __str__(self):
        return re.sub(r"\s+", " ", " ".join(filter(None, self.said)))


@pytest.mark.parametrize(
    ("outcomes", "words", "why"),
    [
        ([Outcome.PASS], "Ship it.", "1 of 1 target met. Done; every target passed."),
        ([Outcome.PASS, Outcome.FAIL], "Don\u2019t ship it.", "1 of 2 targets met; missed: accuracy of onnx."),
        ([Outcome.INCONCLUSIVE], "Can\u2019t tell yet.", "0 of 1 target met; undecided: accuracy of onnx."),
        ([], "No targets.", "The recipe sets none"),
    ],
)
def test_the_verdict_comes_first(outcomes, words, why):
    text = str(Words(page([shown(outcomes=outcomes)])))
    start = text.index(words)
    assert start < 120
    assert start < text.index(why) < text.index("Before and after")


def test_everything_is_there_in_its_order():
    text = str(Words(page([shown(text="a sentence")])))
    parts = ["accuracy \u2265 0.9000", "0.8900 to 0.9300", "Before and after", "original (torch)", "What each step did",
             "1 drop_layers", "step 2 (distill) gained nothing", "Quality against what it costs",
             "2 original on onnxruntime", "What each part costs",
             "on 64 examples of the recipe's a sentence; the whole checkpoint: 0.25", "block 99 left out",
             "encoder.layer.99 block left out 0.5", "encoder.layer.0.a sentence matrix 0", "head a sentence",
             "losses of parts don't add up", "1 move nothing", "Layer by layer", "encoder.layer.0.query",
             "8 \u00d7 8", "50.00%", "3.00%", "4 \u00d7 4, taken out", "Worst flips", "30 of 300 got worse",
             "Where it comes from", "name: run"]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "Without text: it isn't there." in text


def test_a_report_without_the_newer_fields_has_a_page():
    old = shown().report.model_dump(mode="json")
    del old["layers"], old["sensitivity"]
    for step in old["steps"]:
        del step["after"], step["gained"]
    text = str(Words(page([Shown("run", Report.model_validate(old), "name: run", "a/b")])))
    assert "Not measured after each step" in text
    assert "Layer by layer" not in text
    assert "What each part costs" not in text
    assert "Worst flips" not in text


def test_who_has_not_asked_what_parts_cost_is_told_how():
    run = shown()
    asked = replace(run, report=run.report.model_copy(update={"sensitivity": None}))
    hint = "compressit report DIR --sensitivity"
    assert hint in page([asked])
    assert hint not in page([run])


def test_several_runs_share_one_front():
    text = str(Words(page([shown("one"), shown("two", onnx=(0.93, 0.001, 10_000_000)), shown("three")])))
    table = text[text.index("not beaten in") :]
    assert "two onnx 0.9300 0.9207 to 0.9393 1 ms 10 MB latency, size" in table
    assert "one onnx 0.9100 0.9009 to 0.9191 2 ms 20 MB \u2013" in table
    assert len(re.findall(r"(one|two|three) original on", table)) == 1, "the same original is shown once"
    assert "timings of different runs" in text


def test_the_front_is_what_nothing_beats():
    points = [Point(name, name, x, y) for name, x, y in
              [("a", 1, 1), ("b", 2, 2), ("c", 2, 1), ("d", 3, 2), ("e", 3, 3), ("same", 3, 3)]]  # fmt: skip
    assert "".join(p.mark[0] for p in pareto.front(points, more=False, higher=True) if p.front) == "abes"
    assert "".join(p.mark[0] for p in pareto.front(points, more=True, higher=True) if p.front) == "es"
    assert "".join(p.mark[0] for p in pareto.front(points, more=False, higher=False) if p.front) == "a"


def test_figures_that_are_no_numbers_are_drawn_as_such():
    run = shown()
    readings = [r.model_copy(update={"value": None, "low": None, "high": None}) for r in run.report.original.readings]
    broken = run.report.original.model_copy(update={"readings": tuple(readings)})
    verdicts = (verdict(Outcome.FAIL, value=None, low=None, high=None, why="it is not a number"),)
    report = run.report.model_copy(update={"original": broken, "verdicts": verdicts})
    text = str(Words(page([Shown("run", report, "", "")])))
    assert "NaN" in text
    assert "it is not a number" in text
    nothing = report.model_copy(update={"artifacts": tuple(
        a.model_copy(update={"readings": tuple(readings)}) for a in report.artifacts)})  # fmt: skip
    assert "nan" not in page([Shown("run", nothing, "", "")])


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:24])
def test_no_text_becomes_markup(text):
    made = page([shown(text=text)])
    assert not re.search(r"<script|<img|<iframe|<a |alert\(1\)>|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", made)
    tags = Counting(made).tags
    assert tags == Counting(page([shown(text="y" * min(len(text), 300))])).tags


class Counting(HTMLParser):
    """The elements of a page and the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@browser.needed
def test_a_browser_runs_nothing_of_it_and_asks_for_nothing(chromium, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page([shown(f"run-{number}", text=text) for number, text in enumerate(HOSTILE)]))
    chromium.screen(1200)
    chromium.open(file)
    assert chromium.complaints == []
    assert chromium.asked == [file.as_uri()]
    assert chromium.value("document.querySelectorAll('script, img, iframe, object, embed, form, a').length") == 0
    assert chromium.value("document.querySelector('meta[http-equiv]').content.startsWith(\"default-src 'none'\")")
    own = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on'))"
    assert chromium.value(f"{own}.length") == 0
    # A script that found its way in would be stopped by the page itself.
    loose = tmp_path / "loose.html"
    loose.write_text(
        page([shown()]).replace("<main>", "<main><img src=https://example.org/x><script>alert(1)</script>")
    )
    chromium.open(loose)
    assert len([said for said in chromium.complaints if "Content Security Policy" in said]) == 2
    assert not [said for said in chromium.complaints if "Dialog" in said]


@browser.needed
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_the_screen(chromium, tmp_path, width):
    file = tmp_path / "report.html"
    for runs in ([shown()], [shown(f"run-{number}", text=text) for number, text in enumerate(HOSTILE)]):
        file.write_text(page(runs))
        chromium.screen(width)
        chromium.open(file)
        for closed in (True, False):
            chromium.value(
                f"document.querySelectorAll('details').forEach(each => each.open = {str(not closed).lower()})"
            )
            assert chromium.value("document.documentElement.scrollWidth") == width
    verdict = chromium.value("document.querySelector('.verdict').getBoundingClientRect().top")
    assert 0 < verdict < 200, "it is seen without scrolling"


@browser.needed
def test_the_chart_of_parts_can_be_read(chromium, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page([shown(text="attention.self.query")]))
    chromium.screen(1200)
    chromium.open(file)
    assert chromium.complaints == []
    of = "[...document.querySelectorAll('section')].find(s => s.textContent.startsWith('What each part costs'))"
    assert chromium.value(f"{of}.querySelectorAll('svg.bars rect.own').length") == 20
    assert chromium.value(f"{of}.querySelectorAll('tbody tr').length") == 32
    first = f"{of}.querySelector('svg.bars')"
    assert chromium.value(f"{first}.querySelector('text').textContent") == "block 99 left out"
    # No label runs into its bar.
    ends = f"[...{first}.querySelectorAll('text:not(.number)')].map(t => t.getBBox().x + t.getBBox().width)"
    starts = f"[...{first}.querySelectorAll('rect.own')].map(r => r.getBBox().x)"
    assert chromium.value(f"Math.max(...{ends}) <= Math.min(...{starts})")


@browser.needed
@pytest.mark.parametrize("width", [1100, 1400])
def test_long_names_end_before_the_bars_and_keep_what_tells_them_apart(chromium, tmp_path, width):
    names = ["bert.embeddings.position_embeddings", "vilt.embeddings.text_embeddings.token_type_embeddings",
             "model.embed_tokens_without_a_dot_anywhere", "bert.encoder.layer.1.attention.output.dense"]  # fmt: skip
    swaps = [Swap(name=name, block="bert.encoder.layer.1" if ".layer.1" in name else None, moved=0.00546)
             for name in names]  # fmt: skip
    found = Sensitivity(measure="kl_divergence", split="test", examples=8, whole=None, swaps=tuple(swaps))
    run, file = shown(), tmp_path / "report.html"
    file.write_text(page([replace(run, report=run.report.model_copy(update={"sensitivity": found}))]))
    chromium.screen(width)
    chromium.open(file)
    of = "[...document.querySelectorAll('section')].find(s => s.textContent.startsWith('What each part costs'))"
    chart = f"{of}.querySelector('svg.bars')"
    labels = chromium.value(f"[...{chart}.querySelectorAll('text:not(.number)')].map(t => t.textContent)")
    assert labels[:2] == ["bert.embeddings.position_embeddings", "…text_embeddings.token_type_embeddings"]
    assert labels[3] == "block 1 attention.output.dense"
    ends = chromium.value(
        f"[...{chart}.querySelectorAll('text:not(.number)')].map(t => t.getBBox().x + t.getBBox().width)"
    )
    starts = chromium.value(f"[...{chart}.querySelectorAll('rect.own')].map(r => r.getBBox().x)")
    assert max(ends) < min(starts)


def test_a_block_with_another_number_is_known_by_both():
    layers = tuple(
        Layer(name=f"encoder.layer.{now}.dense", was=None if now == was else f"encoder.layer.{was}.dense",
              block=f"encoder.layer.{now}", before=(8, 8), after=(8, 8), kind="float32", zeros=0.0, moved=0.1)
        for now, was in ((0, 0), (1, 3))
    )  # fmt: skip
    swaps = [Swap(name=f"encoder.layer.{was}.dense", block=f"encoder.layer.{was}", moved=0.1) for was in (0, 3)]
    swaps += [Swap(name="encoder.layer.1", kind="block left out", block="encoder.layer.1", moved=0.2)]
    found = Sensitivity(measure="kl_divergence", split="test", examples=8, whole=None, swaps=tuple(swaps))
    run = shown()
    words = Words(page([replace(run, report=run.report.model_copy(update={"sensitivity": found, "layers": layers}))]))
    for said in ("block 1 (was 3)", "block 3 (now 1) dense", "block 1 of the original left out", "block 0 dense",
                 "encoder.layer.3.dense (now in encoder.layer.1)"):  # fmt: skip
        assert said in str(words), said


def pictured(count=3, size=8, truth="a 3", artifact="onnx"):
    from PIL import Image

    draw = random.Random(0)
    flips = []
    for number in range(count):
        image = Image.frombytes("L", (size, size), draw.randbytes(size * size))
        flips.append(Flip(f"{number:016x}", None, Change(truth, "a 3 0.90", "an 8 0.80"), picture(image)))
    return Flips(artifact, count, 300, tuple(flips))


@browser.needed
@pytest.mark.parametrize("size", [8, 300])
def test_pictures_are_drawn_from_the_page_alone(size, chromium, tmp_path):
    run, file = shown(), tmp_path / "report.html"
    truth = '"><script>alert(1)</script>'
    file.write_text(page([replace(run, flips=(pictured(size=size, truth=truth),), textless="")]))
    chromium.screen(1200)
    chromium.open(file)
    assert chromium.complaints == []
    assert [url for url in chromium.asked if not url.startswith("data:")] == [file.as_uri()]
    assert chromium.value("document.images.length") == 3
    for each in range(3):
        image = f"document.images[{each}]"
        assert chromium.value(f"{image}.complete && {image}.naturalWidth") == min(size, 96)
        assert 64 <= chromium.value(f"{image}.getBoundingClientRect().width") <= 96
        assert chromium.value(f"{image}.alt") == truth
    assert chromium.value("document.querySelectorAll('script').length") == 0
    chromium.screen(360)
    assert chromium.value("document.documentElement.scrollWidth") == 360


def test_pictures_take_no_more_room_than_they_may(monkeypatch):
    run = replace(shown(), flips=(pictured(10, 300), pictured(10, 300, artifact="checkpoint")))
    one = len(run.flips[0].worst[0].picture.source)
    assert page([run]).count("<img") == 20
    monkeypatch.setattr(sections, "PICTURES", 5 * one)
    made = page([run, run])
    assert 3 <= made.count("<img") <= 6
    assert sum(map(len, re.findall(r'src="(data:[^"]*)"', made))) <= 5 * one
    assert made.count("<code>0000") == 40 - made.count("<img")


@browser.needed
def test_it_follows_the_light_and_goes_on_paper(chromium, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page([shown()]))
    brightness = "getComputedStyle(document.body).{}.match(/[0-9]+/g).map(Number).reduce((a, b) => a + b)"
    for dark in (False, True):
        chromium.screen(1200, dark=dark)
        chromium.open(file)
        paper, ink = (chromium.value(brightness.format(name)) for name in ("backgroundColor", "color"))
        assert (paper < 150 and ink > 600) if dark else (paper > 700 and ink < 150)
    assert chromium.paper().startswith(b"%PDF")
