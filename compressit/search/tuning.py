"""Which rows trials are judged on where the recipe names none.

What a step leaves of the training split won't do: the model has mostly learned from all of it, and looks better there
than it is. So it is half of the evaluation split, and what is chosen is judged on the other half alone.
"""

from __future__ import annotations

import json

from compressit.data.spec import SPLIT
from compressit.recipe import Open, RecipeProblems, override

WHOLE = 100
"""Percent that a split without a slice has."""
HINT = "name rows that neither the model nor a step has learned from: --tuning SPLIT"


def tuned(found: Open, given: str | None, *, halve: bool) -> Open:
    """Give a recipe with the tuning split that it shall have.

    Args:
        found: Comes back as it is where it has one, or is wrong in another way.
        given: Goes before its own.
        halve: Take half of the evaluation split where there is no other.

    Raises:
        RecipeProblems: the evaluation split can't be halved as it is written.
    """
    tree = found.document.tree if isinstance(found.document.tree, dict) else {}
    if given is not None:
        inside = isinstance(tree.get("search"), dict)
        said = f"search.tuning={json.dumps(given)}" if inside else f"search={json.dumps({'tuning': given})}"
        return Open(override(found.document, (said,), "--tuning"), found.ranges, found.base)
    dataset = tree.get("dataset")
    split = dataset.get("evaluation") if isinstance(dataset, dict) else None
    if not halve or tree.get("search") is not None or not isinstance(split, str) or not SPLIT.fullmatch(split):
        return found
    parts = halves(split)
    if parts is None:
        message = f"the recipe names no tuning split, and {split} can't be halved without knowing its rows"
        raise RecipeProblems([found.document.problem(("dataset", "evaluation"), message, HINT)])
    evaluation, tuning = parts
    halved = (f"dataset.evaluation={json.dumps(evaluation)}", f"search={json.dumps({'tuning': tuning})}")
    return Open(override(found.document, halved), found.ranges, found.base)


def halves(split: str) -> tuple[str, str] | None:
    """Cut a split in two; None where that takes its number of rows, or nothing would be left of one."""
    found = SPLIT.fullmatch(split)
    assert found is not None, "the recipe checks how splits are written"
    start, stop = found["start"], found["stop"]
    written = [each for each in (start, stop) if each is not None]
    percent = all(each.endswith("%") for each in written)
    if not percent and (stop is None or any(each.endswith("%") for each in written)):
        return None
    low = int(start.rstrip("%")) if start else 0
    high = int(stop.rstrip("%")) if stop else WHOLE
    middle = (low + high) // 2
    if not low < middle < high:
        return None
    at = f"{middle}%" if percent else f"{middle}"
    return f"{found['name']}[{start or ''}:{at}]", f"{found['name']}[{at}:{stop or ''}]"
