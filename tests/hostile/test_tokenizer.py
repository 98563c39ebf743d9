"""A tokenizer or chat template from a stranger: what runs wild in it is stopped, and it is said whose it is."""

import contextlib
import json
import re

import datasets
import pytest

from compressit import tasks
from compressit.errors import DataError, UnsafeError
from compressit.tasks import _templates
from tests.conftest import story_tokenizer

TURNS = [{"role": "user", "content": "Once?"}]
WILD = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{{ 'x' * 9999999 }}{% endfor %}",
    "{{ 'x' * 99999999999 }}",
]
SLY = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% include '/etc/passwd' %}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
]


@pytest.mark.parametrize("template", WILD)
def test_a_template_that_runs_wild_is_stopped(template, monkeypatch):
    monkeypatch.setattr(_templates, "SECONDS", 3)
    monkeypatch.setattr(_templates, "MEMORY", 2**30)
    tokens = story_tokenizer("Once a fox.")
    tokens.chat_template = template
    rows = datasets.Dataset.from_list([{"messages": TURNS}])
    with pytest.raises(UnsafeError, match=r"the chat template of .* takes more than"):
        tasks.load("text-generation").prepare(rows, tokens, 64)


@pytest.mark.parametrize("template", SLY)
def test_a_template_sees_nothing_but_the_conversation(template):
    tokens = story_tokenizer("Once a fox.")
    tokens.chat_template = template
    written = [""]
    with contextlib.suppress(DataError):
        written = _templates.written(tokens, [TURNS])
    assert not re.search("root:|<class|__builtins__", written[0])


def test_a_pattern_that_runs_wild_ends_the_run_in_words(folder, recipe, ends, tmp_path):
    """The library gives up on a match that goes back too often; it does not hang."""
    file = folder / "tokenizer.json"
    wild = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps({**json.loads(file.read_text()), "pre_tokenizer": wild}))
    written = recipe()
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a" * 200 + "!", "label": 1}) + "\n")
    written.write_text(written.read_text().replace("[size]", "[accuracy]"))
    ended = ends("apply", written, "-o", tmp_path / "out", "-q")
    assert ended.code == 5
    assert "retry-limit-in-match" in ended.said
