"""The processes that torchrun or accelerate started together: the first does the run, the others join where it asks.

They talk through the launcher's store of keys, where one may wait for hours; a collective would time out. Whoever ends
first says there with which exit code, and why, and all end with it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError, ExitCode, RetryableError, StepError

if TYPE_CHECKING:
    import torch

CONTRACT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which a launcher tells a process of the others."""
LAUNCHERS = ("ACCELERATE_", "TORCHELASTIC_", "LOCAL_WORLD_SIZE", *CONTRACT)
PAUSE = 0.1
"""Seconds between two looks at the store; no signal is missed for longer."""
PATIENCE = datetime.timedelta(days=1)
"""How long one process waits for others inside a training, where a launcher tells who has died."""
PARTING = 10.0
"""Seconds that a process gives the others to end by themselves before the launcher ends them."""
END, PARTED, JOBS = "end", "parted", "jobs"


def count() -> int:
    """Count the processes that were started together; 1 for one of its own."""
    return int(os.environ["WORLD_SIZE"]) if all(os.environ.get(name) for name in CONTRACT) else 1


def leads() -> bool:
    """Tell whether this process does the run: the only one, or the first of several."""
    return number() == 0


def number() -> int:
    """Give the number of this process among those that were started together; the first is 0."""
    return 0 if count() == 1 else int(os.environ["RANK"])


def left_alone() -> bool:
    """Tell whether accelerate was asked for several processes and started one, as it does without `--multi_gpu`."""
    asked = {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys()
    return asked and not any(name in os.environ for name in ("RANK", "WORLD_SIZE"))


def connected() -> Ranks | None:
    """Find the other processes; None where there are none.

    Raises:
        RetryableError: they are out of reach.
    """
    if count() == 1:
        return None
    import torch.distributed as dist

    place, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = leads() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    try:
        store = dist.TCPStore(place, port, is_master=hosts, wait_for_workers=False, multi_tenant=True)
    except RuntimeError as error:
        raise RetryableError(f"the first process is out of reach at {place}:{port}: {_line(error)}") from error
    # A launcher that starts all of them once more keeps its store.
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Ranks(int(os.environ["RANK"]), count(), dist.PrefixStore(f"compressit-{again}", store))


def own(device: str) -> str:
    """Give this process's own device of a kind, and have torch use it.

    Raises:
        StepError: there is none.
    """
    if not device.startswith("cuda"):
        return device
    import torch

    if not torch.cuda.is_available():
        raise StepError("torch sees no GPU on this machine", hint="start as many processes as there are GPUs")
    number = int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()
    torch.cuda.set_device(number)
    return f"cuda:{number}"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hide the launcher's variables from libraries that would wait for the others, who have not been asked to join."""
    hidden = {name: os.environ[name] for name in os.environ if count() > 1 and name.startswith(LAUNCHERS)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def agreed(value: Any, processes: int) -> Any:
    """Give what the first of so many processes in a group says."""
    if processes == 1:
        return value
    import torch.distributed as dist

    said = [value]
    dist.broadcast_object_list(said)
    return said[0]


def dealt(values: Sequence[Any], processes: int) -> list[Any]:
    """Deal values out to so many processes in a group; give this one's."""
    import torch.distributed as dist

    return list(values) if processes == 1 else list(values[dist.get_rank() :: processes])


def added(values: torch.Tensor, processes: int) -> torch.Tensor:
    """Add up what each of so many processes in a group has, in place."""
    if processes > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def largest(values: torch.Tensor, processes: int) -> torch.Tensor:
    """Take the largest of what each of so many processes in a group has, in place."""
    if processes > 1:
        import torch.distributed as dist

        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def gathered(found: dict[Any, Any], processes: int) -> dict[Any, Any]:
    """Put together what each of so many processes in a group has found."""
    if processes == 1:
        return found
    import torch.distributed as dist

    parts: list[dict[Any, Any]] = [{} for _ in range(processes)]
    dist.all_gather_object(parts, found)
    return {name: value for part in parts for name, value in part.items()}


@dataclass(frozen=True)
class Ranks:
    """One of several processes, and the way to the others.

    Attributes:
        rank: Its number; the first, 0, does the run.
        count: How many there are.
        store: Where they leave word.
    """

    rank: int
    count: int
    store: Any

    def ask(self, work: Any) -> int:
        """Have the others join in a piece of work; give the number under which they will."""
        number = int(self.store.add(JOBS, 1))
        self.store.set(f"{JOBS}-{number}", pickle.dumps(work))
        return number

    def asked(self) -> Iterator[tuple[int, Any]]:
        """Wait for work until the first process ends; give each piece with its number.

        Raises:
            RetryableError: the first process is gone without a word.
        """
        number = 1
        try:
            while not self.store.check([END]):
                if self.store.check([f"{JOBS}-{number}"]):
                    # The launcher's own store: whoever can write there is one of us, as torch's own collectives hold,
                    # which exchange objects in the same way.
                    yield number, pickle.loads(self.store.get(f"{JOBS}-{number}"))
                    number += 1
                time.sleep(PAUSE)
        except RuntimeError as error:
            raise RetryableError(f"the first process is gone: {_line(error)}") from error

    @contextlib.contextmanager
    def together(self, number: int, device: str) -> Iterator[None]:
        """Form the group in which a numbered piece of work is done; an error of one of them ends it for all.

        Args:
            number: As `ask` gave it.
            device: Of the model: "cpu", or "cuda" with or without a number.

        Raises:
            CompressitError: of the kind that another process met; it says which process.
            RetryableError: another process is gone without a word.
        """
        import torch.distributed as dist

        gpu, whole = device.startswith("cuda"), False
        store = dist.PrefixStore(f"group-{number}", self.store)
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.count, timeout=PATIENCE)
        try:
            yield
            whole = True
        except BaseException as error:
            first = self._first(error)
            if first is error:
                raise
            raise first from error
        finally:
            # Who waits in a collective of gloo's notices that it ends; one of NCCL's could keep us waiting, too.
            if whole or not gpu:
                dist.destroy_process_group()

    def end(self, code: int) -> tuple[int, bool]:
        """Part from the others: give the exit code of all, of whoever ended first, and whether all have parted."""
        # The launcher ends the others once one has failed; they are about to end by themselves, with the same code.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            code = int(self._agreed(End(self.rank, int(code))).code)
            self.store.add(PARTED, 1)
            until = time.monotonic() + PARTING
            while int(self.store.add(PARTED, 0)) < self.count and time.monotonic() < until:
                time.sleep(PAUSE)
            return code, int(self.store.add(PARTED, 0)) == self.count
        except RuntimeError:
            # The store is gone with the process or the launcher that had it.
            return code, False

    def _first(self, error: BaseException) -> BaseException:
        """Leave word of an error; give that of another process in its place, where that was first."""
        error = _explained(error)
        mine = End(self.rank, _exit_code(error), *_words(error))
        try:
            first = self._agreed(mine)
        except RuntimeError:
            return error
        # An interrupt reaches all of them.
        if first == mine or (first.code == mine.code and not isinstance(error, Exception)):
            return error
        found = CompressitError(f"process {first.rank} of {self.count}: {first.said}", hint=first.hint)
        found.exit_code = ExitCode(first.code)
        return found

    def _agreed(self, mine: End) -> End:
        """Have the first word stand."""
        return End(*json.loads(self.store.compare_set(END, "", json.dumps(astuple(mine)))))


@dataclass(frozen=True)
class End:
    """Who ended first, with which exit code, and why where that was an error."""

    rank: int
    code: int
    said: str = "it ended"
    hint: str | None = None


def _explained(error: BaseException) -> BaseException:
    """Say what it means that a collective broke off."""
    import torch.distributed as dist

    if not isinstance(error, dist.DistError) and not (isinstance(error, RuntimeError) and "/gloo/" in str(error)):
        return error
    hint = "the launcher says which; run the same command again to go on from what is kept"
    return RetryableError(f"another process of this run is gone: {_line(error)}", hint=hint)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, CompressitError):
        return int(error.exit_code)
    if isinstance(error, SystemExit):
        return int(error.code or 0)
    return int(ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.BUG)


def _words(error: BaseException) -> tuple[str, str | None]:
    if isinstance(error, CompressitError):
        return f"{error.message} (on {socket.gethostname()})", error.hint
    return f"{type(error).__name__}: {_line(error)} (on {socket.gethostname()})", None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]
