"""Forward passes through one block, batch by batch, each of which can be stopped and gone on with later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressit.data.walking.activations import apart
from compressit.data.walking.tape import Lost, Tape, Trace, Tracing, mapped, tensors
from compressit.data.walking.watch import Key, Stopped, watching
from compressit.errors import StepError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compressit.data.walking.activations import Activations
    from compressit.data.walking.capture import Call

See = Callable[[Key, "torch.Tensor"], None]


def _hole() -> torch.Tensor:
    import torch

    return torch.empty(0)


@dataclass(frozen=True)
class Waiting:
    """What a pass that was stopped has kept: what its calls gave, and how many bytes that is."""

    outputs: Sequence[Any] = ()
    bytes: int = 0


@dataclass
class Runs:
    """The passes of one block.

    Attributes:
        block: It has its weights.
        flow: What flows in, by batch.
        calls: How the block is called, by batch.
        known: Where the weights of its products lie.
        device: Where it is computed.
        room: Bytes that passes which wait may hold; where they would hold more, one begins anew instead.
        waiting: What the passes that wait have kept, by batch.
        trace: Of the first batch; empty until then.
        hole: Stands for tensors that no pass needs any more.
    """

    block: nn.Module
    flow: Activations
    calls: Sequence[Call]
    known: dict[int, Key]
    device: str
    room: int
    waiting: dict[int, Waiting] = field(default_factory=dict)
    trace: Trace = field(default_factory=lambda: Trace((), (), -1))
    hole: torch.Tensor = field(default_factory=_hole)

    def learn(self, see: Callable[[Key, torch.Tensor, int], None]) -> None:
        """Run the first batch to its end, to learn which call needs what; `see` is told of products and their calls."""
        hidden = self.flow.get(0).to(self.device)
        calls = Tracing(hidden)
        with watching(self.known, lambda key, inputs: see(key, inputs, len(calls.functions)), calls):
            self.calls[0].run(self.block, hidden)
        self.trace = calls.trace()

    def go(self, batch: int, see: See, stop: int = 0) -> torch.Tensor | None:
        """Run a batch on from where it waits, or from its start.

        Args:
            batch: Which.
            see: Told of every product on the way; what was run before isn't run again. It raises `Stopped` to stop.
            stop: The call before which it will stop and may wait; 0 where what was run by then can't be used again.

        Returns:
            The hidden states that come out; None where it was stopped.
        """
        told: Counter[Key] = Counter()

        def tell(key: Key, inputs: torch.Tensor) -> None:
            told[key] += 1
            see(key, inputs)

        def tell_once(key: Key, inputs: torch.Tensor) -> None:
            told[key] -= 1
            if told[key] < 0:
                see(key, inputs)

        try:
            return self._go(batch, tell, stop)
        except Lost:
            self.waiting.pop(batch)
            if batch not in self.flow:
                raise StepError(
                    "a block computes some samples otherwise than the first", hint="set `sequential: false`"
                ) from None
            return self._go(batch, tell_once, stop)

    def given(self, batch: int, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Run a batch, which no waiting pass has let go of, through the block with other tensors in place of its own.

        Args:
            batch: Which.
            tensors: By their names within the block; gradients reach those that ask for them.

        Returns:
            The hidden states that come out.
        """
        from torch.func import functional_call

        def block(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.block, dict(tensors), args, kwargs)

        return self.calls[batch].run(block, self.flow.get(batch).to(self.device))

    def finish(self) -> None:
        """Run every batch to its end; what comes out flows on."""
        for batch in range(len(self.calls)):
            output = self.go(batch, lambda key, inputs: None)
            assert output is not None, "nothing stopped it"
            self.flow.put(batch, output)
            self.waiting.pop(batch, None)

    def _go(self, batch: int, see: See, stop: int) -> torch.Tensor | None:
        hidden = self.flow.get(batch).to(self.device) if batch in self.flow else self.hole
        before = self.waiting.get(batch, Waiting())
        tape = Tape(self.trace, before.outputs, stop, self.hole)
        try:
            with watching(self.known, see, tape):
                return self.calls[batch].run(self.block, hidden)
        except Stopped:
            if tape.stopped():
                size = _bytes(tape.kept)
                if sum(each.bytes for each in self.waiting.values()) - before.bytes + size <= self.room:
                    self.waiting[batch] = Waiting(_apart(tape.kept), size)
                    if self.trace.last_of_inputs < stop:
                        self.flow.forget(batch)
            return None


def _bytes(kept: Sequence[Any]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors(list(kept))}
    return sum(storage.nbytes() for storage in storages.values())


def _apart(kept: Sequence[Any]) -> Sequence[Any]:
    """Give tensors memory of their own, unless some share theirs: what is written into one may be read in another."""
    found = {id(tensor): tensor for tensor in tensors(list(kept))}
    if len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) < len(found):
        return kept
    moved = {key: apart(tensor) for key, tensor in found.items()}
    return [mapped(output, lambda tensor: moved.get(id(tensor), tensor)) for output in kept]
