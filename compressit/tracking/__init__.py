"""A run, followed by trackers, each in a process of its own: whatever becomes of one, the run ends the same.

Nothing waits for a tracker while the run works. At the end those that are left get some seconds together; one that has
failed by then, or doesn't answer, is a single warning.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from compressit import trackers
from compressit.errors import CompressitError, RecipeError
from compressit.progress import Advance, Progress
from compressit.recipe import Recipe
from compressit.report import Report
from compressit.store import Remote
from compressit.tracking import content

CHILD = "compressit.tracking.child"
PATIENCE = 30.0
"""Seconds that trackers get at the end for what they haven't sent yet."""
IN_A_HURRY = 3.0
"""The same for a run that was interrupted."""
DOCUMENTS = ("report.html", "report.md")
TOLD = 240
"""Characters of an error that a warning shows."""


@contextmanager
def follow(
    names: Sequence[str], recipe: Recipe, folder: Path | Remote, progress: Progress, patience: float = PATIENCE
) -> Iterator[Followed]:
    """Have trackers follow what is done in the block.

    Args:
        names: Of the trackers.
        recipe: Sent as the run's parameters.
        folder: Of the result.
        progress: What the user sees; told of a tracker's outage, once.
        patience: Seconds that trackers get at the end.

    Raises:
        RecipeError: there is no such tracker.
        MissingExtra: its library is not installed.
    """
    for name in names:
        check(name)
    with tempfile.TemporaryDirectory(prefix="compressit-", ignore_cleanup_errors=True) as scratch:
        here = folder if isinstance(folder, Path) else Path("runs") / recipe.name
        about = {"name": recipe.name, "folder": str(here.resolve()), "parameters": content.parameters(recipe)}
        sinks = [_Tracker(name, about, Path(scratch) / name) for name in dict.fromkeys(names)]
        followed = Followed(sinks, folder, progress)
        try:
            yield followed
        except Exception:
            followed.close(succeeded=False, patience=patience)
            raise
        except BaseException:
            followed.close(succeeded=False, patience=min(patience, IN_A_HURRY))
            raise
        followed.close(succeeded=True, patience=patience)


def check(name: str) -> None:
    """Raise RecipeError where there is no such tracker, and MissingExtra where its library isn't installed."""
    try:
        module = trackers.load(name)
    except LookupError as error:
        raise RecipeError(f"--track: {error.args[0]}") from None
    module.ready()


class Followed:
    """The progress of a run, which its trackers are told of, too.

    Attributes:
        lost: Trackers that failed, by name, and why.
    """

    def __init__(self, sinks: Sequence[_Tracker], folder: Path | Remote, progress: Progress) -> None:
        self.lost: dict[str, str] = {}
        self._left = list(sinks)
        self._folder = folder
        self._progress = progress

    def say(self, text: str) -> None:
        """Tell that a new piece of work has begun."""
        self._look()
        self._progress.say(text)

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Open a bar."""
        return self._progress.bar(label, total)

    def curve(self, label: str, at: int, values: Mapping[str, float]) -> None:
        """Add a point to curves of the work that has this label."""
        self._progress.curve(label, at, values)
        self._tell("scalars", {f"{label}/{name}": each for name, each in values.items() if math.isfinite(each)}, at)
        self._look()

    def report(self, report: Report, texts: Mapping[str, str] | None = None) -> None:
        """Send the end result.

        Args:
            report: As it is kept.
            texts: report.html and report.md (default: as they lie in the result's folder).
        """
        if not self._left:
            return
        if texts is None:
            texts = self._documents()
        for number, values in content.stages(report):
            self._tell("scalars", values, number)
        self._tell("report", content.figures(report), content.facts(report), {name: texts[name] for name in DOCUMENTS})

    def _documents(self) -> dict[str, str]:
        if isinstance(self._folder, Path):
            return {name: (self._folder / name).read_text(encoding="utf-8") for name in DOCUMENTS}
        try:
            return {name: self._folder.read(name).decode() for name in DOCUMENTS}
        except CompressitError as error:
            # The result is there; no exit code is to say that it isn't.
            self._progress.say(f"warning: trackers get no documents: {error.message}")
            return dict.fromkeys(DOCUMENTS, "")

    def close(self, *, succeeded: bool, patience: float) -> None:
        """End the run at every tracker, and say where it is found or what went wrong."""
        self._look()
        self._tell("close", succeeded)
        deadline = time.monotonic() + patience
        for sink in self._left:
            sink.end()
        for sink in self._left:
            answer = sink.answer(deadline)
            if "place" in answer:
                self._progress.say(f"followed by {sink.name}: {content.without_secrets(answer['place'])}")
            else:
                self._lose(sink, answer.get("error", f"no answer within {patience:.0f} s"))
        self._left = []

    def _tell(self, *event: Any) -> None:
        if self._left:
            line = json.dumps(content.without_secrets(event))
            for sink in self._left:
                sink.tell(line)

    def _look(self) -> None:
        """Notice trackers that have ended before the run."""
        for sink in [sink for sink in self._left if sink.ended]:
            self._left.remove(sink)
            self._lose(sink, sink.answer(time.monotonic()).get("error", "it ended before the run"))

    def _lose(self, sink: _Tracker, why: str) -> None:
        short = " ".join(content.without_secrets(why).split())
        # What it is about comes first, and its cause last.
        self.lost[sink.name] = short if len(short) <= TOLD else f"{short[: TOLD // 2]} ... {short[-TOLD // 2 :]}"
        later = f" (`compressit report {self._folder} --track {sink.name}` sends the report of a finished run)"
        self._progress.say(
            f"warning: not followed by {sink.name} any more: {self.lost[sink.name]}"
            + (later if isinstance(self._folder, Path) else "")
        )


class _Tracker:
    """A tracker's process, and the thread that tells it, for its pipe may be full."""

    def __init__(self, name: str, about: Mapping[str, Any], scratch: Path) -> None:
        self.name = name
        self._scratch = scratch
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        threading.Thread(target=self._write, daemon=True).start()
        self.tell(json.dumps(content.without_secrets({"tracker": name, **about})))

    @property
    def ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._process.poll() is not None

    def tell(self, line: str) -> None:
        """Have a line written some time."""
        self._lines.put(line)

    def end(self) -> None:
        """Have nothing else written."""
        self._lines.put(None)

    def answer(self, deadline: float) -> dict[str, str]:
        """Wait for what the process has to say; it says nothing when it hangs, and then it is killed."""
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return {}
        finally:
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        file = self._scratch / "answer.json"
        if not file.is_file():
            return {"error": f"its process ended with exit code {code}"}
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None, "it was asked for"
        # A process that is gone has left word why.
        with suppress(OSError), pipe:
            while (line := self._lines.get()) is not None:
                pipe.write(f"{line}\n")
                pipe.flush()
