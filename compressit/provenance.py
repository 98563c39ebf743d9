"""Which versions, machine, device and model stand behind a result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from compressit import machine
from compressit.errors import RecipeError

LIBRARIES = (
    "compressit", "torch", "transformers", "datasets", "accelerate", "safetensors", "tokenizers", "numpy",
    "scikit-learn", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf", "compressed-tensors", "evaluate",
    "peft", "gguf", "llama-cpp-python", "executorch", "torchao",
)  # fmt: skip


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Give the versions of Python and of those of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, str | int]:
    """Describe the machine."""
    found: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": os.cpu_count() or 1,
    }
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def device(wanted: str) -> str:
    """Choose the device: `auto` is the GPU where there is one; of several, CUDA_VISIBLE_DEVICES says which."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {wanted}: expected auto, cpu or cuda")
    import torch

    gpu = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if gpu else "cpu"
    if wanted == "cuda" and not gpu:
        raise RecipeError("--device cuda: torch sees no GPU here", hint="use --device cpu, or install torch for CUDA")
    return wanted


def device_class(device: str) -> str:
    """Name what else of a kind may compute the very same: a GPU's model, or a processor's way with bfloat16."""
    if device.startswith("cuda"):
        import torch

        return f"cuda {torch.cuda.get_device_name(device)}"
    return "cpu with bfloat16" if machine.has_bfloat16() else "cpu"


def model(source: str, folder: Path, content: str) -> dict[str, str]:
    """Identify the original: where it came from, its revision where it has one, and the SHA-256 of its content."""
    found = {"source": source, "sha256": content}
    if folder.parent.name == "snapshots":
        found["revision"] = folder.name
    return found


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
