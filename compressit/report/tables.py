"""The report as rows of text, the same for the terminal, Markdown and the model card."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compressit import runtimes
from compressit.recipe.quantities import show
from compressit.report import (
    Artifact,
    Layer,
    Outcome,
    Reading,
    Report,
    Search,
    Sensitivity,
    Swap,
    Trial,
    Verdict,
)
from compressit.steps import CAVEAT

MARKS = {Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.INCONCLUSIVE: "can't tell"}
FOLLOWS = 1.15
"""Latency over multiplications, both as shares of the original's, beyond which one doesn't follow the other."""
HEADLINES = ("accuracy", "answer_f1", "auc", "entity_f1", "exact_match", "hit", "ndcg", "pearson", "spearman")
"""Shares and correlations that the headline shows with their difference from the original's."""
MEASURES = {"kl_divergence": "KL divergence, nats", "cosine_distance": "1 - cosine"}
"""How far answers are apart, in words."""
ACTIVATIONS = {
    "static": "by the ranges that calibration data had (activations: static)",
    "dynamic": "by their own range, as they come (activations: dynamic)",
}
"""How the settings of an export read."""
PLACES = ("int16", "int32", "int64")
"""Types of what says where something lies; no weight is stored so."""
TIMES = ("seconds", "examples/s")
"""Units of what a search takes as a ratio to the original's, which ran right beside it."""
LOADING = """\
import compressit

model = compressit.load(folder)    # the run's folder, or the checkpoint in it
"""
"""What opens a checkpoint for which plain transformers has no words."""
LABELS = {"min": ">=", "max": "<=", "min_ratio": ">=", "max_ratio": "<=", "max_drop": "drop <="}


def figures(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one metric a row, the original and then each artifact with its ratio to the original."""
    head = ["", f"original ({_where(report.original)})"]
    for artifact in report.artifacts:
        if artifact.runtime != report.original.runtime:
            head.append(f"original ({_where(artifact)})")
        head.append(f"{artifact.name} ({_where(artifact)})")
    rows = []
    for index, reading in enumerate(report.original.readings):
        row = [reading.metric, _value(reading)]
        for artifact in report.artifacts:
            own = artifact.readings[index]
            if artifact.runtime != report.original.runtime:
                row.append(show(own.baseline, own.unit) if own.baseline is not None else "")
            row.append(_with_ratio(own))
        rows.append(row)
    return head, rows


def targets(report: Report) -> list[list[str]]:
    """One target a row: verdict, what was asked, of which artifact, and why."""
    return [[MARKS[v.outcome], f"{v.metric} {asked(v)}", v.artifact, why(v)] for v in report.verdicts]


def steps(report: Report) -> list[list[str]]:
    """One step a row: number, name, seconds, parameters after it, and what it noted."""
    return [
        [
            str(number),
            step.step,
            f"{step.seconds:.1f} s",
            f"{step.parameters:,}",
            ", ".join(f"{name} {value}" for name, value in step.notes.items() if name != CAVEAT),
        ]
        for number, step in enumerate(report.steps, 1)
    ]


def measured_by_stage(report: Report) -> bool:
    """Tell whether it was measured what steps gained, or without any, what exports did."""
    return any(stage.gained is not None for stage in report.steps or report.artifacts[1:])


def waterfall(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the original, then what each step and each export made of it, and what each gained."""
    readings = [reading.metric for reading in report.original.readings if reading.metric != "size"]
    head = ["", "after", "size", "multiplications", *readings, "gained"]
    rows = [["", "the original", *_stage(report.original, None), ""]]
    checkpoint, *exported = report.artifacts
    for number, step in enumerate(report.steps, 1):
        after = checkpoint if number == len(report.steps) else step.after
        figures = [""] * (len(head) - 3) if after is None else _stage(after, report.original)
        rows.append([str(number), step.step, *figures, _gained(step.gained)])
    rows += [
        ["", f"export {artifact.name}", *_stage(artifact, report.original), _gained(artifact.gained)]
        for artifact in exported
    ]
    return head, rows


def costly(found: Sensitivity) -> list[Swap]:
    """Put the parts of a checkpoint in order: those that move the answers most first, those nobody knows last."""
    return sorted(found.swaps, key=lambda swap: -math.inf if swap.moved is None else swap.moved, reverse=True)


def sensitivity(found: Sensitivity, layers: Sequence[Layer]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what each part of the checkpoint, put into the original by itself, makes of its answers.

    Parts are named as the original has them; where that block has another name in the checkpoint, both are said.
    """
    now = renamed(layers)
    rows = []
    for swap in costly(found):
        name = f"{swap.name} (now in {now[swap.block]})" if swap.block in now else swap.name
        rows.append([name, swap.kind, swap.why if swap.moved is None else apart(swap.moved)])
    return ["part, as the original names it", "", MEASURES[found.measure]], rows


def trials(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what a search has tried, those that may be chosen first."""
    found = report.search
    assert found is not None, "asked for where there was a search"
    units = {reading.metric: reading.unit for reading in report.original.readings}
    open_ = list(dict.fromkeys(name for trial in found.trials for name in trial.settings))
    rows = [
        [
            str(trial.number),
            *(_setting(trial, name) for name in open_),
            *("" if (value := trial.figures.get(name)) is None else _figure(value, units[name]) for name in units),
            _came(trial),
        ]
        for trial in found.trials
    ]
    order = {"chosen": 0, "on the front": 1, "every target holds": 2}
    rows.sort(key=lambda row: order.get(row[-1], len(order)))
    return ["trial", *open_, *units, ""], rows


def searched(found: Search) -> str:
    """Say how a recipe was found."""
    died, held = sum(bool(trial.why) for trial in found.trials), sum(not trial.missed for trial in found.trials)
    dead = f", {died:,} died" if died else ""
    sought = f" for {', '.join(found.objectives)}" if found.objectives else ""
    return (
        f"{len(found.trials):,} {'trial' if len(found.trials) == 1 else 'trials'} by {found.sampler}, "
        f"judged on {found.split}{sought}; "
        f"{held - died:,} met every target{dead}"
    )


def renamed(layers: Sequence[Layer]) -> dict[str | None, str]:
    """Give the checkpoint's name of each of the original's blocks that has another there, by the original's."""
    return {
        layer.was.removesuffix(layer.name.removeprefix(layer.block)): layer.block
        for layer in layers
        if layer.was and layer.block and layer.was.endswith(layer.name.removeprefix(layer.block))
    }


def asked_of(found: Sensitivity) -> str:
    """Say what sensitivity was measured on, and how far the whole checkpoint is from the original there."""
    whole = "" if found.whole is None else f"; the whole checkpoint: {apart(found.whole)}"
    return f"on {found.examples:,} examples of the recipe's {found.split}{whole}"


def apart(moved: float) -> str:
    """Write how far answers moved."""
    return "0" if moved == 0 else f"{moved:.2e}" if moved < 1e-4 else f"{moved:.3g}"


def idle(report: Report) -> list[str]:
    """Name each step and each export that gained nothing."""
    found = [
        f"step {number} ({step.step}) gained nothing that was measured: neither size nor multiplications nor any of "
        "the metrics is surely better after it than before"
        for number, step in enumerate(report.steps, 1)
        if step.gained == ()
    ]
    checkpoint, *exported = report.artifacts
    for artifact in exported:
        if artifact.gained == ():
            other = artifact.runtime != checkpoint.runtime
            beside = f"; of time and memory, which {artifact.runtime} has a part in, nothing is said" if other else ""
            found.append(
                f"export {artifact.name} gained nothing that can be told from the checkpoint: neither size nor any of "
                f"the metrics is surely better in it{beside}"
            )
    return found


def asked(verdict: Verdict) -> str:
    """Write a target's bound the short way."""
    shown = f"{verdict.limit:g}x" if verdict.unit == "ratio" else show(verdict.limit, verdict.unit)
    if verdict.bound == "max_drop":
        shown = f"{verdict.limit:g}"
    return f"{LABELS[verdict.bound]} {shown}"


def why(verdict: Verdict) -> str:
    """Say what a verdict rests on, and how many examples would decide one that doesn't."""
    more = f"; about {verdict.needed:,} examples would decide" if verdict.needed else ""
    return verdict.why + more


def headline(artifact: Artifact) -> str:
    """Say in one line what an artifact gained and what it kept."""
    parts = [text for reading in artifact.readings if (text := _gain(reading))]
    return f"{artifact.name}: {', '.join(parts)}" if parts else artifact.name


def gains(artifact: Artifact) -> str:
    """Say what the runtime gives by itself, which no compression earned."""
    ratios = [f"{1 / ratio:.2f}x at batch {size}" for size, ratio in artifact.runtime_ratio.items()]
    return f"speed of the uncompressed original on {_where(artifact)} over torch: {', '.join(ratios)}"


def caveats(artifact: Artifact) -> list[str]:
    """Say what can't open an artifact, how it rounds, and what it saves that makes it no faster, or less than hoped."""
    found = unopened(artifact)
    if ranges := ACTIVATIONS.get(str(artifact.notes.get("activations"))):
        found.append(f"{artifact.name}: int8 activations are scaled {ranges}")
    packed = sorted(kind for kind in artifact.dtypes if kind.startswith("int") and kind not in PLACES)
    if packed and artifact.runtime == "torch":
        found.append(
            f"{artifact.name}: {' and '.join(packed)} weights save disk, not time or memory, in PyTorch, which unpacks "
            "them when it opens the file; servers such as vLLM compute with them"
        )
    if artifact.nonzero < 0.9 * artifact.parameters:
        found.append(f"{artifact.name}: zeros among the weights take the same room and time on {artifact.runtime}")
    return found + [_pace(artifact, reading) for reading in artifact.readings if _cut(artifact, reading)]


def unopened(artifact: Artifact) -> list[str]:
    """Say what opens a checkpoint for which plain transformers has no words; nothing of any other artifact."""
    if artifact.plain:
        return []
    return [
        f"{artifact.name}: plain transformers has no words for the shapes of its layers and doesn't open it; "
        "compressit.load(folder) does, given the run's folder or this one in it"
    ]


def opening(artifact: Artifact) -> tuple[str, str]:
    """Name the library that opens an artifact, and give the Python lines that do; none where that library has its own.

    An artifact of a runtime that is not installed is opened by the library of its name.
    """
    if artifact.runtime == "torch":
        return ("transformers", "") if artifact.plain else ("compressit", LOADING)
    try:
        runtime = runtimes.load(artifact.runtime)
    except LookupError:
        return artifact.runtime, ""
    return getattr(runtime, "LIBRARY", artifact.runtime), getattr(runtime, "OPENING", "")


def reservations(report: Report) -> list[str]:
    """Say what steps have to say about the figures."""
    return [
        f"step {number} ({step.step}): {step.notes[CAVEAT]}"
        for number, step in enumerate(report.steps, 1)
        if CAVEAT in step.notes
    ]


def passed_over(report: Report) -> list[str]:
    """Say how many groups a metric that goes by group could not judge."""
    found = [(r.metric, r.details) for r in report.original.readings if r.details.get("passed_over")]
    return [
        f"{metric}: {said['passed_over']:,.0f} of {said['groups'] + said['passed_over']:,.0f} groups hold no relevant "
        "example and are passed over"
        for metric, said in found
    ]


def _stage(artifact: Artifact, original: Artifact | None) -> list[str]:
    size = show(artifact.bytes, "bytes") + (f" ({artifact.bytes / original.bytes:.2f}x)" if original else "")
    left = 1.0 if original is None else artifact.multiplications
    figures = [_with_ratio(reading) for reading in artifact.readings if reading.metric != "size"]
    return [size, "" if left is None else f"{left:.0%}", *figures]


def _gained(found: tuple[str, ...] | None) -> str:
    return "" if found is None else ", ".join(found) or "nothing"


def _where(artifact: Artifact) -> str:
    return artifact.runtime if artifact.device == "cpu" else f"{artifact.runtime}, {artifact.device}"


def _cut(artifact: Artifact, reading: Reading) -> bool:
    """Tell a latency of an artifact whose matrices were cut."""
    timed = reading.ratio is not None and "batch_size" in reading.details
    return timed and artifact.multiplications is not None and artifact.multiplications < 1


def _pace(artifact: Artifact, reading: Reading) -> str:
    """Hold latency against the multiplications that are left."""
    left, ratio, size = artifact.multiplications or 0.0, reading.ratio or 0.0, reading.details["batch_size"]
    said = (
        f"{artifact.name}: {left:.0%} of the blocks' multiplications are left, and latency at batch size {size:g} is "
        f"{ratio:.2f}x"
    )
    if ratio <= FOLLOWS * left:
        return said
    most = ", which weighs most at batch size 1," if size == 1 else ""
    return (
        f"{said}: it doesn't follow, for not all of it is these: the overhead of each operation{most} falls with the "
        "number of blocks alone, attention over the sequence with that of heads and blocks, elementwise work partly, "
        "and embeddings and the classifier lie outside the blocks"
    )


def _gain(reading: Reading) -> str:
    if reading.ratio is None or reading.value is None:
        return ""
    if reading.unit in ("bytes", "seconds") and 0.99 < reading.ratio < 1.01:
        return ""
    if reading.metric == "size":
        return f"{1 / reading.ratio:.1f}x smaller" if reading.ratio < 1 else f"{reading.ratio:.1f}x larger"
    if reading.unit == "seconds":
        which = "" if reading.metric == "latency" else f" ({reading.metric})"
        return (f"{1 / reading.ratio:.1f}x faster" if reading.ratio < 1 else f"{reading.ratio:.1f}x slower") + which
    if reading.metric in HEADLINES and reading.baseline is not None:
        return f"{reading.metric} {reading.value:.4f} ({reading.value - reading.baseline:+.4f})"
    if reading.metric == "perplexity":
        return f"perplexity {show(reading.value, reading.unit)} ({reading.ratio:.3f}x)"
    return ""


def _value(reading: Reading) -> str:
    return "NaN" if reading.value is None else show(reading.value, reading.unit)


def _with_ratio(reading: Reading) -> str:
    text = _value(reading)
    if reading.ratio is None or reading.value is None or reading.baseline is None:
        return text
    if reading.unit == "" and reading.better == "higher":
        return f"{text} ({reading.value - reading.baseline:+.4f})"
    return f"{text} ({reading.ratio:.2f}x)"


def _setting(trial: Trial, name: str) -> str:
    if name not in trial.settings:
        return ""
    value = trial.settings[name]
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _figure(value: float, unit: str) -> str:
    return f"{value:.3g}x" if unit in TIMES else show(value, unit)


def _came(trial: Trial) -> str:
    """Say what came of a trial."""
    if trial.why:
        return f"died: {trial.why}"
    if trial.missed:
        return f"missed {', '.join(trial.missed)}"
    return "chosen" if trial.chosen else "on the front" if trial.front else "every target holds"
