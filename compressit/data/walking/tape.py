"""What the function calls of a pass gave, so that a pass can go on where it was stopped.

To go on from a call, a pass is begun anew, but every call before that one is answered from the tape instead of being
made. Of the tensors they gave only those are kept that a call from there on takes; the trace of a whole pass tells
which. So a pass that waits holds what flows across the point where it stopped, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Lost(Exception):
    """Raised inside a pass that goes on and does otherwise than the traced one: it has to begin anew."""


@dataclass(frozen=True)
class Trace:
    """A whole pass.

    Attributes:
        functions: What was called, in order.
        last: By call, the last call that takes its output.
        last_of_inputs: The last call that takes the hidden states; -1 for none.
    """

    functions: Sequence[Any]
    last: Sequence[int]
    last_of_inputs: int

    def across(self, stop: int) -> frozenset[int]:
        """Find the calls before one whose outputs are needed from there on."""
        return frozenset(call for call in range(stop) if self.last[call] >= stop)


class Tracing:
    """Notes who takes what; holds no tensor."""

    def __init__(self, hidden: torch.Tensor) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        self.functions: list[Any] = []
        self.last: list[int] = []
        self.last_of_inputs = -1
        # One tensor may be given by several calls: those that have nothing to do give what they got.
        self._makers = WeakTensorKeyDictionary()
        self._makers[hidden] = (-1,)

    def answer(self, function: Any, given: Any) -> tuple[bool, Any]:
        """Have every call made."""
        return False, None

    def note(self, function: Any, given: Any, output: Any) -> None:
        """Take down a call."""
        call = len(self.functions)
        for tensor in tensors(given):
            for maker in self._makers.get(tensor, ()):
                if maker < 0:
                    self.last_of_inputs = call
                else:
                    self.last[maker] = call
        for tensor in tensors(output):
            self._makers[tensor] = (*self._makers.get(tensor, ()), call)
        self.functions.append(function)
        self.last.append(call)

    def trace(self) -> Trace:
        """Give what was noted."""
        return Trace(self.functions, self.last, self.last_of_inputs)


class Tape:
    """Answers calls from an earlier pass, and keeps what one that goes on from `stop` will need."""

    def __init__(self, trace: Trace, past: Sequence[Any], stop: int, hole: torch.Tensor) -> None:
        """Start at the first call.

        Args:
            trace: Of a pass like this one.
            past: What the first calls gave, with `hole` for a tensor that isn't needed any more.
            stop: The call before which this pass is to be stopped; 0 to keep nothing.
            hole: Stands for a tensor that was let go.
        """
        self.kept: list[Any] = []
        self._trace, self._past, self._stop, self._hole = trace, past, stop, hole
        self._across = trace.across(stop)
        self._calls = 0

    def answer(self, function: Any, given: Any) -> tuple[bool, Any]:
        """Give whether a call has been made already, and what it gave.

        Raises:
            Lost: it is another than the one made then, or takes what was let go.
        """
        if self._calls < len(self._past):
            if self._trace.functions[self._calls] != function:
                raise Lost
            output = self._past[self._calls]
            self._keep(output)
            return True, output
        if self._past and any(tensor is self._hole for tensor in tensors(given)):
            raise Lost
        return False, None

    def note(self, function: Any, given: Any, output: Any) -> None:
        """Take down a call that was made."""
        if self._calls < self._stop and self._trace.functions[self._calls] != function:
            self._stop = 0
        self._keep(output)

    def stopped(self) -> bool:
        """Tell whether the pass is where it was to be stopped."""
        return bool(self._stop) and self._calls == self._stop

    def _keep(self, output: Any) -> None:
        if self._calls < self._stop:
            self.kept.append(output if self._calls in self._across else mapped(output, lambda gone: self._hole))
        self._calls += 1


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Find the tensors of nested arguments."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each)


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Change the tensors of nested outputs; tuples of a type of their own stay as they are."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(each, change) for each in value)
    return value
