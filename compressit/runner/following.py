"""What a process does that was started together with the one that does the run: join in its trainings and walks."""

from __future__ import annotations

from dataclasses import replace

from compressit.errors import StepError
from compressit.progress import quiet
from compressit.ranks import Ranks, number, own
from compressit.runner.joining import Asked
from compressit.runner.stepping import do


def follow(ranks: Ranks) -> None:
    """Do each step that the first process asks for with it, and throw away what came of it, until that one ends.

    Raises:
        CompressitError: of the kind that one of the processes met.
        RetryableError: the first process is gone.
    """
    with quiet():
        for job, asked in ranks.asked():
            with ranks.together(job, asked.work.device):
                _join(asked)


def _join(asked: Asked) -> None:
    import datasets

    for folder in (asked.before or asked.work.source, *asked.work.others.values(), asked.scratch, *asked.rows.values()):
        if not folder.is_dir():
            raise StepError(
                f"there is no {folder} on this machine",
                hint="have models and the cache (COMPRESSIT_CACHE, HF_HOME) on a file system that all machines share",
            )
    rows = {use: datasets.load_from_disk(str(folder)) for use, folder in asked.rows.items()}
    # What is laid out here of weights that stay on disk is this process's own.
    unfinished = asked.work.unfinished / f"process-{number()}"
    work = replace(asked.work, rows=rows, device=own(asked.work.device), unfinished=unfinished)
    do(work, asked.number, work.load() if asked.before is None else work.take_up(asked.before), asked.scratch)
