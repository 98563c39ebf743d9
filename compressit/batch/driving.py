"""Have the jobs of a batch done by an engine, to the end of the last; killed at any moment, the next one goes on."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compressit import engines, store
from compressit.batch import CANCELLED, Standing, State, Task, job, standing, tries
from compressit.batch.standing import Kind
from compressit.engines import Engine, Phase
from compressit.errors import CompressitError, ExitCode, IntegrityError, RecipeError, RetryableError
from compressit.jobs import LOG, Ended, Job, attempt
from compressit.store import owners

AGAIN = 5.0
"""Seconds before a second try at what may be over then; twice as long before each further one."""
GLANCES, GLANCE = 5, 0.02
"""How often a batch's lock is tried, and seconds between: who only looks whether it is held has it for a moment."""
LATE = 3.0
"""Seconds after which another machine's files are here, as a network file system shows them late."""
SILENT = 3.0 * attempt.BEAT
"""Seconds without a word after which whoever did a job that an engine has lost is held to be dead, too."""
OUTAGE = 600.0
"""Seconds for which an engine may be out of reach."""
LEAVING = 40.0
"""Seconds that jobs get to end when the batch does."""

Show = Callable[[Sequence[Standing]], None]


@dataclass(frozen=True)
class Manner:
    """How jobs are done.

    Attributes:
        on: The engine, as the user names it.
        flags: Arguments of `compressit apply`, for all jobs.
        overwrite: Replace what stands where a result goes.
        timeout: Seconds for one try at a job.
        retries: How often a job is tried again that died of something passing.
        failed_too: Try again, too, what an earlier batch saw fail for good.
    """

    on: str
    flags: tuple[str, ...] = ()
    overwrite: bool = False
    timeout: float | None = None
    retries: int = 2
    failed_too: bool = False


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second process from the same batch, as long as this one lives.

    Where a file system knows no locks, two may be at it; a try is begun once all the same.

    Raises:
        RetryableError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        for left in reversed(range(GLANCES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    hint = f"`compressit batch status {folder.name}` shows how far it is; --name begins another batch"
                    raise RetryableError(f"another process is at the batch {folder.name}", hint=hint) from None
                time.sleep(GLANCE)
            except OSError:
                break  # there are no locks here
        yield


def busy(folder: Path) -> bool:
    """Tell whether a process is at a batch."""
    try:
        with alone(folder):
            return False
    except RetryableError:
        return True


@dataclass
class _Work:
    """A job on its way.

    Attributes:
        current: Folder of the try that is to be submitted or is under way; None where the job is over.
        submission: What the engine calls it; None before it is submitted.
        retried: How often it was tried again.
        earliest: When it may be submitted.
        gone: When the engine was first heard not to have it any more, or whoever is at it last said so.
        heard: The time at which that was, by the clock of the storage.
        told: The engine was told to end it.
        lost: Processes that did it and are gone.
    """

    task: Task
    standing: Standing
    current: Path | None = None
    submission: str | None = None
    retried: int = 0
    earliest: float = 0.0
    gone: float | None = None
    heard: float = 0.0
    told: bool = False
    lost: list[str] = field(default_factory=list)


def drive(
    folder: Path, tasks: Sequence[Task], engine: Engine, manner: Manner, show: Show, say: Callable[[str], None]
) -> list[Standing]:
    """Do what isn't done yet.

    Args:
        folder: Of the batch.
        tasks: Its jobs.
        engine: Where they run.
        manner: How.
        show: Told how all jobs stand, again and again.
        say: Told what goes wrong.

    Raises:
        RetryableError: the engine was out of reach for too long.
        RecipeError: a job still runs on another engine.
    """
    works = [_taken_up(folder, task, manner) for task in tasks]
    outage: float | None = None
    try:
        while True:
            try:
                _look(folder, works, engine, manner, say)
                _submit(works, engine, manner)
                outage = None
            except RetryableError as error:
                if outage is None:
                    say(f"warning: {error.message}; trying again")
                    outage = time.monotonic()
                if time.monotonic() - outage > OUTAGE:
                    raise
            show([work.standing for work in works])
            if all(work.current is None for work in works):
                return [work.standing for work in works]
            time.sleep(engine.pause)
    except BaseException:
        if not engine.outlives:
            _leave(works, engine)
        raise


def prepare(folder: Path, tasks: Sequence[Task], manner: Manner) -> list[Path]:
    """Write down a try at each job that isn't done and that nobody is at; give their folders."""
    works = [_taken_up(folder, task, manner) for task in tasks]
    return [work.current for work in works if work.current is not None and work.submission is None]


def _taken_up(folder: Path, task: Task, manner: Manner) -> _Work:
    """Find out what an earlier batch has left of a job."""
    (job(folder, task.name) / CANCELLED).unlink(missing_ok=True)
    made = tries(folder, task)
    found = standing.result(task)
    if found.kind is Kind.OURS:
        return _Work(task, standing.done(task, found, made, before=True))
    if made:
        last, before = made[-1], _read(made[-1])
        ended, begun, submitted = attempt.ended(last), attempt.begun(last), attempt.submitted(last)
        given_up = begun is not None and begun.worker == attempt.NOBODY
        if ended is None and not given_up and (begun or submitted):
            where = submitted[0] if submitted else manner.on
            if engines.split(where)[0] != engines.split(manner.on)[0]:
                raise RecipeError(
                    f"{task.name} still runs on {where}, as far as is known here",
                    hint=f"say --on {where}, or end it with `compressit batch cancel {folder.name}`",
                )
            name = begun.submission if begun else submitted[1] if submitted else None
            return _Work(task, Standing(task, State.WAITING, len(made)), last, name)
        if ended is None and not given_up and before == _job(task, manner):
            return _Work(task, Standing(task, State.WAITING, len(made)), last)
        if ended is None:
            attempt.give_up(last)
        elif before is not None and _for_good(ended, before, manner) and not manner.failed_too:
            return _Work(task, standing.failed(task, ended, made))
    return _Work(task, Standing(task, State.WAITING, len(made)), _new(folder, task, manner, ()))


def _for_good(ended: Ended, before: Job, manner: Manner) -> bool:
    """Tell whether a job would fail again: nothing passing ended it, nobody, and no time limit that is another now."""
    if ended.timed_out:
        return before.timeout == manner.timeout
    return not (ended.passing or ended.finished or ended.code == ExitCode.INTERRUPTED)


def _read(folder: Path) -> Job | None:
    try:
        return attempt.read(folder)[0]
    except IntegrityError:  # killed while it was written down
        return None


def _job(task: Task, manner: Manner) -> Job:
    in_the_way = manner.overwrite and standing.result(task, deep=False).kind is not Kind.NOTHING
    flags = (*manner.flags, "--overwrite") if in_the_way else manner.flags
    output = store.place(store.address(task.output))
    return Job(task.recipe, task.sha256, output, flags, manner.timeout)


def _new(folder: Path, task: Task, manner: Manner, lost: Sequence[str]) -> Path:
    """Write down the next try at a job."""
    made = tries(folder, task)
    number = int(made[-1].name) + 1 if made else 1
    place = job(folder, task.name) / task.sha256[:16] / str(number)
    attempt.write(place, _job(task, manner), lost)
    return place


def _submit(works: Sequence[_Work], engine: Engine, manner: Manner) -> None:
    now = time.monotonic()
    ready = {work.current: work for work in works if work.current and not work.submission and work.earliest <= now}
    if not ready:
        return
    for place, name in engine.submit(list(ready)).items():
        attempt.submit(place, manner.on, name)
        ready[place].submission = name


def _look(folder: Path, works: Sequence[_Work], engine: Engine, manner: Manner, say: Callable[[str], None]) -> None:
    under_way = [work for work in works if work.current and work.submission]
    phases = engine.poll({work.submission for work in under_way if work.submission}) if under_way else {}
    for work in works:
        if work.current is None:
            continue
        cancelled = standing.cancelled(folder, work.task)
        if not work.submission:
            # One that an earlier batch has submitted without noting it may be at it.
            begun = attempt.begun(work.current)
            if begun is not None and begun.worker != attempt.NOBODY:
                work.submission = begun.submission
            elif cancelled and (begun is not None or attempt.give_up(work.current)):
                _over(work, standing.stopped(work.task, tries(folder, work.task)))
            continue
        if cancelled and not work.told:
            engine.cancel(work.submission)
            work.told = True
        _follow(folder, work, phases.get(work.submission, Phase.WAITING), engine, manner, say)


def _follow(
    folder: Path, work: _Work, phase: Phase, engine: Engine, manner: Manner, say: Callable[[str], None]
) -> None:
    assert work.current is not None, "it is under way"
    begun, ended = attempt.begun(work.current), attempt.ended(work.current)
    count = len(tries(folder, work.task))
    if begun is not None and begun.submission not in ("", work.submission):
        work.submission, work.told = begun.submission, False
        return
    if phase is not Phase.GONE:
        work.gone = None
        running = phase is Phase.RUNNING
        said = standing.last_line(work.current / LOG) if running else ""
        work.standing = Standing(work.task, State.RUNNING if running else State.WAITING, count, why=said)
        return
    work.gone = work.gone or time.monotonic()
    if ended is None and engine.outlives and not _silent(work, begun):
        return
    if begun is None and ended is None and not attempt.give_up(work.current):
        work.gone = None  # it has just begun
        return
    _settle(folder, work, engine, manner, say)


def _silent(work: _Work, begun: attempt.Begun | None) -> bool:
    """Tell whether nobody is at a try that its engine has lost: a cluster may lose a node that goes on working."""
    assert work.current is not None, "it was under way"
    assert work.gone is not None, "the engine has lost it"
    if begun is not None and not owners.elsewhere(begun.worker) and owners.alive(begun.worker):
        work.gone = time.monotonic()
    heard = attempt.heard(work.current)
    if heard != work.heard:
        work.heard, work.gone = heard, time.monotonic()
    elsewhere = begun is not None and owners.elsewhere(begun.worker)
    return time.monotonic() - work.gone >= (SILENT if elsewhere else LATE)


def _settle(folder: Path, work: _Work, engine: Engine, manner: Manner, say: Callable[[str], None]) -> None:
    """Say what became of a try that is gone, and try again what may go well then."""
    assert work.current is not None, "it was under way"
    assert work.submission is not None, "it was submitted"
    task, made, found = work.task, tries(folder, work.task), standing.result(work.task)
    ended, begun = attempt.ended(work.current), attempt.begun(work.current)
    if found.kind is Kind.OURS:
        return _over(work, standing.done(task, found, made))
    if standing.cancelled(folder, task):
        return _over(work, standing.stopped(task, made))
    if ended is None:
        stands = standing.lost(task, made, engine.logs(work.submission))
        work.lost += [begun.child] if begun is not None and begun.child else []
    elif ended.finished:
        why = found.why or "its result is not there any more"
        return _over(work, Standing(task, State.FAILED, len(made), ExitCode.INTEGRITY, ended, why=why))
    else:
        stands = standing.failed(task, ended, made)
    if work.retried >= manner.retries or (ended is not None and not ended.passing):
        return _over(work, stands)
    work.retried += 1
    work.earliest = time.monotonic() + (0.0 if ended is None else AGAIN * 2 ** (work.retried - 1))
    work.current, work.submission, work.gone = _new(folder, task, manner, work.lost), None, None
    work.standing = Standing(task, State.WAITING, len(made), why="trying again")
    say(f"{task.name}: {stands.why}; trying again")
    return None


def _over(work: _Work, stands: Standing) -> None:
    work.standing, work.current, work.submission = stands, None, None


def _leave(works: Sequence[_Work], engine: Engine) -> None:
    """End what runs, for it would not be looked after any more."""
    names = {work.submission for work in works if work.current and work.submission}
    end, begun = time.monotonic() + LEAVING, set[str]()
    with contextlib.suppress(CompressitError):
        for name in names:
            engine.cancel(name)
        while names and time.monotonic() < end:
            phases = engine.poll(names)
            if all(phase is Phase.GONE for phase in phases.values()):
                return
            # One that had only just been started may not have been there to be told.
            for name in (name for name, phase in phases.items() if phase is Phase.RUNNING and name not in begun):
                engine.cancel(name)
                begun.add(name)
            time.sleep(engine.pause)
