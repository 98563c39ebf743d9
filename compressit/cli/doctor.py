"""`compressit doctor`: is this machine ready?"""

from __future__ import annotations

import os
from pathlib import Path


def doctor() -> None:
    """Show versions, devices, disk and which optional parts are installed. Exit code 5 if a required one is missing."""
    import platform
    from importlib.metadata import PackageNotFoundError, requires, version

    from compressit import __version__, machine, store
    from compressit.cli.console import say, table
    from compressit.errors import StepError

    say(f"compressit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    rows, missing = [], []
    for requirement in requires("compressit") or []:
        name, extra = _parse(requirement)
        if extra in ("dev", "all") or name == "compressit":
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing" if extra is None else f"not installed: pip install 'compressit[{extra}]'"
            missing += [name] if extra is None else []
        rows.append([name, found, f"extra {extra}" if extra else ""])
    table(rows)
    if "torch" not in missing:
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        say(f"devices   cpu ({os.cpu_count()} cores)" + "".join(f", cuda:{i} {name}" for i, name in enumerate(gpus)))
    for what, place in (("here", Path.cwd()), ("cache", store.nearest(store.home()))):
        say(f"disk      {what}: {machine.free_disk(place) / 1e9:.1f} GB free ({place})")
    say(f"hub       token {'present' if os.environ.get('HF_TOKEN') else 'not set'}, "
        f"offline mode {'on' if os.environ.get('HF_HUB_OFFLINE') else 'off'}")  # fmt: skip
    if missing:
        raise StepError(f"missing: {', '.join(missing)}", hint="reinstall compressit")


def _parse(requirement: str) -> tuple[str, str | None]:
    import re

    name = re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", requirement)
    return name, extra.group(1) if extra else None
