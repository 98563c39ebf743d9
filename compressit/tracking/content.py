"""What a tracker is told of a run: the recipe and the report, flat, and no secret of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from compressit import recipe as recipes
from compressit.errors import MEANING
from compressit.recipe import Recipe
from compressit.report import Artifact, Report, tables
from compressit.spec import SIGNED_IN

Plain = str | int | float | bool
SECRET = re.compile(r"token|key|secret|password|passwd|credential|auth", re.IGNORECASE)
"""Names of environment variables whose values nobody is told."""
SHORTEST = 8
"""Characters of the shortest value that is taken for a secret; a shorter one may be any word."""


def parameters(recipe: Recipe) -> dict[str, Plain]:
    """Give a recipe's fields as written, by their path: `steps.0.keep`."""
    return dict(_flat(recipes.content(recipe), ""))


def figures(report: Report) -> dict[str, float]:
    """Give the readings of the original and of every artifact, and their ratios, as `onnx/latency`."""
    found: dict[str, float] = {}
    for artifact in (report.original, *report.artifacts):
        found |= {f"{artifact.name}/{name}": value for name, value in _values(artifact).items()}
        ratios = {reading.metric: reading.ratio for reading in artifact.readings}
        found |= {f"{artifact.name}/{name}_ratio": value for name, value in ratios.items() if value is not None}
    return found


def facts(report: Report) -> dict[str, str]:
    """Say in words what came out: the headline, each verdict, and where it comes from."""
    origin = report.provenance
    verdicts = {
        f"target {number}": f"{verdict}: {target} ({artifact}): {why}"
        for number, (verdict, target, artifact, why) in enumerate(tables.targets(report), 1)
    }
    return {
        "headline": tables.headline(report.artifacts[-1]),
        "outcome": MEANING[report.exit_code],
        **verdicts,
        "recipe_sha256": origin.recipe_sha256,
        "seed": str(origin.seed),
        "device": origin.device,
        "created": origin.created,
    }


def stages(report: Report) -> Iterator[tuple[int, dict[str, float]]]:
    """Give what was measured after each step as points of curves, the original at 0."""
    last = len(report.steps)
    made = {0: report.original, **{number: step.after for number, step in enumerate(report.steps, 1)}}
    for number, artifact in {**made, last: report.artifacts[0]}.items():
        if artifact is not None:
            yield number, {f"after step/{name}": value for name, value in _values(artifact).items()}


def without_secrets(content: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """Take names and passwords in addresses, and values of variables such as HF_TOKEN, out of every text in it."""
    hidden = [value for name, value in environment.items() if SECRET.search(name) and len(value) >= SHORTEST]

    def clean(part: Any) -> Any:
        if isinstance(part, str):
            for value in hidden:
                part = part.replace(value, "***")
            return SIGNED_IN.sub(r"\1***@", part)
        if isinstance(part, Mapping):
            return {clean(name): clean(value) for name, value in part.items()}
        return [clean(each) for each in part] if isinstance(part, list | tuple) else part

    return clean(content)


def _values(artifact: Artifact) -> dict[str, float]:
    return {reading.metric: reading.value for reading in artifact.readings if reading.value is not None}


def _flat(part: Any, path: str) -> Iterator[tuple[str, Plain]]:
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else None
    if inner is None:
        yield path, "none" if part is None else part
    elif isinstance(part, list) and not any(isinstance(each, dict | list) for each in part):
        yield path, ", ".join(map(str, part))
    else:
        for name, value in inner:
            yield from _flat(value, f"{path}.{name}" if path else str(name))
