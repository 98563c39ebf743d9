"""Rules on what comes after what: a step that undoes an earlier one, or finds nothing left to go by."""

from __future__ import annotations

from compressit.recipe import Recipe
from compressit.rules.found import Found
from compressit.spec import idling
from compressit.steps import Fact, Need, StepConfig


def undone(recipe: Recipe) -> Found:
    """Find what would undo what an earlier step makes, or what an export can't hold of it."""
    made: dict[Fact, tuple[int, str]] = {}
    for index, step in enumerate(recipe.steps):
        for fact, (first, name) in made.items():
            if fact not in step.keeps:
                yield (
                    ("steps", index, "step"),
                    f"{step.step} would undo the {fact} that step {first + 1} ({name}) makes",
                    _instead(recipe.steps[first], step),
                )
        made |= {fact: (index, step.step) for fact in step.made()}
    for index, export in enumerate(recipe.exports):
        if Fact.RANGES in made.keys() & export.carries and export.says("samples"):
            message = f"{export.export} takes the ranges that step {made[Fact.RANGES][0] + 1} has found, not new ones"
            yield ("exports", index, "samples"), message, f"give samples to {made[Fact.RANGES][1]}"
        for fact in made.keys() - export.carries:
            yield (
                ("exports", index, "export"),
                f"{export.export} can't hold the {fact} that step {made[fact][0] + 1} ({made[fact][1]}) makes",
                f"remove that step; `{export.export}` has its own field `weights` for quantization"
                if fact is Fact.QUANTIZATION and "weights" in type(export).model_fields
                else None,
            )


def _instead(earlier: StepConfig, later: StepConfig) -> str:
    """Say what to do where one step undoes another: the other way round, if that is any better."""
    if later.made() <= earlier.keeps and not (later.turns and earlier.prunes):
        return f"move {later.step} before {earlier.step}"
    return f"leave one of the two out: {earlier.step} does not go behind {later.step} either"


def turned(recipe: Recipe) -> Found:
    """Find what prunes a model whose channels are mixed, where nothing stands out that pruning could go by."""
    first = next((index for index, step in enumerate(recipe.steps) if step.turns), len(recipe.steps))
    for index, step in enumerate(recipe.steps):
        if index > first and step.prunes:
            name = recipe.steps[first].step
            message = f"{step.step} would prune what step {first + 1} ({name}) has turned, where nothing stands out"
            # Zeros made before would not outlast it.
            lost = not step.made() <= recipe.steps[first].keeps
            hint = f"leave one of the two out: {name} fills zeros that were made before it"
            yield ("steps", index, "step"), message, hint if lost else f"move {step.step} before {name}"


def looked_back(recipe: Recipe) -> Found:
    """Find what would bring a model back to where it was before an earlier step led it elsewhere on purpose."""
    for index, step in enumerate(recipe.steps):
        if not step.looks_back:
            continue
        earlier = list(enumerate(recipe.steps[:index]))
        away = [(at, each) for at, each in earlier if Need.TRAINING in each.needs() or each.turns]
        rounded = any(Fact.QUANTIZATION in each.made() for _, each in earlier)
        scaled = [] if rounded else [(at, each) for at, each in earlier if each.folds]
        for at, each in away[:1]:
            hint = "take what it makes for a recipe's model, and have steps there that make up by themselves"
            message = f"{step.step} would bring back the weights from before step {at + 1} ({each.step})"
            yield ("steps", index, "step"), message, f"{hint}: prune_sparsegpt, quantize_gptq; or leave {step.step} out"
        for at, each in scaled[:1]:
            message = f"{step.step} would take weights that step {at + 1} ({each.step}) has scaled for the original's"
            yield ("steps", index, "step"), message, f"move {each.step} behind {step.step}"


def idle(recipe: Recipe) -> Found:
    """Find fields that somebody has set and that nothing reads behind what comes before."""
    made: frozenset[Fact] = frozenset()
    for index, step in enumerate(recipe.steps):
        for name, needs in step.idle_behind(made).items():
            if step.says(name):
                yield ("steps", index, name), idling(name, needs), "leave it out"
        made |= step.made()


def taken_apart(recipe: Recipe) -> Found:
    """Find what cuts inputs out of matrices that hold N:M zeros, which are counted among consecutive ones."""
    first = next((index for index, step in enumerate(recipe.steps) if step.patterned()), len(recipe.steps))
    for index, step in enumerate(recipe.steps):
        if index > first and step.cuts_inputs:
            name = recipe.steps[first].step
            message = f"{step.step} would take apart the pattern that step {first + 1} ({name}) makes of the inputs"
            yield ("steps", index, "step"), message, f"move {step.step} before {name}: cut first, then zero"
