"""How it talks: bars on a terminal, dated lines elsewhere, and no control character of a recipe passes."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import compressit
from compressit.cli import console
from compressit.errors import StepError

ROOT = Path(compressit.__file__).parents[1]
BARS = """
import time
from compressit.cli.console import progress, table
shown = progress(quiet=False)
shown.say("step 1 of 1: finetune")
with shown.bar("finetune", 4) as advance:
    for _ in range(4):
        time.sleep(0.15)
        advance(1)
table([["pass", "accuracy"]], ["", "target"])
"""


def on_a_terminal(**env):
    """Run on a pseudo-terminal; give what it wrote."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env}
    environment.pop("FORCE_COLOR", None)
    with subprocess.Popen([sys.executable, "-c", BARS], stdout=theirs, stderr=theirs, env=environment) as run:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert run.returncode == 0, said
    return said.decode()


def test_a_terminal_gets_bars_with_the_time_left_and_colours():
    said = on_a_terminal()
    assert re.search(r"finetune.*4/4", said)
    assert re.search(r"0:00:0\d", said)
    assert "\x1b[32mpass" in said


def test_no_color_is_respected():
    said = on_a_terminal(NO_COLOR="1")
    assert "pass" in said
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


def test_elsewhere_come_dated_lines_and_no_control_character(capfd):
    shown = console.progress(quiet=False)
    shown.say("read \x1b[31mred\x1b[0m")
    with shown.bar("finetune", 4) as advance:
        for _ in range(4):
            advance(1)
    said = capfd.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert len(re.findall(r"^\d\d:\d\d:\d\d   finetune: \d of 4, \d+ s left$", said.err, re.M)) == 4


def test_quiet_is_silent(capfd):
    shown = console.progress(quiet=True)
    shown.say("anything")
    with shown.bar("finetune", 1) as advance:
        advance(1)
    assert capfd.readouterr() == ("", "")


def test_an_error_names_itself_and_its_remedy(capfd):
    console.complain(StepError("it broke", hint="mend it"))
    assert capfd.readouterr().err == "error: it broke\n  hint: mend it\n"


HOSTILE = "a\x1b[31m\n  ::error::no\n##[error]no"


def test_nothing_that_is_shown_is_a_command_to_a_terminal_or_a_job(capfd):
    console.say(HOSTILE)
    console.table([[HOSTILE, "pass"]], [HOSTILE, ""])
    console.complain(StepError(HOSTILE, hint=HOSTILE))
    console.progress(quiet=False).say(HOSTILE)
    for said in capfd.readouterr():
        assert "error" in said
        assert "\x1b" not in said
        assert not re.search(r"^\s*::|##\[", said, re.M)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_stream_that_was_closed_changes_no_exit_code(closed):
    for arguments, code in (("validate recipes/quickstart.yaml", 0), ("validate nowhere.yaml", 2)):
        made = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m compressit {arguments} {closed}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert made.returncode == code
        assert "Traceback" not in made.stderr


def test_a_full_disk_behind_standard_output_is_said():
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            [sys.executable, "-m", "compressit", "validate", "recipes/quickstart.yaml"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert made.returncode == 5
    assert made.stderr == "error: standard output can't be written: No space left on device\n"


def test_nobody_goes_on_for_a_reader_who_has_gone():
    code = "from compressit.cli.console import data\nfor n in range(10**7):\n    data(str(n))\nraise AssertionError"
    made = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{code}' | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert made.stdout == "0\n"
    assert "AssertionError" not in made.stderr


def test_a_log_that_cannot_be_written_changes_no_result():
    code = 'from compressit.cli.console import progress, say\nprogress(quiet=False).say(1 * "a")\nsay("done")'
    made = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{code}' 2>/dev/full"], capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout) == (0, "done\n")
