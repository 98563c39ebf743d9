"""Rules across the parts of a recipe: what a single field can't know. Needs no weights and no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from compressit import metrics, tasks
from compressit.data import DatasetSpec, harness, source
from compressit.errors import CompressitError
from compressit.exports import CALIBRATE
from compressit.metrics import Kind, MetricConfig
from compressit.recipe import Problem, Recipe, Target, Written, located, looks_local
from compressit.recipe.quantities import parse
from compressit.registry import suggest
from compressit.rules import ordering
from compressit.rules.found import Found, TreePath
from compressit.steps import Need

CHECKPOINT = "checkpoint"
TAKEN = (CHECKPOINT, "original", "examples")
"""Names that a run's own folders and figures have."""
WITHOUT_DATA = ("size", "parameters")


def check(written: Written) -> list[Problem]:
    """List everything about the recipe as a whole that is wrong."""
    found: list[Problem] = []
    for path, message, hint in (
        *_sources(written),
        *_unread(written),
        *_fits(written.recipe),
        *_rows(written),
        *_needs(written.recipe),
        *ordering.undone(written.recipe),
        *ordering.taken_apart(written.recipe),
        *ordering.turned(written.recipe),
        *ordering.looked_back(written.recipe),
        *ordering.idle(written.recipe),
        *_renumbered(written.recipe),
        *_names(written.recipe),
        *_targets(written.recipe),
        *_expected(written.recipe),
    ):
        found.append(written.document.problem(path, message, hint))
    return found


def measured(recipe: Recipe) -> tuple[MetricConfig, ...]:
    """The metrics of a run: the recipe's or else the task's, and those that the targets name."""
    declared = list(recipe.metrics)
    if not declared:
        defaults = tasks.load(recipe.task).METRICS if recipe.dataset else WITHOUT_DATA
        declared = [_default(name, recipe.task) for name in defaults]
    for name in (each.metric for part in (recipe.targets, recipe.expect) for each in part):
        if name not in {config.key for config in declared} and name in metrics.names():
            declared += [_default(name, recipe.task)] if not _asks(name) else []
    return tuple(declared)


def artifacts(recipe: Recipe) -> tuple[str, ...]:
    """Names of what a run makes, in order."""
    return (CHECKPOINT, *(export.artifact for export in recipe.exports))


def _asks(name: str) -> list[str]:
    """Fields of a metric that have no default."""
    fields = metrics.load(name).Config.model_fields
    return [field for field, info in fields.items() if info.is_required() and field != "metric"]


def _default(name: str, task: str) -> MetricConfig:
    """Take the task's own settings of a metric that no recipe spells out."""
    settings = getattr(tasks.load(task), "SETTINGS", {}).get(name, {})
    config: MetricConfig = metrics.load(name).Config(metric=name, **settings)
    return config


def _sources(written: Written) -> Found:
    recipe = written.recipe
    places: list[tuple[TreePath, str, str]] = [(_written(written, "model"), recipe.model.path, "model")]
    if recipe.dataset:
        places.append((_written(written, "dataset"), recipe.dataset.path, "data set"))
    for index, step in enumerate(recipe.steps):
        named = getattr(step, "teacher", None) or ()
        teachers = (
            [(("steps", index, "teacher"), named)]
            if isinstance(named, str)
            else [(("steps", index, "teacher", place), each) for place, each in enumerate(named)]
        )
        students = [(("steps", index, "model"), step.model)] if hasattr(step, "model") else []
        places += [(where, each, "model") for where, each in (*teachers, *students)]
    for where, path, kind in places:
        if path.startswith("demo:"):
            try:
                source.demo(path)
            except CompressitError as error:
                yield where, error.message, error.hint
            continue
        folder = Path(located(path, written.base))
        if looks_local(path) and not folder.exists():
            yield where, f"there is no {kind} at {folder}", None
        elif folder.is_file() and (kind == "model" or folder.suffix.lower() in source.ARCHIVES):
            packed = folder.suffix.lower() in source.ARCHIVES
            remedy = "unpack it, and name the folder" if packed else "name its folder"
            yield where, f"{folder} is {'an archive' if packed else 'a file'}", remedy
        elif kind == "model" and folder.is_dir() and not (folder / "config.json").exists():
            inside = [each.parent for each in sorted(folder.glob("*/config.json"))]
            hint = f"did you mean {inside[0]}?" if inside else None
            yield where, f"{folder} holds no config.json: it is no transformers model", hint
    if recipe.dataset:
        roles = tasks.load(recipe.task).ROLES
        columns = list(recipe.dataset.columns.values())
        for role, column in recipe.dataset.columns.items():
            where = ("dataset", "columns", role)
            if role not in roles:
                yield where, f"{recipe.task} has no role {role!r}{suggest(role, list(roles))}", None
            elif columns.count(column) > 1:
                yield where, f"column {column!r} serves two roles", None


def _unread(written: Written) -> Found:
    """Find what says which of several on the hub is meant, of a model or a data set that lies elsewhere."""
    recipe, spec, base = written.recipe, written.recipe.dataset, written.base

    def elsewhere(path: str) -> bool:
        return path.startswith("demo:") or Path(located(path, base)).exists()

    if recipe.model.revision is not None and elsewhere(recipe.model.path):
        message = f"revision is of a model on the hub, and {recipe.model.path} is none"
        yield ("model", "revision"), message, "leave it out"
    if spec is None or not elsewhere(spec.path):
        return
    if spec.revision is not None:
        message = f"revision is of a data set on the hub, and {spec.path} is none"
        yield ("dataset", "revision"), message, "leave it out"
    # A folder's README may name configurations, which are read unless each split is a file.
    splits = [split for split in (spec.train, spec.calibration, spec.evaluation) if split is not None]
    files = [source.file(spec, split, base) is not None for split in splits]
    if spec.name is not None and (spec.path.startswith("demo:") or all(files)):
        message = f"name is of a configuration, as data sets on the hub have, and {spec.path} has none"
        yield ("dataset", "name"), message, "leave it out; `columns` and the splits say what is read"


def _fits(recipe: Recipe) -> Found:
    """Find what is for other tasks than the recipe's."""
    task: Any = tasks.load(recipe.task)
    spec = recipe.dataset
    if spec is not None:
        asked = harness.name(spec.path)
        if asked is not None and recipe.task != "multiple-choice":
            yield ("dataset", "path"), f"{spec.path} has choices, which {recipe.task} does not take", None
        own = (
            {"name", "revision", "columns", "prefix", "suffix"} & spec.model_fields_set if asked is not None else set()
        )
        for field in sorted(own):
            hint = "leave it out, or name the data set itself: path: HUB_ID"
            yield ("dataset", field), f"{spec.path} says by itself which data it is and how it is worded", hint
        if asked is None and spec.shots is not None:
            hint = f"name one: path: {harness.PREFIX}arc_easy"
            yield ("dataset", "shots"), "only tasks of the LM Evaluation Harness have solved examples", hint
        for field in spec.task_fields().keys() - set(getattr(task, "FIELDS", ())):
            takers = [name for name in tasks.names() if field in getattr(tasks.load(name), "FIELDS", ())]
            yield ("dataset", field), f"{field} is for {', '.join(takers)}; {recipe.task} has no use for it", None
        if spec.max_length is not None and not tasks.reads_tokens(recipe.task):
            seconds = "max_seconds" in getattr(task, "FIELDS", ())
            message = f"max_length counts tokens, and {recipe.task} has none"
            yield ("dataset", "max_length"), message, "say max_seconds" if seconds else "leave it out"
        if spec.labels is not None and not tasks.labelled(recipe.task):
            yield ("dataset", "labels"), f"{recipe.task} has no labels", None
        if spec.stride is not None and spec.max_length is not None and spec.stride > spec.max_length:
            hint = "leave stride out, or have windows overlap"
            yield ("dataset", "stride"), f"stride {spec.stride} is beyond max_length {spec.max_length}", hint
        yield from _one_choice(spec, getattr(task, "CHOICES", ()))
    for where, name in _named(recipe):
        kinds, lacking = getattr(metrics.load(name), "READS", ()), metrics.lacking(name, task.ROLES)
        if kinds and task.OUTPUT not in kinds:
            hint = f"for {recipe.task} there are {', '.join(_readers(task.OUTPUT))}"
            yield where, f"{name} does not fit {recipe.task}", hint
        elif lacking:
            message = f"{name} is about rows that have {' and '.join(lacking)}, which rows for {recipe.task} have not"
            yield where, message, None
    for index, step in enumerate(recipe.steps):
        if step.tasks and recipe.task not in step.tasks:
            yield ("steps", index, "step"), f"{step.step} does not work on models for {recipe.task}", None
        elif (unfit := step.unfit(recipe.task)) is not None:
            yield ("steps", index, "step"), f"{step.step}: {unfit}", None
    for index, export in enumerate(recipe.exports):
        if export.tasks and recipe.task not in export.tasks:
            how = "what they write is generated by the checkpoint, on PyTorch" if tasks.decodes(recipe.task) else None
            yield ("exports", index), f"{export.export} does not hold models for {recipe.task}", how
        elif (unfit := export.unfit(recipe.task)) is not None:
            yield ("exports", index, "export"), f"{export.export}: {unfit}", None


def _rows(written: Written) -> Found:
    """Find the columns that are needed and not there, as far as that can be told without opening the data."""
    recipe, spec = written.recipe, written.recipe.dataset
    if spec is None:
        return
    roles = tasks.load(recipe.task).ROLES
    there = source.columns(spec, spec.evaluation, written.base)
    if there is None:
        return
    for role, column in spec.columns.items():
        if role in roles and column not in there:
            yield ("dataset", "columns", role), f"{spec.path} has no column {column!r}{suggest(column, there)}", None
    for where, metric in _named(recipe):
        missing = metrics.lacking(metric, {*there, *spec.columns})
        if missing and not metrics.lacking(metric, roles):
            message = f"{metric} is about rows that have {' and '.join(missing)}, which {spec.path} has not"
            yield where, message, f"{metrics.naming(missing)}; there are {', '.join(there)}"


def _named(recipe: Recipe) -> list[tuple[TreePath, str]]:
    """List the metrics that a recipe names, and where."""
    declared = {config.key for config in recipe.metrics}
    named: list[tuple[TreePath, str]] = [(("metrics", place), each.metric) for place, each in enumerate(recipe.metrics)]
    named += [
        (("targets", place), each.metric) for place, each in enumerate(recipe.targets) if each.metric not in declared
    ]
    return [(where, name) for where, name in named if name in metrics.names()]


def _readers(kind: Any) -> list[str]:
    """List the metrics of what a model says that fit a kind of output."""
    return [name for name in metrics.names() if kind in getattr(metrics.load(name), "READS", ())]


def _one_choice(spec: DatasetSpec, choices: tuple[tuple[str, ...], ...]) -> Found:
    named = [group for group in choices if spec.columns.keys() & set(group)]
    if len(named) > 1:
        yield ("dataset", "columns"), f"one kind of row at a time: {' or '.join(', '.join(g) for g in named)}", None
    elif named and spec.packing is not None and named != [choices[0]]:
        message = f"packing: {spec.packing} is for {choices[0][0]}, not for {', '.join(named[0])}"
        yield ("dataset", "packing"), message, None
    elif spec.stride is not None and "continuation" in spec.columns:
        yield ("dataset", "stride"), "stride is from window to window, and a continuation is one", "leave it out"


def _needs(recipe: Recipe) -> Found:
    if not recipe.steps and not recipe.exports:
        yield (), "there is nothing to do: the recipe has neither steps nor exports", None
    if recipe.dataset is None and recipe.exports:
        yield ("exports",), "exports are checked on real examples, and the recipe has no dataset", None
    for index, step in enumerate(recipe.steps):
        for need, split in ((Need.TRAINING, "train"), (Need.CALIBRATION, "calibration")):
            if need in step.needs() and (recipe.dataset is None or getattr(recipe.dataset, split) is None):
                hint = f"name a split in the recipe's dataset: {split}: train"
                yield ("steps", index, "step"), f"{step.step} needs {need}, and the recipe names none", hint
    for index, export in enumerate(recipe.exports):
        if Need.CALIBRATION in export.needs() and recipe.dataset and recipe.dataset.calibration is None:
            message = f"{export.export} needs calibration data for these settings, and the recipe names none"
            yield ("exports", index, "export"), message, CALIBRATE
    if recipe.dataset is None:
        for index, config in enumerate(recipe.metrics):
            if _on_examples(config):
                yield ("metrics", index), f"{config.key} needs examples, and the recipe has no dataset", None
        known = {config.key: config for config in measured(recipe)}
        for index, target in enumerate(recipe.targets):
            if (
                target.metric in known
                and known[target.metric] not in recipe.metrics
                and _on_examples(known[target.metric])
            ):
                yield ("targets", index), f"{target.metric} needs examples, and the recipe has no dataset", None


def _on_examples(config: MetricConfig) -> bool:
    module = metrics.load(config.metric)
    return module.KIND != Kind.EXACT or getattr(module, "ON_EXAMPLES", False)


def _renumbered(recipe: Recipe) -> Found:
    """Find what compares the tokens that a model reads or writes with others."""
    first = next((index for index, step in enumerate(recipe.steps) if step.renumbers), None)
    paired = tasks.load(recipe.task).OUTPUT.PAIRED
    if first is None or not (paired or tasks.places(recipe.task)):
        return
    name = recipe.steps[first].step
    counting = [c.key for c in measured(recipe) if getattr(metrics.load(c.metric), "PER_TOKEN", False)]
    if counting and paired:
        message = f"{', '.join(counting)} can't be compared with the original's: {name} gives the model other tokens"
        yield ("steps", first, "step"), message, "name metrics that count no tokens: metrics: [size, latency]"
    for index, step in enumerate(recipe.steps):
        if index > first and Need.TEACHER in step.needs():
            message = f"{step.step} needs a teacher that reads the same tokens, and {name} changes them"
            yield ("steps", index, "step"), message, f"move {step.step} before {name}"


def _names(recipe: Recipe) -> Found:
    for room, names in (
        ("exports", [export.artifact for export in recipe.exports]),
        ("metrics", [config.key for config in recipe.metrics]),
    ):
        for index, name in enumerate(names):
            if name in names[:index] or (room == "exports" and name in TAKEN):
                yield (
                    (room, index),
                    f"a second {room.removesuffix('s')} called {name!r}",
                    "give it a `name:` of its own",
                )


def _targets(recipe: Recipe) -> Found:
    declared = {config.key: config for config in measured(recipe)}
    for index, target in enumerate(recipe.targets):
        path = ("targets", index)
        if target.metric not in declared and target.metric in metrics.names():
            message = f"{target.metric} needs {', '.join(_asks(target.metric))}"
            yield (*path, "metric"), message, f"declare it: metrics: [{{metric: {target.metric}, ...}}]"
            continue
        if target.metric not in declared:
            known = sorted({*declared, *metrics.names()})
            yield (*path, "metric"), f"unknown metric {target.metric!r}{suggest(target.metric, known)}", None
            continue
        if target.artifact is not None and target.artifact not in artifacts(recipe):
            message = f"there is no artifact {target.artifact!r}{suggest(target.artifact, list(artifacts(recipe)))}"
            yield (*path, "artifact"), message, None
        yield from bound(path, target, metrics.load(declared[target.metric].metric))


def _expected(recipe: Recipe) -> Found:
    declared = {config.key: config for config in measured(recipe)}
    for index, each in enumerate(recipe.expect):
        path = ("expect", index)
        if each.metric not in declared:
            yield (*path, "metric"), f"unknown metric {each.metric!r}{suggest(each.metric, sorted(declared))}", None
            continue
        module: Any = metrics.load(declared[each.metric].metric)
        if module.KIND is Kind.TIMED or getattr(module, "TO_ORIGINAL", False):
            hint = "expect a figure of quality or size"
            yield (*path, "metric"), f"{each.metric} is nothing that is known of the original beforehand", hint
            continue
        try:
            parse(each.value, module.UNIT)
        except ValueError as error:
            yield (*path, "value"), str(error), None


def bound(path: TreePath, target: Target, module: Any) -> Found:
    """Find what is wrong with a target's bound on a metric."""
    kind, value = target.bound
    least, most = getattr(module, "RANGE", (-math.inf, math.inf))
    if kind in ("min", "max"):
        try:
            limit = parse(value, module.UNIT)
        except ValueError as error:
            yield (*path, kind), str(error), None
            return
        if not least <= limit <= most:
            yield (*path, kind), f"{target.metric} lies between {least} and {most}, not at {limit:g}", None
        elif module.UNIT and limit <= 0:
            yield (*path, kind), f"{target.metric} is always more than 0", None
    elif getattr(module, "TO_ORIGINAL", False):
        hint = f"{target.metric} compares with the original already: use min or max"
        yield (*path, kind), f"{kind} makes no sense for {target.metric}", hint
    elif kind == "max_drop" and module.KIND == Kind.TIMED:
        yield (*path, kind), f"max_drop makes no sense for {target.metric}", "use min_ratio or max_ratio"
    elif kind == "max_drop" and module.BETTER == "lower":
        yield (*path, kind), f"max_drop makes no sense for {target.metric}: lower is better", "use max or max_ratio"
    elif kind == "max_drop" and float(value) >= most - least:
        yield (
            (*path, kind),
            f"{target.metric} can't fall by {float(value):g}: it lies between {least} and {most}",
            None,
        )


def _written(written: Written, key: str) -> TreePath:
    """Find where the path of a model or a data set is written: as a field, or in place of all fields."""
    return (key, "path") if (key, "path") in written.document.places else (key,)
