"""The report as Markdown: report.md beside the result, and the model card inside each artifact."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compressit.report import Report, tables

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")
PARTS = 30
"""Parts that are listed with what they cost; report.json has all."""
PLAIN_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def document(report: Report) -> str:
    """Write the whole report."""
    origin = report.provenance
    parts = [
        f"# {escape(report.name)}",
        escape(tables.headline(report.artifacts[-1])),
        *_targets(report),
        "## Figures",
        "Measured on the saved files, each in a process of its own; timings run by run next to the original on the "
        "same runtime. In brackets: "
        "against the original; of timings, the median of the ratios of neighbouring runs. Times themselves are of "
        "different moments: go by the ratios.",
        table(*tables.figures(report)),
        *(f"`{a.name}`: {tables.gains(a)}." for a in report.artifacts if a.runtime_ratio),
        *(f"{escape(caveat)}." for a in report.artifacts for caveat in tables.caveats(a)),
        *(f"{escape(said)}." for said in (*tables.reservations(report), *tables.passed_over(report))),
        *_waterfall(report),
        *_search(report),
        *_sensitivity(report),
        "## Steps",
        table(["", "step", "time", "parameters", "notes"], tables.steps(report)),
        "## Where it comes from",
        table(
            ["", ""],
            [
                ["model", _join(origin.model)],
                ["data", _join(origin.data)],
                ["recipe (SHA-256)", origin.recipe_sha256],
                ["overrides", ", ".join(origin.overrides) or "none"],
                ["seed", str(origin.seed)],
                ["device", origin.device],
                ["hardware", _join(origin.hardware)],
                ["versions", _join(origin.versions)],
                ["made", f"{origin.created}, in {origin.seconds:.0f} s"],
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def card(report: Report, name: str, base_model: str, recipe_text: str) -> str:
    """Write the model card that goes into an artifact's folder."""
    own = next(artifact for artifact in report.artifacts if artifact.name == name)
    library, lines = tables.opening(own)
    head = ["---", f"library_name: {library}", f"pipeline_tag: {report.task}"]
    if PLAIN_ID.fullmatch(base_model):
        head.append(f"base_model: {base_model}")
    head += ["tags:", "- compressit", "---"]
    parts = [
        "\n".join(head),
        f"# {escape(report.name)}",
        escape(tables.headline(own)),
        *_targets(report),
        table(*tables.figures(report)),
        *(f"{escape(caveat)}." for caveat in (*tables.caveats(own), *tables.reservations(report))),
        *(["## Opening", f"By {library}:", f"```python\n{lines.strip()}\n```"] if lines else []),
        "## Recipe",
        f"```yaml\n{recipe_text.replace('```', '` ` `').strip()}\n```",
        f"Recipe SHA-256 `{report.provenance.recipe_sha256}`, seed {report.provenance.seed}.",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell if line is lines[1] else escape(cell) for cell in line) + " |" for line in lines
    )


def escape(text: str) -> str:
    """Keep Markdown and HTML in a name or a label from meaning anything."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _targets(report: Report) -> list[str]:
    if not report.verdicts:
        return []
    return ["## Targets", table(["verdict", "target", "artifact", "measured"], tables.targets(report))]


def _waterfall(report: Report) -> list[str]:
    """Show what each step did, where that was measured."""
    if not tables.measured_by_stage(report):
        return []
    return [
        "## What each step did",
        "Each stage as saved, next to the original; exports on their own runtime.",
        table(*tables.waterfall(report)),
        *(f"{escape(line)}." for line in tables.idle(report)),
    ]


def _sensitivity(report: Report) -> list[str]:
    """Show which parts cost most, where that was measured."""
    if report.sensitivity is None:
        return []
    head, rows = tables.sensitivity(report.sensitivity, report.layers)
    more = [f"The first {PARTS} of {len(rows):,}; report.json has all."] if len(rows) > PARTS else []
    return [
        "## What each part costs",
        "How far the original's answers move when one part of it is as in the checkpoint and all others are as they "
        f"were, {escape(tables.asked_of(report.sensitivity))}.",
        table(head, rows[:PARTS]),
        *more,
    ]


def _search(report: Report) -> list[str]:
    """Show what a search tried, where the recipe was found by one."""
    if report.search is None:
        return []
    head, rows = tables.trials(report)
    more = [f"The first {PARTS} of {len(rows):,}; report.json has all."] if len(rows) > PARTS else []
    return ["## What the search tried", f"{escape(tables.searched(report.search))}.", table(head, rows[:PARTS]), *more]


def _join(facts: dict[str, str] | dict[str, str | int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
