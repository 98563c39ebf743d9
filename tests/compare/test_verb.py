"""`compressit compare` as a CI job meets it: exit codes, JUnit, a job's summary and its annotations."""

import json
import shutil
from xml.etree import ElementTree

import pytest

from compressit.report import Outcome, Verdict, github, junit


@pytest.fixture
def gates(write):
    return write("gates:\n  - {metric: accuracy, max_drop: 0.03}\n  - {metric: size, max_ratio: 0.9}\n", "gates.yaml")


def test_a_candidate_that_lost_too_much_fails_the_build(cli, finished, gates, tmp_path):
    summary, xml = tmp_path / "summary.md", tmp_path / "out.xml"
    done = cli(
        "compare", finished["three"], finished["one"], "--gates", gates, "--junit", xml, "--github", "--no-timings",
        "--markdown", tmp_path / "said.md", "--html", tmp_path / "said.html",
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "a gate fails" in done.stdout
    assert "exit 3: A gate was missed.\n" in done.stdout
    assert "95% sure of a drop of at least 0." in done.stdout
    assert "right answers lost" in done.stdout
    assert "::error title=one%3A gates against three%3A accuracy drop <= 0.03::" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    suites = ElementTree.parse(xml).getroot()
    assert {(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites} == {
        ("one: targets", "1", "0"),
        ("one: gates against three", "2", "1"),
    }
    said = summary.read_text()
    assert (tmp_path / "said.md").read_text() == said
    page = (tmp_path / "said.html").read_text()
    assert page.index("t ship it.") < page.index("one against three</h2>") < page.index("Worst flips")
    assert "one against three" in page or "held against" in page
    assert "| FAIL | one | accuracy drop \\<= 0.03 |" in said
    assert "### Targets of the recipes" in said


def test_no_gates_ask_nothing_and_json_is_all_there_is(cli, finished):
    done = cli("compare", finished["three"], finished["one"], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {each["metric"]: each for each in found["candidates"][0]["differences"]}
    assert 0 < rows["latency"]["ratio_low"] < rows["latency"]["ratio"] < rows["latency"]["ratio_high"]
    assert found["base"]["name"] == "three"
    assert [each["side"]["name"] for each in found["candidates"]] == ["one"]


def test_what_cannot_be_decided_fails_unless_it_may_warn(cli, finished, write, tmp_path):
    open_gate = write("gates: [{metric: accuracy, max_drop: 0.001}]", "open.yaml")
    arguments = (
        "compare",
        finished["three"],
        finished["same"],
        "--gates",
        open_gate,
        "--junit",
        tmp_path / "x.xml",
        "--no-timings",
    )
    done = cli(*arguments)
    assert done.returncode == 4
    assert "examples would decide" in done.stdout
    assert "exit 4: No gate was missed, but at least one can't be decided.\n" in done.stdout
    assert 'failures="1"' in (tmp_path / "x.xml").read_text()
    assert cli(*arguments, "--inconclusive", "warn").returncode == 0
    assert 'failures="0"' in (tmp_path / "x.xml").read_text()
    assert 'skipped="1"' in (tmp_path / "x.xml").read_text()


def test_a_baseline_is_written_and_held_against(cli, finished, gates, tmp_path):
    file = tmp_path / "baseline.json"
    assert cli("compare", finished["three"], "--write-baseline", file).returncode == 0
    done = cli("compare", "--baseline", file, finished["one"], "--gates", gates)
    assert done.returncode == 3, done.stderr
    assert "every gate" not in done.stdout


def test_a_gate_on_a_timing_is_refused_with_a_baseline_before_any_work(cli, finished, write, tmp_path):
    file, recipe = tmp_path / "baseline.json", finished["three"].parents[1] / "one.yaml"
    assert cli("compare", finished["three"], "--write-baseline", file).returncode == 0
    timed = write("gates: [{metric: latency, max_ratio: 1.05}]", "timed.yaml")
    done = cli("compare", recipe, "--baseline", file, "--gates", timed, cwd=tmp_path)
    assert done.returncode == 2
    assert "latency" in done.stderr
    assert "compare run folders or recipes instead of a baseline" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missed_target_of_the_candidates_own_is_called_that(cli, finished, tmp_path):
    copy = shutil.copytree(finished["other"], tmp_path / "copy")
    done = cli("compare", finished["other"], copy, "--no-timings")
    assert done.returncode == 3, done.stderr
    assert "No gates: nothing was judged. copy is not surely worse or better in anything\n" in done.stdout
    assert "exit 3: A target of a candidate's own recipe was missed.\n" in done.stdout


@pytest.mark.parametrize(
    ("runs", "code", "said"),
    [
        (["three"], 2, "one run alone can't be compared"),
        (["three", "other"], 6, "examples: 300 and 200"),
        (["three", "nowhere"], 2, "there is no folder"),
    ],
)
def test_what_cannot_be_compared_says_why(cli, finished, runs, code, said):
    done = cli("compare", *(finished.get(name, name) for name in runs))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_written_is_no_traceback(cli, finished, tmp_path):
    done = cli("compare", finished["three"], "--write-baseline", tmp_path / "nowhere" / "baseline.json")
    assert done.returncode == 2
    assert "can't write" in done.stderr


def test_a_recipe_is_applied_once_and_then_compared(cli, finished, tmp_path):
    recipe = finished["three"].parents[1] / "one.yaml"
    done = cli("compare", finished["three"], recipe, "--no-timings", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "one" / "manifest.json").is_file()
    again = cli("compare", finished["three"], recipe, "--no-timings", cwd=tmp_path)
    assert "is applied already" in again.stderr
    assert "step 1" not in again.stderr


HOSTILE = "a\x1b[31m<b>&\"'::error::%0A\n,|`\x00\ufffe"


def verdict(outcome, why=HOSTILE):
    return Verdict(metric="accuracy", artifact=HOSTILE, bound="max_drop", limit=0.1, unit="", value=0.0, low=0.0,
                   high=0.0, outcome=outcome, why=why)  # fmt: skip


def test_hostile_text_stays_text_in_xml_and_commands():
    cases = [junit.Case(HOSTILE, verdict(outcome)) for outcome in Outcome]
    root = ElementTree.fromstring(junit.document(cases).encode())
    assert root[0].get("name").startswith("a[31m<b>&")
    for line in github.commands(cases):
        assert "\n" not in line
        assert line.startswith(("::error title=", "::warning title="))
        assert "::" not in line[2:].partition("::")[0]


def test_no_more_than_ten_annotations_of_a_kind():
    cases = [junit.Case("run", verdict(Outcome.FAIL, "so")) for _ in range(25)]
    lines = github.commands(cases)
    assert len(lines) == 10
    assert "16 more" in lines[-1]
