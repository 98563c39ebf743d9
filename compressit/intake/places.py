"""Where the files of a model folder lie, and that there are weights to open without running what is in them."""

from __future__ import annotations

from pathlib import Path

from compressit.errors import UnsafeError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
MAX_JSON = {"tokenizer.json": 256_000_000, "vocab.json": 256_000_000}
"""Bytes of the files that hold vocabularies."""
OTHER_JSON = 16_000_000


def check_places(folder: Path) -> None:
    """Refuse a folder whose files lie elsewhere, are too large to be what they are called, or are pickles only.

    The hub's cache is made of links to blobs that lie beside the snapshots; these are its own.

    Raises:
        UnsafeError: one of these.
    """
    inside = [folder.resolve()]
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parent.parent / "blobs")
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(_target(path).is_relative_to(place) for place in inside):
            raise UnsafeError(
                f"{path} is a symbolic link that leads out of the model's folder, to {_target(path)}",
                hint="where you trust it, put the file itself there",
            )
    for file in folder.glob("*.json"):
        most = MAX_JSON.get(file.name, OTHER_JSON)
        if file.is_file() and file.stat().st_size > most:
            raise UnsafeError(f"{file} has {file.stat().st_size:,} bytes; no model's is larger than {most:,}")
    if any(folder.glob("*.safetensors")):
        return
    # OpenVINO calls its weights .bin, too: plain numbers, which an .xml beside them describes.
    if any(not file.with_suffix(".xml").is_file() for pattern in PICKLES for file in folder.glob(pattern)):
        raise UnsafeError(
            f"{folder} holds pickled weights only, which can run code when they are opened",
            hint="where you trust them, write them as safetensors: AutoModel.from_pretrained(...).save_pretrained(...)",
        )


def _target(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # links that go round
        return Path("/")
