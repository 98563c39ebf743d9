"""How long work says how far it is; the command line decides how that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from logging import ERROR, getLogger
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """What a step may tell the person who waits."""

    def say(self, text: str) -> None:
        """Tell that a new piece of work has begun."""

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Open a bar of `total` units; call what it gives with the units done since the last call."""

    def curve(self, label: str, at: int, values: Mapping[str, float]) -> None:
        """Tell figures of the work under this label, such as a loss, after so many of its updates."""


class Silent:
    """Tell nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Drop the bar."""
        yield lambda done: None

    def curve(self, label: str, at: int, values: Mapping[str, float]) -> None:
        """Drop the figures."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own bars and notices off the terminal; errors still pass."""
    import datasets
    import huggingface_hub
    import transformers
    from transformers.utils import logging

    before = logging.get_verbosity()
    bars = datasets.is_progress_bar_enabled()
    logging.set_verbosity_error()
    # torchao, which transformers imports wherever it is installed.
    chatty = {logger: logger.level for logger in map(getLogger, ("torchao", "torch.utils._pytree"))}
    for logger in chatty:
        logger.setLevel(ERROR)
    huggingface_hub.utils.logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    told = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in chatty.items():
            logger.setLevel(level)
        datasets.utils.logging.set_verbosity(told)
        transformers.logging.set_verbosity(before)
        logging.enable_progress_bar()
        if bars:
            datasets.enable_progress_bars()
