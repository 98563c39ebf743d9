"""Recipe -> Plan: rules across steps, and estimates before any work. Never imports torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressit import data, demo, estimates, exports, intake, machine, metrics, rules, runtimes, steps, weights
from compressit import model as models
from compressit.errors import CompressitError, MissingExtra, RecipeError
from compressit.exports import ExportConfig
from compressit.metrics import Kind, MetricConfig
from compressit.recipe import Problem, Recipe, RecipeProblems, Written, located
from compressit.recipe.quantities import show
from compressit.rules.found import TreePath
from compressit.steps import StepConfig
from compressit.weights import Weights


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan, and the weights as they will be after it (None where they can't be foreseen)."""

    config: StepConfig
    after: Weights | None

    @property
    def module(self) -> Any:
        """The step's file."""
        return steps.load(self.config.step)


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        model: Absolute folder, hub id or demo of the model.
        exports: What they leave to the model is decided, where its weights can be foreseen.
        before: The model's weights; None where their headers can't be read without a download or a training.
        why_not: Why `before` is None.
        memory: Bytes of main memory at the peak; None if unknown.
        disk: Bytes on disk at the peak, by where they lie; None if unknown.
        on_disk: Weights stay on disk while they are measured, too: memory can't hold what is open then.
        warnings: What will come of it that one might not expect.
        seconds: About how long walks through the blocks take on this machine's processor; None without any.
    """

    written: Written
    model: str
    steps: tuple[PlannedStep, ...]
    exports: tuple[ExportConfig, ...]
    metrics: tuple[MetricConfig, ...]
    before: Weights | None
    why_not: str
    memory: int | None
    disk: estimates.Disk | None
    seconds: int | None = None
    on_disk: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def streams(self) -> bool:
        """Whether the model's weights can stay on disk, one part in memory at a time."""
        steps = self.written.recipe.steps
        return not self.written.recipe.exports and bool(steps) and all(step.streaming() for step in steps)


def plan(written: Written, *, elsewhere: bool = False) -> Plan:
    """Check the recipe as a whole and foresee its steps.

    Args:
        written: The recipe.
        elsewhere: It will run on another machine, so what this one lacks is no problem: memory, and packages.

    Raises:
        RecipeProblems: steps that undo each other, missing splits, patterns that match nothing, targets that make no
            sense; every error at once, each with its place.
    """
    recipe = written.recipe
    problems = rules.check(written)
    if problems:
        raise RecipeProblems(problems)
    model = located(recipe.model.path, written.base)
    before, why_not = _weights(model, recipe.model.revision)
    if before is not None:
        try:
            refuse_quantized(before, model)
        except RecipeError as error:
            raise RecipeProblems([written.document.problem(("model",), error.message, error.hint)]) from None
    if not elsewhere:
        problems += _not_installed(written)
    planned = _foresee(written, before, problems)
    end = planned[-1].after if planned else before
    settled = () if problems else _foresee_exports(written, end, problems)
    if problems:
        raise RecipeProblems(problems)
    found = Plan(written, model, planned, settled, rules.measured(recipe), before, why_not, None, None)
    found = replace(found, warnings=tuple(_unsaid(recipe, end)))
    if before is None:
        return found
    cost = estimates.of(recipe, before, [step.after for step in planned], streams=found.streams)
    if cost.memory > machine.memory() and not elsewhere:
        need, have = show(cost.memory, "bytes"), show(machine.memory(), "bytes")
        problem = f"{model} needs about {need} of memory for this recipe, and this machine has {have}"
        raise RecipeProblems([written.document.problem(("model",), problem, "use a larger machine or a smaller model")])
    falsified = [config.key for config in found.metrics if cost.on_disk and _in_memory(config)]
    if falsified and not elsewhere:
        need, have = show(cost.whole, "bytes"), show(machine.free_memory(), "bytes")
        problem = (
            f"{' and '.join(falsified)} would be the disk's: measuring takes about {need} of memory, {have} is free"
        )
        left = ", ".join(config.key for config in found.metrics if config.key not in falsified) or "size"
        hint = f"free memory, use a larger machine, or leave out what is about speed and memory: metrics: [{left}]"
        raise RecipeProblems([written.document.problem(("metrics",), problem, hint)])
    return replace(found, memory=cost.memory, disk=cost.disk, seconds=cost.seconds, on_disk=cost.on_disk)


def _not_installed(written: Written) -> list[Problem]:
    """Find what this recipe needs and this machine lacks: packages that come with an extra."""
    recipe, found = written.recipe, []
    wanted: list[tuple[TreePath, Mapping[str, str]]] = [
        *((("steps", index, "step"), step.packages()) for index, step in enumerate(recipe.steps)),
        *((("exports", index, "export"), export.packages()) for index, export in enumerate(recipe.exports)),
    ]
    for config in rules.measured(recipe):
        place = (recipe.metrics.index(config),) if config in recipe.metrics else ()
        wanted.append((("metrics", *place), config.packages()))
    if recipe.dataset is not None:
        wanted.append((("dataset",), data.packages(recipe.dataset, recipe.task)))
    for path, packages in wanted:
        try:
            machine.need(packages)
        except MissingExtra as error:
            found.append(written.document.problem(path, error.message, error.hint))
    told = {problem.message for problem in found}
    for index, export in enumerate(recipe.exports):
        lacks = runtimes.missing(type(export).runtime)
        if lacks is not None and lacks.message not in told:
            found.append(written.document.problem(("exports", index, "export"), lacks.message, lacks.hint))
    return found


def _in_memory(config: MetricConfig) -> bool:
    """Tell whether a metric is about weights that are in memory: reading them would be timed too."""
    module = metrics.load(config.metric)
    return module.KIND == Kind.TIMED or getattr(module, "IN_MEMORY", False)


def refuse_quantized(before: Weights, model: str) -> None:
    """Raise RecipeError for a model whose weights are integers already: no step could change them."""
    if before.quantized:
        raise RecipeError(f"{model} is quantized already", hint="start from the model that it was made from")


def _foresee(written: Written, before: Weights | None, problems: list[Problem]) -> tuple[PlannedStep, ...]:
    planned: list[PlannedStep] = []
    current = before
    for index, config in enumerate(written.recipe.steps):
        foresee = getattr(steps.load(config.step), "foresee", None)
        if current is not None and (said := config.unable(current)) is not None:
            message = f"{config.step}: {said}"
            problems.append(written.document.problem(("steps", index, "step"), message, "leave it out"))
        if current is not None and foresee is not None and current.blocks():
            try:
                current = foresee(current, config)
            except RecipeError as error:
                problems.append(written.document.problem(("steps", index, "step"), error.message, error.hint))
        planned.append(PlannedStep(config, current))
    return tuple(planned)


def _foresee_exports(written: Written, after: Weights | None, problems: list[Problem]) -> tuple[ExportConfig, ...]:
    settled = []
    for index, config in enumerate(written.recipe.exports):
        foresee = getattr(exports.load(config.export), "foresee", None)
        settled.append(config.settled(after))
        try:
            if foresee is not None:
                foresee(config, written.recipe.steps, after)
            spec = written.recipe.dataset
            calibrated = spec is not None and spec.calibration is not None
            exports.check_settled(config, settled[-1], calibrated=calibrated)
        except CompressitError as error:
            problems.append(written.document.problem(("exports", index, "export"), error.message, error.hint))
    return tuple(settled)


def _unsaid(recipe: Recipe, end: Weights | None) -> Iterator[str]:
    """Warn of steps after which plain transformers may not open the checkpoint, with what else there is to do."""
    for number, config in enumerate(recipe.steps, 1):
        found = config.unsaid(end)
        if found is None:
            continue
        opens = "won't open the checkpoint" if found.sure else "may not open the checkpoint then"
        ways = (
            [f"{', '.join(names)} {'open' if len(names) > 1 else 'opens'} anywhere"]
            if (names := _holding(recipe, end))
            else []
        )
        ways += [f"with {found.instead} plain transformers opens it"] if found.instead else []
        yield (
            f"step {number} ({config.step}): {found.why}: plain transformers {opens}, compressit.load does"
            + "".join(f"; {way}" for way in ways)
        )


def _holding(recipe: Recipe, end: Weights | None) -> list[str]:
    """Name the exports of a recipe, or where it has none, those that could hold what its steps leave."""
    if recipe.exports:
        return [f"export {export.artifact}" for export in recipe.exports]
    made, found = {fact for step in recipe.steps for fact in step.made()}, []
    for name in exports.names():
        module = exports.load(name)
        config = module.Config(export=name)
        if made <= config.carries and recipe.task in (config.tasks or {recipe.task}):
            with contextlib.suppress(CompressitError):
                getattr(module, "foresee", lambda *unused: None)(config, recipe.steps, end)
                found.append(f"an export to {name}")
    return found


def _weights(model: str, revision: str | None) -> tuple[Weights | None, str]:
    """Read the table of weights from a folder, the demo cache, the hub's cache or the hub's headers."""
    if model.startswith("demo:"):
        folder = demo.cached(model)
        return (weights.read(folder), "") if folder else (None, f"{model} is trained on this machine at its first use")
    if Path(model).is_dir():
        models.check_held(Path(model))
        return weights.read(Path(model)), ""
    try:
        return _from_hub(model, revision)
    except (OSError, ValueError, KeyError, CompressitError) as error:
        return None, f"the headers of {model} can't be read: {str(error).splitlines()[0][:200]}"


def _from_hub(model: str, revision: str | None) -> tuple[Weights | None, str]:
    import huggingface_hub

    with contextlib.suppress(OSError, ValueError):
        folder = huggingface_hub.snapshot_download(model, revision=revision, local_files_only=True)
        if any(Path(folder).glob("*.safetensors")):
            return weights.read(Path(folder)), ""
    missing = f"{model} is not in the hub's cache, and the hub can't be reached: sizes are known once it can"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return None, missing
    try:
        found = huggingface_hub.get_safetensors_metadata(model, revision=revision)
        config = huggingface_hub.hf_hub_download(model, "config.json", revision=revision)
    except Exception as error:  # the hub client raises many kinds; a plan works without it
        return None, f"{missing} ({type(error).__name__})"
    headers = (
        {name: {"dtype": info.dtype, "shape": info.shape} for name, info in file.tensors.items()}
        for file in found.files_metadata.values()
    )

    return weights.table(intake.described(Path(config).parent), headers), ""
