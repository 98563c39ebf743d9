"""Where a model comes from: a local folder, the hub or its cache; and what is refused there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from compressit import intake
from compressit.errors import CompressitError, RetryableError, StepError, UnsafeError

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What is fetched from the hub; code only where the user trusts it."""


def fetch(path: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """Give the local folder of a model: the folder itself, or a hub snapshot, downloaded where it must be.

    Raises:
        UnsafeError: the weights come as pickle only, or the folder is not what `check_safe` lets pass.
        IntegrityError: a file of its weights is missing, cut short, or not what the index says.
        RetryableError: the hub is out of reach and its cache does not hold the model, or only a part of it.
    """
    folder = Path(path)
    if folder.is_dir():
        check_safe(folder, trust_remote_code=trust_remote_code)
        return folder
    folder = _snapshot(path, revision, trust_remote_code)
    if lacking := intake.lacking(folder):
        raise RetryableError(
            f"{folder} holds {path} only in part: {lacking} is missing",
            hint="run the same command again where the hub can be reached; pickled weights alone are not opened",
        )
    check_safe(folder, trust_remote_code=trust_remote_code)
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
    return None if intake.lacking(folder) else folder


def check_safe(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Look at what a folder holds before a library opens it; see `compressit.intake`.

    Raises:
        UnsafeError: it would run or fetch code, or `check_held` says so.
        IntegrityError: see `check_held`.
    """
    check_held(folder)
    if folder.is_dir() and not trust_remote_code:
        intake.check_code(folder)


def check_held(folder: Path) -> None:
    """Look at a folder's files and figures, which is enough where nothing opens it: what code it asks for is not told.

    Raises:
        UnsafeError: it leads out of the folder, holds pickles only, or says what could only exhaust the machine.
        IntegrityError: a file of its weights is missing, cut short, or not what the index says.
    """
    if not folder.is_dir():
        return
    intake.check_places(folder)
    heads = intake.check_shards(folder)
    if (folder / "config.json").is_file():
        intake.check_counts(folder, heads.values())


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
    except CompressitError:
        raise
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        if "trust_remote_code" in str(error):
            hint = "read that code, then pass --trust-remote-code"
            raise UnsafeError(f"{folder} needs code of its own to be opened", hint=hint) from error
        shapes = "ignore_mismatched_sizes" in str(error)
        what = "its weights have other shapes than its config.json says" if shapes else line(error)
        hint = "see whether transformers opens it by itself: AutoModel.from_pretrained(...)"
        raise StepError(f"{folder} can't be opened: {what}", hint=hint) from error


def line(error: Exception) -> str:
    """Put an error on one line."""
    return " ".join(str(error).split())[:400]
