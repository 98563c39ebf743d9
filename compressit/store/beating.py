"""Say again and again that a process is at it, while it is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beating(seconds: float, beat: Callable[[], None], *passing: type[Exception]) -> Iterator[None]:
    """Call `beat` each so many seconds, in a thread of its own, while the block lasts; some errors are passed over."""
    end = threading.Event()

    def run() -> None:
        while not end.wait(seconds):
            with contextlib.suppress(*passing):
                beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
