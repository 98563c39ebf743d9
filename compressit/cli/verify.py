"""`compressit verify`: a saved folder against its manifest and its report."""

from __future__ import annotations

from compressit.cli.options import Folder


def verify(folder: Folder) -> None:
    """Check a result: files against the manifest, artifacts against the report. Exit code 6 if they differ."""
    from compressit import report, store
    from compressit.cli.console import say
    from compressit.errors import IntegrityError, RecipeError
    from compressit.runtimes import load, missing

    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}")
    store.check(folder)
    found = report.read(folder)
    for artifact in found.artifacts:
        if lacks := missing(artifact.runtime):
            raise lacks
        facts = load(artifact.runtime).inspect(folder / artifact.path)
        for name in ("bytes", "parameters", "nonzero"):
            said, is_ = getattr(artifact, name), getattr(facts, name)
            if said != is_:
                raise IntegrityError(
                    f"{folder / artifact.path}: the report says {said:,} {name}, the files hold {is_:,}"
                )
    count = len(store.manifest(folder)["files"])
    say(f"{folder}: {count} files and {len(found.artifacts)} artifacts are as they were saved")
