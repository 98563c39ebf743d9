"""Guarded YAML: everything that could hang, crash or mislead is one clear error."""

import time

import pytest

from compressit import recipe
from compressit.errors import RecipeError
from compressit.recipe.document import override, parse


def fails(text: str) -> str:
    start = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml")
    assert time.perf_counter() - start < 5, "a guard must be fast"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("010", 10),
        ("-3", -3),
        ("true", True),
        ("yes", "yes"),
        ("no", "no"),
        ("NO", "NO"),
        ("1:30", "1:30"),
        ("'12'", "12"),
        ("null", None),
        ("~", None),
        ("0x10", "0x10"),
        ("2026-01-01", "2026-01-01"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text, value):
    found = parse(f"a: {text}", "r.yaml").tree["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.Inf", "1e999", "9" * 5000])
def test_numbers_a_recipe_cannot_hold(text):
    assert "r.yaml:1:4" in fails(f"a: {text}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 400_00, "levels deep"),
        ("a: &a [1]\n" + "b: [" + "*a, " * 20_000 + "]", "more than"),
        ("a: &a {b: *a}", "complete before it"),
        ("base: &b {x: 1}\nc:\n  <<: *b", "merge keys"),
        ("a: 1\nb: 2\na: 3", "second time; first on line 1"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !env HOME", "tag"),
        ("a: 1\n---\nb: 2", "second document"),
        ("", "empty"),
        ("# only a comment", "empty"),
        ("a: b: c", "not YAML"),
        ("a:\n\t- b", "not YAML"),
        ("a: 'x", "not YAML"),
        ("a: \x00", "character"),
        ("? [a, b]\n: c", "plain text"),
        ("a: *nobody", "complete before it"),
    ],
)
def test_refused_with_a_place(text, said):
    message = fails(text)
    assert said in message
    assert message.startswith("r.yaml:")


def test_alias_bomb_stays_small():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than" in fails("\n".join(lines))


def test_an_honest_alias_works():
    tree = parse("a: &columns {text: sentence}\nb: *columns", "r.yaml").tree
    assert tree["b"] == {"text": "sentence"}


def test_overrides_are_typed_like_yaml_and_keep_their_origin():
    document = override(parse("steps:\n  - step: x\n    keep: 2", "r.yaml"), ("steps.0.keep=[0, 3]", "seed=7"))
    assert document.tree == {"steps": [{"step": "x", "keep": [0, 3]}], "seed": 7}
    assert document.place(("steps", 0, "keep", 1)).file == "--set steps.0.keep=[0, 3]"
    assert document.overrides == ("steps.0.keep=[0, 3]", "seed=7")
    assert override(document, ("seed=null",)).tree["seed"] is None


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("steps.4.keep=1", "the list has 1 entries"),
        ("nothing.here=1", "there is no nothing"),
        ("seed", "expected path=value"),
        ("seed=", "there is no value"),
        ("steps.0.step.x=1", "single value"),
        ("seed=.nan", "not a number"),
        ("seed=!!python/none x", "tag"),
    ],
)
def test_bad_overrides(assignment, said):
    with pytest.raises(RecipeError, match=said):
        override(parse("steps:\n  - step: x", "r.yaml"), (assignment,))


@pytest.mark.parametrize("text", ["1e-4", "010", "0.5", "true", "null", "~", ".inf", "yes", "2:4", "a: b", "#c", ""])
def test_a_recipe_that_is_written_reads_back_as_the_same_texts(text, write):
    """PyYAML writes YAML 1.1, where 1e-4 is text; ours reads it as a number."""
    steps = "steps: [{step: prune_magnitude, sparsity: 0.5}]"
    found = recipe.load(write(f"name: r\ntask: text-classification\nmodel: m\n{steps}")).recipe
    step = found.steps[0].model_copy(update={"include": (text,)})
    again = parse(recipe.text(found.model_copy(update={"steps": (step,)})), "again").tree
    assert again["steps"][0]["include"] == [text]
