"""A recipe from a stranger: refused at once, with the place, in a few lines, and with exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from compressit import recipe as recipes
from compressit import rules
from compressit.errors import RecipeError
from compressit.recipe import RecipeProblems

HEAD = "name: r\ntask: text-classification\nmodel: demo:stdlib\n"


def doubling(depth, join):
    """Anchors of which each holds the one before it twice."""
    return "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {join.format(n - 1)}\n" for n in range(1, depth))


RECIPES = {
    "merge bomb": doubling(40, "{{<<: [*a{0}, *a{0}]}}"),
    "alias bomb": doubling(40, "[*a{0}, *a{0}]"),
    "deep list": "a: " + "[" * 200_000,
    "deep mapping": "a: " + "{b: " * 50_000,
    "deep lines": "".join(" " * n + f"a{n}:\n" for n in range(700)),
    "long text": "a: " + "x" * 900_000,
    "long line within bounds": HEAD + "seed: " + "x" * 200_000,
    "alias of itself": "a: &a [*a]",
    "million digits": "seed: " + "9" * 200_000,
    "hexadecimal digits": HEAD + "seed: 0x" + "f" * 200_000,
    "binary": HEAD + "seed: !!binary R0lGODlh",
    "object": "a: !!python/object/apply:os.system ['touch /tmp/x']",
    "tag of a key": "? !!python/name:os.system\n: b",
    "two documents": HEAD + "---\n" + HEAD,
    "directive": "%YAML 9.9\n---\n" + HEAD,
    "nothing": "",
    "one value": "hello",
    "list": "- a\n- b",
    "null byte": HEAD + "seed: \0",
    "not UTF-8": b"name: \xff\xfe\xfa",
    "UTF-16": HEAD.encode("utf-16"),
    "tab": "name:\n\t- a",
    "second key": HEAD + "name: s\n",
    "key that is a list": "? [a, b]\n: c",
    "code as a step": HEAD + "steps: [{step: os.system}]\n",
    "path as a step": HEAD + "steps: [{step: ../../evil}]\n",
    "target of a class": HEAD + "steps: [{step: cast, _target_: os.system}]\n",
    "expression": HEAD + 'targets: [{metric: size, max: \'__import__("os").system("ls") MB\'}]\n',
    "trust": HEAD + "trust_remote_code: true\n",
    "colours": HEAD + 'seed: "\\e[31m\\a[/]"\n',
    "markup": HEAD + "'[/foo]': 1\n",
    "ten thousand errors": HEAD + "".join(f"k{n}: 1\n" for n in range(3_300)),
}


def check(file, overrides=()):
    """Read a recipe as every command does."""
    found = rules.check(recipes.load(file, overrides))
    if found:
        raise RecipeProblems(found)


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_refused_with_its_place(name, tmp_path):
    file = tmp_path / "r.yaml"
    content = RECIPES[name]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError) as told:
        check(file)
    said = str(told.value)
    assert told.value.exit_code == 2
    assert said.startswith(str(file))
    assert len(said) < 10_000
    assert said.count("error:") <= 20
    assert not set(said) & {"\x1b", "\x07", "\0"}


ALL = """
import resource, sys
from pathlib import Path
from compressit.errors import RecipeError
from tests.hostile.test_recipe import RECIPES, check
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
file, before = Path(sys.argv[1]), peak()
for content in RECIPES.values():
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        check(file)
    except RecipeError:
        pass
print(peak() - before)
"""


def test_none_of_them_takes_time_or_memory(tmp_path):
    done = subprocess.run([sys.executable, "-c", ALL, tmp_path / "r.yaml"], capture_output=True, text=True, timeout=60,
                          check=True, cwd=Path(__file__).parents[2])  # fmt: skip
    assert int(done.stdout.strip()) < 100


@pytest.mark.parametrize("name", ["merge bomb", "not UTF-8", "ten thousand errors"])
def test_the_command_ends_with_code_2(name, tmp_path, ends):
    file = tmp_path / "r.yaml"
    content = RECIPES[name]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    ended = ends("validate", file)
    assert (ended.code, ended.out) == (2, "")
    assert ended.megabytes < 200
    if name == "ten thousand errors":
        assert ended.said.count(": error: ") == 20
        assert "... and 3,280 more" in ended.said


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "{here}", "{here}/none.yaml"])
def test_what_is_no_file_is_no_recipe(place, tmp_path):

    with pytest.raises(RecipeError) as told:
        recipes.load(place.format(here=tmp_path))
    assert place.format(here=tmp_path) in str(told.value)


SIGNED = "https://someone:hunter2-canary@example.org/model"


@pytest.mark.parametrize("line", [f"model: {SIGNED}", f"dataset: {{path: '{SIGNED}', evaluation: test}}",
                                  f"steps: [{{step: distill, teacher: '{SIGNED}'}}]", f"modell: {SIGNED}",
                                  f"seed: {SIGNED}", f"revision: {{a: {SIGNED}}} x"])  # fmt: skip
def test_a_password_in_an_address_is_refused_and_never_repeated(line, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(HEAD.replace("model: demo:stdlib\n", "") + line + "\n")
    with pytest.raises(RecipeError) as told:
        check(file)
    assert "hunter2-canary" not in str(told.value)
    with pytest.raises(RecipeError) as told:
        file.write_text(HEAD)
        check(file, (f"model={SIGNED}",))
    assert "hunter2-canary" not in str(told.value)
