"""What this machine has: memory, arithmetic that its processor is fast at, and packages that are optional."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from compressit.errors import MissingExtra

PROJECTS = {"PIL": "pillow", "llama_cpp": "llama-cpp-python", "executorch.runtime": "executorch"}
"""What packages are installed by, where that isn't their name."""


def memory() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: str = "cpu") -> int:
    """Bytes of a device's memory, "cpu" or "cuda", that can be had now without swapping."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return memory() // 2


def peak(device: str = "cpu") -> int:
    """Bytes of a device's memory that this process had at most."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_disk(folder: Path) -> int:
    """Bytes that can be written to a folder's disk."""
    return shutil.disk_usage(folder).free


def spares(size: int, device: str = "cpu") -> bool:
    """Tell whether files of so many bytes may well be opened once more than is needed; in memory they may be larger."""
    return size <= free_memory(device) / 8


def give_back() -> None:
    """Return memory that was let go to the system: glibc keeps holes between tensors that stay."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    table = Path("/proc/cpuinfo")
    flags = table.read_text(encoding="utf-8").split() if table.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags


def need(packages: Mapping[str, str]) -> None:
    """Look for packages, and import none.

    Args:
        packages: The extra that brings each, by the name that it is imported by.

    Raises:
        MissingExtra: one is not installed.
    """
    for package, extra in packages.items():
        spec = find_spec(package) if find_spec(package.partition(".")[0]) else None
        # A folder that its library left here, such as ./wandb, is found, too, but is no module.
        if spec is None or spec.origin is None:
            raise MissingExtra(PROJECTS.get(package, package.replace("_", "-")), extra)
