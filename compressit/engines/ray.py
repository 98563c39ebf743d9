"""A Ray cluster, through its Jobs API: `--on ray` (the one that is running, or RAY_ADDRESS), `--on ray+http://HEAD:8265`.

Every job is a Ray job of its own, on whichever node has the cores (`--cpus`) and GPUs (`--gpus`). The batch's folder,
the results and the cache (COMPRESSIT_CACHE) must lie on storage that every node sees, and compressit be installed on
each, for the Python that COMPRESSIT_PYTHON names there (default: the path of the one used here). What Ray itself
printed is told where a job dies without a word.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressit import jobs
from compressit.engines import Needs, Phase, command
from compressit.errors import MissingExtra, RecipeError, RetryableError

PATIENCE = 10
"""Seconds that the dashboard has to answer a question."""
PASSED_ON = ("COMPRESSIT_CACHE",)
"""Environment variables that jobs get from here; whoever sees the dashboard sees them."""
TOLD = 2000
"""Characters of what Ray printed that are told."""


def open(address: str, needs: Needs, place: Path, say: Callable[[str], None]) -> Ray:
    """Reach the cluster and make sure that a job fits on one of its nodes: one that doesn't would wait for ever."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    if address.startswith("ray://"):
        raise RecipeError(
            f"--on ray+{address}: ray:// is the way of the Ray Client, which ends with its connection",
            hint="name the dashboard, as in --on ray+http://HEAD:8265",
        )
    try:
        client = JobSubmissionClient(address or None)
        nodes = _nodes(client.get_address())
    except Exception as error:  # the client raises many kinds, RuntimeError among them
        where = address or "this machine"
        raise RetryableError(
            f"there is no Ray cluster at {where} that answers: {_short(error)}",
            hint="start one with `ray start --head`, or name its dashboard: --on ray+http://HEAD:8265",
        ) from error
    most = max((node.get("GPU", 0) for node in nodes), default=0)
    gpus = min(1, int(most)) if needs.gpus is None else needs.gpus
    if not any(node.get("CPU", 0) >= needs.cpus and node.get("GPU", 0) >= gpus for node in nodes):
        have = "; ".join(f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes) or "none"
        raise RecipeError(
            f"no node of the Ray cluster has {needs.cpus} cores and {gpus} GPUs, so a job would wait for ever",
            hint=f"lower --cpus or --gpus; the nodes have {have}",
        )
    if _open_to_all(client.get_address()):
        say(
            f"warning: the Ray cluster at {client.get_address()} asks nobody who they are: whoever reaches that port "
            "can run anything on it. RAY_AUTH_MODE=token on every node makes it ask"
        )
    return Ray(client, needs.cpus, gpus)


class Ray:
    """A cluster's Jobs API. A try is called by a digest of its folder, so that it can't be submitted twice."""

    outlives = True
    pause = 1.0

    def __init__(self, client: Any, cpus: int, gpus: int) -> None:
        self._client = client
        self._cpus = cpus
        self._gpus = gpus

    def submit(self, tries: Sequence[Path]) -> Mapping[Path, str]:
        """Hand all of them over; Ray has a queue."""
        found = {}
        for folder in tries:
            place = str(folder.resolve())
            name = f"compressit-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
            try:
                if name not in self._known():
                    self._client.submit_job(
                        entrypoint=shlex.join(command(place, name)),
                        submission_id=name,
                        entrypoint_num_cpus=self._cpus,
                        entrypoint_num_gpus=self._gpus or None,
                        runtime_env={"env_vars": _environment()},
                        metadata={"compressit": place},
                    )
            except Exception as error:
                raise RetryableError(f"Ray takes no job: {_short(error)}") from error
            found[folder] = name
        return found

    def poll(self, submissions: Collection[str]) -> Mapping[str, Phase]:
        """Ask for all jobs at once."""
        phases = {"PENDING": Phase.WAITING, "RUNNING": Phase.RUNNING}
        known = self._known()
        return {name: phases.get(str(known.get(name, "")), Phase.GONE) for name in submissions}

    def cancel(self, submission: str) -> None:
        """Stop a job: Ray sends SIGTERM, and SIGKILL some seconds later."""
        try:
            self._client.stop_job(submission)
        except Exception as error:
            if "does not exist" not in str(error):
                raise RetryableError(f"Ray can't be told to stop a job: {_short(error)}") from error

    def logs(self, submission: str) -> str:
        """Give Ray's own word on a job, and the end of what it printed, which goes with the node it was on."""
        said = []
        try:
            said.append(self._client.get_job_info(submission).message or "")
            said.append(self._client.get_job_logs(submission)[-TOLD:])
        except Exception as error:
            said += [] if any(said) else [f"Ray doesn't say: {_short(error)}"]
        return "\n".join(said).strip()

    def _known(self) -> dict[str, str]:
        try:
            return {str(job.submission_id): str(job.status.value) for job in self._client.list_jobs()}
        except Exception as error:
            raise RetryableError(f"the Ray cluster doesn't answer: {_short(error)}") from error


def _environment() -> dict[str, str]:
    """Give what jobs are to know; Ray itself leaves them so long between a polite end and a hard one."""
    found = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"RAY_JOB_STOP_WAIT_TIME_S": str(int(jobs.GRACE)), **found}


def _nodes(address: str) -> list[Mapping[str, float]]:
    """Give what each living node has in all, by the name of the resource."""
    from ray.util.state import list_nodes

    found = list_nodes(address=address, timeout=PATIENCE, raise_on_missing_output=False)
    return [node.resources_total for node in found if node.state == "ALIVE"]


def _open_to_all(address: str) -> bool:
    """Tell whether the dashboard answers somebody who shows no token."""
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
