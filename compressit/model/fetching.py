"""Where a model comes from: a local folder, the hub or its cache; and what is refused there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from compressit.errors import RetryableError, StepError, UnsafeError

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What is fetched from the hub; code only where the user trusts it."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def fetch(path: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """Give the local folder of a model: the folder itself, or a hub snapshot, downloaded where it must be.

    Raises:
        UnsafeError: the weights come as pickle only.
        RetryableError: the hub is out of reach and its cache does not hold the model.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision, trust_remote_code)
    check_safe(folder)
    return folder


def here(path: str, revision: str | None = None) -> Path | None:
    """Find a model's folder without asking the hub: the folder itself or what its cache holds; None without either."""
    if Path(path).is_dir():
        return Path(path)
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(path, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def check_safe(folder: Path) -> None:
    """Refuse a folder that holds pickled weights only."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        raise UnsafeError(
            f"{folder} holds pickled weights only, which can run code when they are opened",
            hint="where you trust them, write them as safetensors: AutoModel.from_pretrained(...).save_pretrained(...)",
        )


def _snapshot(path: str, revision: str | None, trust_remote_code: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    wanted = [*FILES, "*.py"] if trust_remote_code else FILES
    try:
        return Path(huggingface_hub.snapshot_download(path, revision=revision, allow_patterns=wanted))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise StepError(f"{path} is neither a local folder nor a model on the hub: {line(error)}") from error
    except (OSError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        raise RetryableError(
            f"{path} is not a local folder, is not in the hub's cache, and the hub can't be reached",
            hint="check the path, or the network and HF_HUB_OFFLINE, then run the same command again",
        ) from error


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn whatever a library raises while a folder is opened into an error with its place."""
    try:
        yield
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        if "trust_remote_code" in str(error):
            hint = "read that code, then pass --trust-remote-code"
            raise UnsafeError(f"{folder} needs code of its own to be opened", hint=hint) from error
        shapes = "ignore_mismatched_sizes" in str(error)
        what = "its weights have other shapes than its config.json says" if shapes else line(error)
        raise StepError(f"{folder} can't be opened: {what}") from error


def line(error: Exception) -> str:
    """Put an error on one line."""
    return " ".join(str(error).split())[:400]
