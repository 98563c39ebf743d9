"""The errors a user can meet, and the exit code each one ends with.

::

    CompressitError          1   a bug, unless a subclass says otherwise
    ├── RecipeError          2   the recipe or the command line is wrong
    ├── DataError            2   the data set and the recipe or the model disagree
    ├── StepError            5   a step, an export or a measurement failed, and would fail again
    │   └── MissingExtra     5   an optional dependency is not installed
    ├── IntegrityError       6   a file is not what its manifest or its report says, or two results don't compare
    ├── UnsafeError          7   refused: it would run a stranger's code or write where it must not
    └── RetryableError      75   try again later: the hub is out of reach, the output is in use, a scheduler warned

A message says what is wrong, where, and what to do next.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to a shell, a CI job or a batch."""

    OK = 0
    BUG = 1
    RECIPE = 2
    TARGET_MISSED = 3
    INCONCLUSIVE = 4
    FAILED = 5
    INTEGRITY = 6
    UNSAFE = 7
    RETRY = 75
    INTERRUPTED = 130
    TERMINATED = 143


MEANING = {
    ExitCode.OK: "Done; every target passed.",
    ExitCode.BUG: "A bug in compressit: please report it.",
    ExitCode.RECIPE: "The recipe, the data it names or the command line is wrong.",
    ExitCode.TARGET_MISSED: "A target was missed. The result is saved.",
    ExitCode.INCONCLUSIVE: "No target was missed, but at least one can't be decided. The result is saved.",
    ExitCode.FAILED: "A step, an export or a measurement failed, and would fail again.",
    ExitCode.INTEGRITY: "A saved file is not what its manifest says, or two results can't be compared.",
    ExitCode.UNSAFE: "Refused as unsafe.",
    ExitCode.RETRY: "Try again: the hub is out of reach, the output is in use, or a scheduler warned (SIGUSR1).",
    ExitCode.INTERRUPTED: "Interrupted (Ctrl-C).",
    ExitCode.TERMINATED: "Terminated (SIGTERM).",
}


class CompressitError(Exception):
    """Anything compressit says to a user instead of a traceback."""

    exit_code = ExitCode.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class RecipeError(CompressitError):
    """The recipe or the command line is wrong."""

    exit_code = ExitCode.RECIPE


class DataError(CompressitError):
    """The data set and the recipe or the model disagree."""

    exit_code = ExitCode.RECIPE


class StepError(CompressitError):
    """A step, an export or a measurement failed, and would fail again."""

    exit_code = ExitCode.FAILED


class MissingExtra(StepError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"pip install 'compressit[{extra}]'")


class IntegrityError(CompressitError):
    """A file is not what its manifest or its report says, or two results can't be compared."""

    exit_code = ExitCode.INTEGRITY


class UnsafeError(CompressitError):
    """Refused: it would run a stranger's code or write where it must not."""

    exit_code = ExitCode.UNSAFE


class RetryableError(CompressitError):
    """Try again later: the hub is out of reach, or the output is in use."""

    exit_code = ExitCode.RETRY
