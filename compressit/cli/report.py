"""`compressit report`: the texts of a finished run, made again from what is on disk."""

from __future__ import annotations

from compressit.cli.options import Folder


def report(folder: Folder) -> None:
    """Write the report for people and the model cards of a run again, from its report.json and its recipe."""
    from compressit import store
    from compressit.cli.console import say
    from compressit.errors import RecipeError
    from compressit.report import files

    if not folder.is_dir():
        raise RecipeError(f"there is no folder {folder}")
    store.check(folder, files.sources(folder))
    texts = files.documents(files.read(folder))
    store.amend(folder, texts)
    say(f"{folder}: wrote {', '.join(texts)}")
