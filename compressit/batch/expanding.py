"""Files, changes and a matrix -> the jobs of a batch, each checked and planned before any of them starts."""

from __future__ import annotations

import difflib
import glob
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressit import metrics, recipe, store
from compressit import plan as plans
from compressit.batch import Task
from compressit.errors import CompressitError, RecipeError
from compressit.metrics import Kind
from compressit.recipe import Problem, RecipeProblems
from compressit.recipe.problems import Place

LONGEST = 80
"""Characters of a recipe's name."""
MOST = 1000
"""Jobs of one batch."""

Values = Sequence[tuple[str, Any]]


def files(patterns: Iterable[str]) -> list[Path]:
    """Find the recipes that are meant; a shell may have spelled a pattern out already.

    Raises:
        RecipeError: a pattern matches nothing, or a file is no recipe.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        here = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        matches = [Path(name) for name in here if Path(name).is_file()]
        if not matches:
            near = difflib.get_close_matches(pattern, [str(file) for file in Path(pattern).parent.glob("*")], n=1)
            hint = f"did you mean {near[0]}?" if near else "name files or a quoted pattern, such as 'recipes/*.yaml'"
            raise RecipeError(f"{pattern} matches no file", hint=hint)
        for file in matches:
            if file.suffix.lower() not in (".yaml", ".yml"):
                raise RecipeError(f"{file} is no recipe: its name ends in {file.suffix or 'nothing'}, not in .yaml")
            found[file] = None
    return list(found)


def matrix(arguments: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Read `path.to.field=v1,v2` arguments; values are YAML, as those of `--set`.

    Raises:
        RecipeError: one is not written so, or names a field or a value twice.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for argument in arguments:
        path, there, text = argument.partition("=")
        if not (path and there and text.strip()):
            raise RecipeError(f"--matrix {argument}: expected path=value,value", hint="for example --matrix seed=0,1,2")
        values = recipe.parse(f"[{text}]", f"--matrix {argument}").tree
        if path in found:
            raise RecipeError(f"--matrix {argument}: {path} is named twice", hint=f"--matrix {path}=v1,v2 has them all")
        twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
        if twice is not None:
            raise RecipeError(f"--matrix {argument}: {_shown(twice)} is named twice")
        found[path] = tuple(values)
    return found


def tasks(
    chosen: Sequence[Path],
    changes: Sequence[str],
    over: Mapping[str, tuple[Any, ...]],
    results: Path | store.Remote,
    *,
    elsewhere: bool = False,
) -> list[Task]:
    """Make a job of each file and each choice of the matrix's values.

    Args:
        chosen: Recipe files.
        changes: `--set` arguments, for all of them.
        over: Values by path.
        results: Folder that the results go to.
        elsewhere: They run on other machines than this.

    Raises:
        RecipeProblems: everything that is wrong with any of them, each with its place.
        RecipeError: two would have one name.
    """
    choices: list[Values] = [tuple(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    if len(chosen) * len(choices) > MOST:
        raise RecipeError(f"{len(chosen) * len(choices):,} jobs; a batch has at most {MOST:,}")
    made: list[Task] = []
    problems: list[Problem] = []
    for file in chosen:
        for choice in choices:
            try:
                made.append(_task(file, changes, choice, results, elsewhere))
            except RecipeProblems as error:
                problems += [problem for problem in error.problems if problem not in problems]
            except CompressitError as error:
                problem = Problem(error.message, Place(str(file), 1, 1), error.hint, "")
                problems += [problem] if problem not in problems else []
    if problems:
        raise RecipeProblems(problems)
    for one, other in itertools.combinations(made, 2):
        # Some file systems don't tell A from a.
        if one.name.lower() == other.name.lower():
            raise RecipeError(
                f"two jobs would be named {one.name}: {one.source}; and {other.source}",
                hint="give one of the recipes another name:",
            )
    return made


def _task(file: Path, changes: Sequence[str], choice: Values, results: Path | store.Remote, elsewhere: bool) -> Task:
    document = recipe.override(recipe.read(file), tuple(changes))
    document = recipe.override(document, tuple(f"{path}={_shown(value)}" for path, value in choice), "--matrix")
    given = recipe.written(document, file)
    name = _name(given.recipe.name, choice)
    plan = plans.plan(given, elsewhere=elsewhere)
    anchored = recipe.anchored(given.recipe, given.base).model_copy(update={"name": name})
    text = recipe.text(anchored).encode()
    source = ", ".join([str(file), *changes, *(f"{path}={_shown(value)}" for path, value in choice)])
    return Task(
        name=name,
        source=source,
        recipe=text,
        sha256=hashlib.sha256(text).hexdigest(),
        digest=recipe.digest(anchored),
        output=store.child(results, name),
        timed=any(metrics.load(config.metric).KIND is Kind.TIMED for config in plan.metrics),
    )


def _name(name: str, choice: Values) -> str:
    """Name a job after its recipe and what the matrix chose."""
    last = [path.rpartition(".")[2] for path, _ in choice]
    said = []
    for path, value in choice:
        own = path.rpartition(".")[2]
        key = own if last.count(own) == 1 and not own.isdecimal() else path
        if path != "name":
            said.append(re.sub(r"[^A-Za-z0-9._-]+", "_", f"{key}{'' if key[-1:].isalpha() else '-'}{_shown(value)}"))
    whole = "-".join([name, *said])
    if len(whole) <= LONGEST:
        return whole
    mark = hashlib.sha256(json.dumps(choice).encode()).hexdigest()[:8]
    return f"{whole[: LONGEST - 9]}-{mark}"


def _shown(value: Any) -> str:
    """Write a value on one line, as `--set` reads it."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./: -]*", value) and ": " not in value
    if plain and value.lower() not in ("true", "false", "null") and not value.endswith((":", " ")):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
