"""`compressit init`: a commented recipe to start from."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

SCHEMA = "recipe.schema.json"


def init(
    file: Annotated[Path, typer.Argument(help="File to write.", metavar="[FILE]")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented recipe, and the schema that lets an editor complete it. Asks only on a terminal."""
    from json import dumps

    from compressit import tasks
    from compressit.cli.console import say
    from compressit.errors import RecipeError
    from compressit.recipe.schema import schema

    if file.exists() and not force:
        raise RecipeError(f"{file} exists already", hint="name another file, or pass --force")
    if file.name == SCHEMA:
        raise RecipeError(f"{SCHEMA} is the schema's own name", hint="name the recipe otherwise")
    if not file.parent.is_dir():
        raise RecipeError(f"{file.parent} is not a folder")
    text = files("compressit.cli").joinpath("template.yaml").read_text(encoding="utf-8")
    if sys.stdin.isatty() and sys.stdout.isatty():
        text = ask(text, tasks.names())
    file.write_text(text, encoding="utf-8")
    (file.parent / SCHEMA).write_text(dumps(schema(), indent=1) + "\n", encoding="utf-8")
    say(f"wrote {file} and {file.parent / SCHEMA}; next: compressit plan {file}")


def ask(text: str, known: list[str]) -> str:
    """Ask for the model, and leave the rest of the template to an editor."""
    model = typer.prompt("Model (hub id, local folder or demo:NAME)", default="demo:stdlib")
    if model == "demo:stdlib":
        return text
    task = typer.prompt(f"Task ({', '.join(known)})", default="text-classification")
    dataset = typer.prompt("Data set (hub id, local file or folder)")
    text = fitted(text, task) if task in known else text
    for old, new in (("model: demo:stdlib", f"model: {model}"), ("path: demo:stdlib", f"path: {dataset}"),
                     ("task: text-classification", f"task: {task}")):  # fmt: skip
        text = text.replace(old, new)
    return text


def fitted(text: str, task: str) -> str:
    """Have the template name the columns, metrics and settings that a task has."""
    from compressit import exports, metrics, steps, tasks

    module = tasks.load(task)
    choices: tuple[tuple[str, ...], ...] = getattr(module, "CHOICES", ())
    roles = choices[0] if choices else tuple(role for role, needed in module.ROLES.items() if needed)
    first = module.METRICS[0]
    columns, measured = ", ".join(f"{role}: {role}" for role in roles), ", ".join(module.METRICS)
    found = text.replace("{text: text, label: label}", f"{{{columns}}}")
    found = found.replace("[accuracy, agreement, latency, throughput, size]", f"[{measured}]")
    found = found.replace("metric: accuracy", f"metric: {first}")
    if metrics.load(first).BETTER == "lower":
        found = found.replace("max_drop: 0.02 ", "max_ratio: 1.05")
    if steps.load("distill").Config(step="distill", temperature=2.0).unfit(task):
        found = found.replace("    temperature: 2.0\n", "")
    if task not in exports.load("onnx").Config.tasks:
        start, end = found.index("exports:"), found.index("metrics:")
        found = found[:start] + found[end:]
    return found
