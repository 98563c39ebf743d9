"""Any bytes at all are a recipe, a manifest, a header or an index, or one clear error: never another, and never slow.

The same inputs each time, in a few seconds; `make fuzz` looks further, for FUZZ_SECONDS (default 300).
"""

import json
import os
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compressit import intake, recipe, rules, store
from compressit.errors import CompressitError
from compressit.intake.shards import INDEX

SECONDS = float(os.environ.get("FUZZ_SECONDS", 0)) / 4
LONG = {"max_examples": 2000, "derandomize": False} if SECONDS else {"max_examples": 150, "derandomize": True}
calm = settings(**LONG, deadline=5000, database=None, suppress_health_check=list(HealthCheck))

GOOD = """\
name: r
task: text-classification
model: {path: demo:stdlib, revision: null}
dataset: {path: demo:stdlib, train: "train[:100]", evaluation: test, columns: {text: sentence}}
steps:
  - step: drop_layers
    keep: 2
  - {step: distill, epochs: 1, learning_rate: 1e-4, teacher: &t ./x}
metrics: [accuracy, {metric: latency, name: l, batch_size: 8}]
targets: [{metric: size, max: 70 MB}, {metric: l, max: 5 ms}]
"""
PIECES = ["&a ", "*a ", "<<: ", "- ", "? ", ": ", "!!str ", "!x ", "---\n", "...\n", "|", ">", "[", "]", "{", "}", ",",
          '"', "'", "#", "%YAML 1.1", "\t", "\0", "\r", "\u2028", "\ufeff", "\x1b[31m", ".nan", "1e999", "0x1", "null",
          "~", "9" * 40, "-0", "step: cast", "https://a:b@c/", "../" * 9, "\n", "\n  "]  # fmt: skip


def pieces(text):
    """Texts made of a good one: cut, with pieces put in, taken out, or twice."""
    places = st.integers(0, len(text))
    change = st.tuples(places, st.integers(0, 12), st.one_of(st.sampled_from(PIECES), st.text(max_size=6)))

    def changed(changes):
        made = text
        for place, gone, piece in changes:
            made = made[:place] + piece + made[place + gone :]
        return made

    return st.lists(change, min_size=1, max_size=4).map(changed)


def each(strategy, codes, meets):
    """Have every input met: it is taken, or refused in a few words and with one of the exit codes."""
    until = time.monotonic() + SECONDS

    @calm
    @given(strategy)
    def meet(content):
        refused = None
        try:
            meets(content)
        except CompressitError as error:
            refused = error
        assert refused is None or (refused.exit_code in codes and len(str(refused)) < 20_000)

    meet()
    while time.monotonic() < until:
        meet()


def as_bytes(text):
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fuzzed"


def test_a_recipe(file):
    def meets(content):
        file.write_bytes(content)
        rules.check(recipe.load(file))

    json_like = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    )
    fields = ["name", "task", "model", "dataset", "steps", "exports", "metrics", "expect", "targets", "seed"]
    trees = st.dictionaries(st.sampled_from(fields), json_like).map(json.dumps)
    each(st.one_of(pieces(GOOD).map(as_bytes), trees.map(as_bytes), st.binary(max_size=200)), {2}, meets)


ENTRIES = {"a/b.json": {"size": 3, "sha256": "b" * 64}, "c": {"size": 0, "sha256": "0"}}
MANIFEST = json.dumps({"format": 1, "recipe_sha256": "a" * 64, "files": ENTRIES})


def test_a_manifest(tmp_path):
    (tmp_path / "c").touch()

    def meets(content):
        (tmp_path / store.MANIFEST).write_bytes(content)
        store.verify(tmp_path)

    each(st.one_of(pieces(MANIFEST).map(as_bytes), st.binary(max_size=100)), {6}, meets)


def test_a_safetensors_header(file):
    """What is let pass is what the library itself can open."""
    from safetensors import safe_open

    first = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
    second = {"dtype": "U8", "shape": [], "data_offsets": [8, 9]}
    head = json.dumps({"a": first, "b.c": second, "__metadata__": {"format": "pt"}})

    def meets(content):
        text, data, off = content
        file.write_bytes(struct.pack("<Q", max(0, len(text) + off)) + text + data)
        intake.header(file)
        with safe_open(file, framework="np") as opened:
            assert opened.keys() is not None

    sizes = st.sampled_from([b"\0" * 9, b"", b"\0" * 10])
    texts = st.one_of(st.just(head), pieces(head)).map(as_bytes)
    each(st.tuples(st.one_of(texts, st.binary(max_size=60)), sizes, st.sampled_from([0, 0, 0, 1, -1])), {6, 7}, meets)


def test_an_index_and_a_config(tmp_path):
    index = json.dumps({"metadata": {"total_size": 9}, "weight_map": {"a": "model-1-of-1.safetensors", "b": "../x"}})
    config = json.dumps({"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "auto_map": {"A": "b.C"}})
    entry = {"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    held = json.dumps(entry).encode()
    (tmp_path / "model-1-of-1.safetensors").write_bytes(struct.pack("<Q", len(held)) + held)

    def meets(content):
        (tmp_path / INDEX).write_bytes(content[0])
        (tmp_path / "config.json").write_bytes(content[1])
        try:
            heads = intake.check_shards(tmp_path)
            intake.check_counts(tmp_path, heads.values())
        finally:
            intake.check_code(tmp_path)

    either = [st.one_of(st.just(text), pieces(text)).map(as_bytes) for text in (index, config)]
    each(st.tuples(*either), {5, 6, 7}, meets)
