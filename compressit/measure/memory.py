"""How much memory a piece of work adds to this process, at its peak."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import TracebackType


class Peak:
    """Measure the peak over the start: resident memory, or on a GPU what torch allocated there.

    On Linux the kernel's own high-water mark is reset and read; elsewhere the mark of the whole process is used.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> Peak:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        clear = Path("/proc/self/clear_refs")
        if clear.exists():
            clear.write_text("5", encoding="ascii")
        self.start = _status("VmRSS") or _mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.startswith("cuda"):
            import torch

            self.bytes = max(0, torch.cuda.max_memory_allocated() - self.start)
            return
        self.bytes = max(0, (_status("VmHWM") or _mark()) - self.start)


def _status(field: str) -> int:
    file = Path("/proc/self/status")
    if not file.exists():
        return 0
    for line in file.read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _mark() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
