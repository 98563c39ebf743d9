"""`compressit verify`: a saved folder against its manifest and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Place = Annotated[str, typer.Argument(help="Folder of a result, or its URL.", metavar="DIR|URL")]


def verify(folder: Place) -> None:
    """Check a result: files against the manifest, artifacts against the report. Exit code 6 if they differ."""
    from compressit import store
    from compressit.errors import RecipeError

    place = store.place(folder)
    if isinstance(place, store.Remote):
        with store.fetched(place) as here:
            return _verify(here, str(place))
    if not place.is_dir():
        raise RecipeError(f"there is no folder {place}")
    store.check(place)
    return _verify(place, str(place))


def _verify(folder: Path, called: str) -> None:
    """Hold a result's artifacts to its report; `called` is how the user names the folder."""
    from compressit import report, store
    from compressit.cli.console import say
    from compressit.errors import IntegrityError
    from compressit.runtimes import load, missing

    found = report.read(folder)
    for artifact in found.artifacts:
        if lacks := missing(artifact.runtime):
            raise lacks
        facts = load(artifact.runtime).inspect(folder / artifact.path)
        for name in ("bytes", "parameters", "nonzero"):
            said, is_ = getattr(artifact, name), getattr(facts, name)
            if said != is_:
                where = f"{called}/{artifact.path}"
                raise IntegrityError(f"{where}: the report says {said:,} {name}, the files hold {is_:,}")
    count = len(store.manifest(folder)["files"])
    say(f"{called}: {count} files and {len(found.artifacts)} artifacts are as they were saved")
