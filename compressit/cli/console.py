"""How compressit talks: results on standard output, everything else on standard error, no control character passes."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from compressit.errors import CompressitError, StepError
from compressit.progress import Advance, Progress, Silent
from compressit.recipe.problems import RecipeProblems, clean

COMMAND = re.compile(r"^\s*::|##\[", re.MULTILINE)
"""What the runner of a GitHub job looks for in a log: at the start of a line, or anywhere."""

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.table import Table


def progress(*, quiet: bool) -> Progress:
    """Choose how to show progress: bars on a terminal, dated lines elsewhere, nothing where quiet."""
    if quiet:
        return Silent()
    return _Bars() if sys.stderr.isatty() else _Lines()


def out(*, stderr: bool = False) -> Console:
    """Open a console; it respects NO_COLOR and takes user text without markup."""
    from rich.console import Console

    # Wide enough for a table where nobody's screen sets the width.
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 140
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def say(text: str) -> None:
    """Print a line of a result."""
    _write(shown(text) + "\n")


def data(line: str) -> None:
    """Print a line of JSON as it stands: what a terminal or GitHub would act on is written as JSON escapes it.

    Raises:
        typer.Exit: the reader has gone, so that nobody waits for the next line.
    """
    # Only a text holds any of these, and control characters below a space are escaped by whoever writes JSON.
    safe = re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", line).replace("##[", "\\u0023#[")
    if not _write(safe + "\n"):
        raise typer.Exit


def shown(text: str) -> str:
    """Take out of a text what a terminal acts on, and what the log of a GitHub job takes for a command."""
    return COMMAND.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", clean(text))


def tell(line: str) -> None:
    """Print a line on standard error, as it stands; whether anyone reads it changes no result."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _write(text: str) -> bool:
    """Write to standard output; tell whether anyone reads it.

    Raises:
        StepError: it can't be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
        return True
    except OSError as error:
        # The rest goes nowhere; where the reader has just gone, the exit code still tells.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return False
        raise StepError(f"standard output can't be written: {error.strerror or error}") from error


def complain(error: CompressitError) -> None:
    """Print an error a user can act on; a recipe's problems each say for themselves that they are errors."""
    told = "" if isinstance(error, RecipeProblems) else "error: "
    tell(f"{told}{shown(str(error))}")


def table(rows: Sequence[Sequence[str]], head: Sequence[str] | None = None, title: str | None = None) -> None:
    """Print a table; verdicts get their colour."""
    console = out()
    with console.capture() as drawn:
        console.print(grid(rows, head, title))
    _write(COMMAND.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", drawn.get()))


def grid(rows: Sequence[Sequence[str]], head: Sequence[str] | None = None, title: str | None = None) -> Table:
    """Build a table for a console."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "FAIL": "bold red", "can't tell": "yellow"}
    made = Table(
        box=box.SIMPLE_HEAD,
        show_header=head is not None,
        title=clean(title or "") or None,
        title_justify="left",
        pad_edge=False,
    )
    for name in head or [""] * len(rows[0]):
        made.add_column(Text(clean(name)), overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(cell), style=styles.get(cell, "")) for cell in row))
    return made


class _Lines:
    """Dated lines, for logs."""

    def say(self, text: str) -> None:
        """Print a line."""
        tell(f"{time.strftime('%H:%M:%S')} {shown(text)}")

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Print a line at each quarter, with the time that is left."""
        begun, done, told = time.monotonic(), 0, 0

        def advance(more: int) -> None:
            nonlocal done, told
            done += more
            quarter = 4 * done // max(total, 1)
            if quarter > told:
                told = quarter
                left = (time.monotonic() - begun) / done * (total - done)
                self.say(f"  {label}: {done:,} of {total:,}, {left:.0f} s left")

        yield advance

    def curve(self, label: str, at: int, values: Mapping[str, float]) -> None:
        """Show nothing: curves are for trackers."""


class _Bars:
    """Bars with the time left, for a terminal."""

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        out(stderr=True).print(f"• {clean(text)}", style="dim")

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Show a bar until the block ends."""
        with _rich() as bars:
            task = bars.add_task(label, total=total)
            yield lambda done: bars.advance(task, done)

    def curve(self, label: str, at: int, values: Mapping[str, float]) -> None:
        """Show nothing: curves are for trackers."""


def _rich() -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(*columns, console=out(stderr=True), transient=True)
