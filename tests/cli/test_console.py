"""How it talks: bars on a terminal, dated lines elsewhere, and no control character of a recipe passes."""

import os
import pty
import re
import subprocess
import sys

from compressit.cli import console
from compressit.errors import StepError

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
