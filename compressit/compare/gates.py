"""gates.yaml: what a candidate must keep of the base, in the grammar of a recipe's targets.

::

    gates:
      - metric: accuracy
        max_drop: 0.01        # against the base, on the same examples
      - metric: latency
        max_ratio: 1.05       # both timed side by side, now
      - metric: size
        max: 20 MB
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from compressit import metrics, rules
from compressit.errors import IntegrityError, RecipeError
from compressit.metrics import Kind, MetricConfig
from compressit.recipe import Problem, RecipeProblems, Target
from compressit.recipe.document import Document, read
from compressit.recipe.validate import build
from compressit.registry import suggest
from compressit.spec import Spec


class Gates(Spec):
    """What a gates file holds."""

    gates: tuple[Target, ...] = Field(min_length=1)
    """Bounds on metrics, each against the base run."""


@dataclass(frozen=True)
class Written:
    """Gates, and where each is written."""

    gates: tuple[Target, ...]
    document: Document


def load(file: Path) -> Written:
    """Read a gates file.

    Raises:
        RecipeError: the file can't be read, or is not guarded YAML.
        RecipeProblems: it is wrong; every error at once, each with its place.
    """
    if not file.exists():
        raise RecipeError(f"{file}: no such file", hint="gates: [{metric: accuracy, max_drop: 0.01}] is a gates file")
    document = read(file)
    problems: list[Problem] = []
    if not isinstance(document.tree, dict):
        raise RecipeProblems([document.problem((), "a gates file is a mapping with one field, `gates`")])
    if document.tree.get("gates", "none") in ([], None):
        hint = "write one, such as - {metric: accuracy, max_drop: 0.01}, or leave --gates out"
        raise RecipeProblems([document.problem(("gates",), "there is no gate", hint)])
    found: Gates | None = build(Gates, document.tree, (), document, problems)
    if found is not None:
        for index, gate in enumerate(found.gates):
            if gate.artifact is not None:
                hint = "choose it with --artifact; every gate is on the artifact that is compared"
                problems.append(document.problem(("gates", index, "artifact"), "a gate names no artifact", hint))
    if problems or found is None:
        raise RecipeProblems(problems)
    return Written(found.gates, document)


def check_with_file(written: Written, held: Mapping[str, str]) -> None:
    """Raise RecipeProblems where a gate can't be judged against the figures of a file, whatever the candidate.

    Args:
        written: The gates.
        held: Metrics of the file: what kind each is, by the name that gates call it.
    """
    problems = []
    for index, gate in enumerate(written.gates):
        where = ("gates", index, "metric")
        if gate.metric not in held:
            message = f"the baseline holds no metric {gate.metric!r}{suggest(gate.metric, list(held))}"
            hint = f"it holds {', '.join(held)}; add the metric to its run's recipe and write the baseline again"
            problems.append(written.document.problem(where, message, hint))
        elif metrics.load(held[gate.metric]).KIND is Kind.TIMED:
            message = f"a gate on {gate.metric} can't be judged against a baseline: its timings are another session's"
            hint = (
                "put the ratio into the recipe's own targets, where the run measures itself beside its original, or "
                "compare run folders or recipes instead of a baseline"
            )
            problems.append(written.document.problem(where, message, hint))
    if problems:
        raise RecipeProblems(problems)


def check(written: Written, shared: Mapping[str, MetricConfig], unlike: Mapping[str, str]) -> None:
    """Raise RecipeProblems where a gate is on a metric that the runs don't share, or its bound makes no sense there.

    Args:
        written: The gates.
        shared: What the runs share, by the name that gates call it.
        unlike: Why others that both have are not the same, likewise; IntegrityError where a gate is on one.
    """
    problems = []
    for index, gate in enumerate(written.gates):
        where = ("gates", index)
        if gate.metric in unlike:
            raise IntegrityError(
                f"{written.document.place((*where, 'metric'))}: {unlike[gate.metric]}",
                hint="set it alike in both recipes, and apply again, or write the baseline again, what is older",
            )
        if gate.metric not in shared:
            message = f"the runs don't share a metric {gate.metric!r}{suggest(gate.metric, list(shared))}"
            hint = f"they share {', '.join(shared)}; add it to the recipes' metrics and apply them again"
            problems.append(written.document.problem((*where, "metric"), message, hint))
            continue
        for path, message, advice in rules.bound(where, gate, metrics.load(shared[gate.metric].metric)):
            problems.append(written.document.problem(path, message, advice))
    if problems:
        raise RecipeProblems(problems)
