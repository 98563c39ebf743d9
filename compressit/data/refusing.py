"""Say why a data set can't be opened, and whether trying again may help."""

from __future__ import annotations

from compressit.errors import CompressitError, DataError, RetryableError

OUT_OF_REACH = ("offline", "connect", "couldn't reach", "resolve")
"""Words of those who could not reach the hub."""


def refusal(path: str, error: BaseException, *, local: bool = False) -> CompressitError:
    """Make an error of ours of one that a library raised while it opened what the recipe calls `path`."""
    text = first(error)
    away = not local and any(word in text.lower() for word in OUT_OF_REACH)
    if not isinstance(error, ConnectionError) and not away:
        return DataError(f"{path} can't be read: {text}")
    return RetryableError(
        f"{path} is not a local file or folder, is not in the hub's cache, and the hub can't be reached",
        hint="check the path, or the network and HF_HUB_OFFLINE, then run the same command again",
    )


def first(error: BaseException) -> str:
    """Give the words of what was first to go wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())[:300]
    return "it holds no rows" if not text or "corresponds to no data" in text else text
