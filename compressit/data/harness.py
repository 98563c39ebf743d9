"""Questions of the LM Evaluation Harness, by a task's name: contexts as it words them, solved examples ahead of them.

Gao et al., github.com/EleutherAI/lm-evaluation-harness. Any of its tasks that is one of choices is data for
multiple-choice here, so that it is judged on every runtime, example by example next to the original: `accuracy` is its
`acc`, and with `normalize: characters` its `acc_norm`.
"""

from __future__ import annotations

import difflib
import functools
import warnings
from typing import TYPE_CHECKING, Any

from compressit.data.refusing import refusal
from compressit.errors import DataError, MissingExtra
from compressit.registry import suggest

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "lm_eval:"
SEED = 1234
"""By which solved examples are drawn: the harness's own."""
SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def name(path: str) -> str | None:
    """Give the task that `lm_eval:TASK` names; None for any other path."""
    return path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def read(task_name: str, split: str, shots: int) -> Dataset:
    """Word the questions of a task.

    Args:
        task_name: As the harness calls it.
        split: "train", "validation" or "test".
        shots: Solved examples ahead of each question.

    Returns:
        `context`, `choices` and `answer`, the right one's place.

    Raises:
        MissingExtra: the harness is not installed.
        DataError: it has no such task or split, or the task is not one of choices.
        RetryableError: the task's data can't be reached.
    """
    import datasets

    task = _task(task_name)
    has = [own for own, theirs in SPLITS.items() if getattr(task, f"has_{theirs}_docs")()]
    if split not in has:
        raise DataError(f"{PREFIX}{task_name} has no split {split!r}{suggest(split, has)}")
    solved = len(list(task.fewshot_docs() or ())) if shots else 0
    if shots > max(0, solved - 1):
        found = f"{PREFIX}{task_name} has {solved} solved examples, of which a question may be one"
        raise DataError(f"{found}: {shots} shots are too many", hint="lower shots")
    task.set_fewshot_seed(SEED)
    docs = getattr(task, f"{SPLITS[split]}_docs")()
    return datasets.Dataset.from_list([_worded(task, doc, shots) for doc in docs])


def _worded(task: Any, doc: Any, shots: int) -> dict[str, Any]:
    """Word one question."""
    answer, choices = task.doc_to_target(doc), list(task.doc_to_choice(doc))
    return {
        "context": task.fewshot_context(doc, shots) + task.config.target_delimiter,
        "choices": choices,
        "answer": choices.index(answer) if answer in choices else answer,
    }


@functools.cache
def _known() -> Any:
    """List its thousands of tasks, once: that takes seconds."""
    try:
        with warnings.catch_warnings():
            # Of what it imports.
            warnings.simplefilter("ignore")
            from lm_eval.tasks import TaskManager
    except ImportError:
        raise MissingExtra("lm-eval", "lm-eval") from None
    return TaskManager()


def _task(task_name: str) -> Any:
    known = _known()
    if task_name not in known.all_subtasks:
        if task_name in {*known.all_groups, *known.all_tags}:
            raise DataError(f"{PREFIX}{task_name} is a group of tasks", hint="name one of them")
        near = difflib.get_close_matches(task_name, known.all_subtasks, n=3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise DataError(f"lm-eval has no task {task_name!r}{meant}", hint="`lm-eval ls tasks` lists those it has")
    from lm_eval.tasks import get_task_dict

    try:
        task = get_task_dict([task_name], known)[task_name]
    except (OSError, ValueError, RuntimeError) as error:
        raise refusal(f"{PREFIX}{task_name}", error) from error
    if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input or task.multiple_target:
        raise DataError(
            f"{PREFIX}{task_name} does not ask for one of several texts that go on from a question",
            hint="multiple-choice takes tasks such as arc_easy, piqa, hellaswag or mmlu_anatomy",
        )
    return task
