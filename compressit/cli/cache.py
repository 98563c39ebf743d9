"""`compressit cache`: the checkpoints of finished steps, which later runs take up instead of doing the steps again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressit.cli.options import Json, RecipeFile, Set

if TYPE_CHECKING:
    from compressit.cache import Entry
    from compressit.plan import Plan
    from compressit.runner.foreseeing import Foreseen

verbs = typer.Typer(
    help="Checkpoints of finished steps, and what killed runs left.", no_args_is_help=True, rich_markup_mode=None
)


@verbs.command("list")
def list_(json: Json = False) -> None:
    """List what is kept, the most recently used first."""
    from compressit import cache, store
    from compressit.cli.console import say, table
    from compressit.recipe.quantities import show

    entries, left = cache.entries(), store.left()
    if json:
        from json import dumps

        said = [{"key": entry.key, "bytes": entry.bytes, "used": entry.used, "made": entry.made} for entry in entries]
        unfinished = [{"path": str(each.folder), "bytes": each.bytes, "used": each.used} for each in left]
        say(dumps({"folder": str(store.home()), "steps": said, "unfinished": unfinished}, indent=1))
        return
    rows = [[entry.key[:12], entry.made["step"], _settings(entry), show(entry.bytes, "bytes"), _ago(entry.used)]
            for entry in entries]  # fmt: skip
    if rows:
        table(rows, ["key", "step", "settings", "size", "used"])
    say(f"{len(entries)} checkpoints, {show(sum(entry.bytes for entry in entries), 'bytes')}, in {cache.place()}")
    if left:
        say(f"besides, what {len(left)} killed runs can go on from: {show(sum(e.bytes for e in left), 'bytes')}")


@verbs.command()
def why(recipe: RecipeFile, set_: Set = None, json: Json = False) -> None:
    """Say of each step of a recipe whether its checkpoint is kept and, if not, what differs from the nearest one."""
    from compressit import plan as plans
    from compressit import recipe as recipes
    from compressit.cli.console import say
    from compressit.runner.foreseeing import foresee

    planned = plans.plan(recipes.load(recipe, tuple(set_ or ())))
    found = foresee(planned)
    if json:
        from json import dumps

        say(dumps([{"step": step.config.step, "kept": each.kept, "why": list(each.why)}
                   for step, each in zip(planned.steps, found, strict=True)], indent=1))  # fmt: skip
        return
    for line in told(planned, found):
        say(line)


@verbs.command()
def verify() -> int:
    """Check every kept checkpoint byte for byte; what changed is named, and thrown away when a run meets it."""
    from compressit import cache, store
    from compressit.cli.console import say
    from compressit.errors import ExitCode

    found = [(entry.folder, store.verify(entry.folder)) for entry in cache.entries()]
    for folder, wrong in found:
        for line in wrong:
            say(f"{folder}: {line}")
    broken = sum(bool(wrong) for _, wrong in found)
    say(f"{len(found) - broken} of {len(found)} checkpoints are as they were saved")
    return int(ExitCode.INTEGRITY if broken else ExitCode.OK)


@verbs.command()
def gc(
    keep: Annotated[str, typer.Option("--keep", help="How much may stay, such as 50GB; 0B for nothing.")],
) -> None:
    """Let go what was not used for longest, until no more than so much is kept. What a run is at stays."""
    from compressit import cache
    from compressit.cli.console import say
    from compressit.errors import RecipeError
    from compressit.recipe.quantities import parse, show

    try:
        most = parse(keep, "bytes")
    except ValueError as error:
        raise RecipeError(f"--keep {keep}: {error}", hint="such as --keep 50GB") from None
    if most < 0:
        raise RecipeError(f"--keep {keep}: less than nothing can't be kept")
    gone = cache.collect(int(most))
    say(f"{show(sum(each.bytes for each in gone), 'bytes')} in {len(gone)} folders let go")


def told(planned: Plan, found: list[Foreseen]) -> list[str]:
    """Write a line for each step."""
    lines = []
    for number, (step, each) in enumerate(zip(planned.steps, found, strict=True), 1):
        said = "kept" if each.kept else "not kept" + (": " + "; ".join(each.why) if each.why else "")
        lines.append(f"step {number} ({step.config.step}): {said}")
    return lines


def _settings(entry: Entry) -> str:
    given: dict[str, Any] = {name: value for name, value in entry.made["config"].items() if name != "step"}
    said = ", ".join(f"{name}={value}" for name, value in given.items() if value not in (None, (), []))
    return said if len(said) <= 48 else said[:47] + "…"


def _ago(used: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(used, datetime.UTC).strftime("%Y-%m-%d %H:%M")
