"""Who is writing: a host, a process there, and when that process began."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def mine() -> str:
    """Name this process, in a way that no later one of the same number shares: HOST-PID-START."""
    return of(os.getpid())


def of(pid: int) -> str:
    """Name a process of this host in the same way."""
    return f"{host()}-{pid}-{_started(pid)}"


def alive(owner: str) -> bool:
    """Tell whether the process of that name may still run; one of another host always may."""
    where, pid, started = _parts(owner)
    if where != host() or not pid.isdigit():
        return True
    return _started(int(pid)) == started


def elsewhere(owner: str) -> bool:
    """Tell whether it is of another host, of whose processes nothing can be known here."""
    return _parts(owner)[0] != host()


def pid(owner: str) -> int:
    """Number of the process, 0 where the name holds none."""
    number = _parts(owner)[1]
    return int(number) if number.isdecimal() else 0


def shown(owner: str) -> str:
    """Say it to a user."""
    where, pid, _ = _parts(owner)
    return f"process {pid} on {where}"


def _parts(owner: str) -> tuple[str, str, str]:
    where, _, pid = owner.rpartition("-")[0].rpartition("-")
    return where, pid, owner.rpartition("-")[2]


def host() -> str:
    """Name this machine."""
    return socket.gethostname().replace("/", "_") or "localhost"


def _started(pid: int) -> str:
    """Say when a process began, so that a reused process id is not mistaken for it; "0" where that can't be known."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.is_dir() or not Path("/proc/self/stat").exists():
        return "0" if _runs(pid) else "gone"
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
