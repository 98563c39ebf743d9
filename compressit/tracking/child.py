"""The process that holds one tracker: a run on standard input, a line an event; what became of it in answer.json."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressit import trackers
from compressit.trackers import Opening, Sink


def main(scratch: Path) -> None:
    """Follow the run on standard input until it ends."""
    warnings.simplefilter("ignore")
    # An interrupt is for the run, which then says here how it ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = (json.loads(line) for line in sys.stdin)
    job = next(events)
    try:
        sink: Sink = trackers.load(job["tracker"]).open(Opening(job["name"], Path(job["folder"]), job["parameters"]))
        answer = {"place": sink.place}
        follow(sink, events, scratch)
    except Exception as error:  # a service's client raises many kinds
        answer = {"error": f"{type(error).__name__}: {error}"}
    half = scratch / "half.json"
    half.write_text(json.dumps(answer), encoding="utf-8")
    half.rename(scratch / "answer.json")
    # What a client still does at the end of a process, such as another try, is not waited for.
    os._exit(0)


def follow(sink: Sink, events: Iterator[Any], scratch: Path) -> None:
    """Hand each event on; a run that ends without a word has failed."""
    succeeded = False
    for kind, *content in events:
        if kind == "scalars":
            sink.scalars(*content)
        elif kind == "report":
            figures, facts, texts = content
            for name, text in texts.items():
                (scratch / name).write_text(text, encoding="utf-8")
            sink.report(figures, facts, {name: scratch / name for name in texts})
        else:
            (succeeded,) = content
    sink.close(succeeded)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
