"""What is wrong with a search, found before its first trial."""

from __future__ import annotations

import json

from compressit import data, recipe, rules, tasks
from compressit import model as models
from compressit.progress import Progress, quiet
from compressit.recipe import Open, Problem, RecipeProblems, Written
from compressit.runner.fetching import fetched


def check(found: Open) -> Written:
    """Check a recipe that leaves values open: filled in by every end of each range, it must be one that can be run.

    Returns:
        The recipe with each range's first value.

    Raises:
        RecipeProblems: it says not how to search, an objective is none of its metrics, or a value makes it wrong.
    """
    first = {each.name: each.ends()[0] for each in found.ranges}
    base = found.filled(first)
    problems: list[Problem] = []
    seen: set[str] = set()
    tried = [(one, {**first, one.name: end}) for one in found.ranges for end in one.ends()]
    for each, values in [(None, first), *tried]:
        try:
            written = found.filled(values)
            wrong = rules.check(written)
        except RecipeProblems as error:
            wrong = list(error.problems)
        with_it = "" if each is None else f" (with {each.name}={json.dumps(values[each.name])})"
        for problem in wrong:
            if str(problem) not in seen:
                seen.add(str(problem))
                problems.append(Problem(problem.message + with_it, problem.place, problem.hint, problem.text))
    if problems:
        raise RecipeProblems(problems)
    _check_search(base)
    return base


def tell_splits(written: Written, progress: Progress, *, trust: bool) -> None:
    """Warn of examples that tuning and evaluation split share, for the figures on the latter flatter then.

    So it does of labels that only one of them has: half of a split that is sorted by label is no likeness of the other.
    The model is fetched, or trained where it is a demo, so that no two trials do so at once.
    """
    run = written.recipe
    assert run.dataset is not None, "checked"
    assert run.search is not None, "checked"
    with quiet():
        source = fetched(recipe.located(run.model.path, written.base), run.model.revision, trust, progress)
        labels = models.labels(source, trust_remote_code=trust)
        tuning, evaluation = (
            data.rows(run.dataset, split, run.task, labels, written.base, labelled=False)
            for split in (run.search.tuning, run.dataset.evaluation)
        )
        number = data.repeated(evaluation, tuning)
    if number:
        progress.say(f"warning: {number:,} examples of the evaluation split are in the tuning split too")
    if tasks.truth(run.task) == "label":
        lone = {*tuning["label"]} ^ {*evaluation["label"]}
        names = ", ".join(sorted(labels.get(each, str(each)) for each in lone))
        if lone:
            progress.say(
                f"warning: of {run.search.tuning} and {run.dataset.evaluation} only one has examples of {names}; "
                "is the data sorted? name a tuning split that is like the other: --tuning SPLIT"
            )


def _check_search(written: Written) -> None:
    run, document = written.recipe, written.document
    if run.dataset is None:
        raise RecipeProblems([document.problem((), "there is nothing to judge trials on: the recipe has no dataset")])
    if run.search is None:
        hint = "add `search: {tuning: SPLIT, objective: smallest}`; nobody may have learned from the tuning split"
        raise RecipeProblems([document.problem((), "the recipe doesn't say how to search", hint)])
    if run.search.tuning == run.dataset.evaluation:
        hint = "give trials a split of their own, that neither the model nor a step has learned from"
        message = f"{run.search.tuning} is the evaluation split: what is chosen on it would be judged on it"
        raise RecipeProblems([document.problem(("search", "tuning"), message, hint)])
    known = {config.key for config in rules.measured(run)}
    for name in run.search.objectives:
        if name not in known:
            message = f"objective {name!r} is none of the recipe's metrics: {', '.join(sorted(known))}"
            raise RecipeProblems([document.problem(("search", "objective"), message)])
