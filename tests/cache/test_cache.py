"""Checkpoints of finished steps: shared where all is alike, made anew where the least differs, and never trusted."""

import json
import os

import pytest

import compressit
from compressit import cache, recipe, sharing, store
from compressit.runner.foreseeing import foresee
from compressit.store import owners

RECIPE = """\
name: {name}
task: text-classification
model: {model}
dataset: {{path: {data}, train: "train.jsonl[:200]", evaluation: "test.jsonl[:60]", columns: {{text: sentence}}}}
steps:
  - step: drop_layers
    keep: 2
  - step: finetune
    epochs: 1
metrics: [accuracy, size]
"""


class Said:
    """Progress that remembers its lines."""

    def __init__(self):
        from compressit.progress import Silent

        self.lines, self.bar, self.curve = [], Silent().bar, Silent().curve

    def say(self, text):
        self.lines.append(text)

    def about(self, number):
        return next(line for line in self.lines if line.startswith(f"step {number} of"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def applied(sentiment, tmp_path, place):
    """Apply the recipe; give the report, what was said, and the weights."""
    from compressit import plan, runner

    numbers = iter(range(100))

    def apply(*overrides, text=RECIPE, **options):
        number = next(numbers)
        file = tmp_path / f"{number}.yaml"
        file.write_text(text.format(name=f"run-{number}", model=sentiment / "model", data=sentiment))
        said = Said()
        planned = plan.plan(recipe.load(file, overrides))
        out = tmp_path / f"out-{number}"
        report = runner.run(planned, out, progress=said, waterfall=False, **options)
        return report, said, (out / "checkpoint" / "model.safetensors").read_bytes()

    return apply


def test_recipes_that_begin_alike_share_their_first_steps(applied):
    first, said, weights = applied()
    assert said.about(1) == "step 1 of 2: drop_layers"
    again, said, same = applied("name=other")
    assert [said.about(number) for number in (1, 2)] == [
        "step 1 of 2: drop_layers: kept from before",
        "step 2 of 2: finetune: kept from before",
    ]
    assert same == weights
    assert again.steps == first.steps
    _, said, others = applied("steps.1.learning_rate=3e-3")
    assert said.about(1) == "step 1 of 2: drop_layers: kept from before"
    assert "finetune (one is kept of which this differs: learning_rate was" in said.about(2)
    assert others != weights


def test_a_fresh_start_uses_nothing_and_comes_to_the_same(applied):
    _, _, weights = applied()
    _, said, same = applied(fresh=True)
    assert said.about(1) == "step 1 of 2: drop_layers"
    assert said.about(2) == "step 2 of 2: finetune"
    assert same == weights


def test_the_originals_export_is_kept_and_used_by_whoever_compares_with_it(applied):
    exports = "exports=[{export: onnx}]"
    first, said, _ = applied(exports)
    assert "export the original to onnx, uncompressed, to compare with" in said.lines
    again, said, _ = applied("exports=[{export: onnx, weights: int8}]", "steps.0.keep=3")
    assert "export the original to onnx: kept from before" in said.lines
    assert [each.runtime for each in again.artifacts] == ["torch", "onnxruntime"]
    assert first.original == again.original
    _, said, _ = applied(exports, fresh=True)
    assert "export the original to onnx, uncompressed, to compare with" in said.lines


def test_a_checkpoint_that_changed_is_thrown_away_and_made_again(applied, place):
    _, _, weights = applied()
    last = next(entry for entry in cache.entries() if entry.made["step"] == "finetune")
    file = last.folder / "model" / "model.safetensors"
    harmed = bytearray(file.read_bytes())
    harmed[-1] ^= 1
    file.unlink()
    file.write_bytes(harmed)
    _, said, same = applied()
    assert any("a kept checkpoint is thrown away" in line and "content changed" in line for line in said.lines)
    assert said.about(1).endswith("kept from before")
    assert said.about(2) == "step 2 of 2: finetune"
    assert same == weights


def test_steps_between_may_have_been_let_go(applied):
    _, _, weights = applied()
    first = next(entry for entry in cache.entries() if entry.made["step"] == "drop_layers")
    cache.remove(first.folder)
    report, said, same = applied()
    assert said.about(2).endswith("kept from before")
    assert same == weights
    assert [step.step for step in report.steps] == ["drop_layers", "finetune"]


def test_a_result_shares_its_bytes_with_what_is_kept(applied, place, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "_cloned", lambda source, target: False)  # where it can, inodes tell nothing
    applied()
    kept = next(entry for entry in cache.entries() if entry.made["step"] == "finetune").folder / "model"
    inodes = [os.stat(folder / "model.safetensors").st_ino for folder in (kept, tmp_path / "out-0" / "checkpoint")]
    assert inodes[0] == inodes[1]


def test_files_are_given_a_second_place_however_the_file_system_can(tmp_path, monkeypatch):
    (tmp_path / "one" / "inner").mkdir(parents=True)
    (tmp_path / "one" / "inner" / "a").write_bytes(b"a" * 5000)
    sharing.share(tmp_path / "one", tmp_path / "two")

    def refuse(*names):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    sharing.share(tmp_path / "one", tmp_path / "three")
    for name in ("two", "three"):
        assert (tmp_path / name / "inner" / "a").read_bytes() == b"a" * 5000


@pytest.mark.parametrize(
    ("overrides", "text", "kept", "why"),
    [
        ((), RECIPE, (True, True), ()),
        (("name=another",), "# a comment\n" + RECIPE, (True, True), ()),
        (("seed=1",), RECIPE, (False, False), ("seed was 0, is 1",)),
        (("steps.0.keep=3",), RECIPE, (False, False), ("keep was 2, is 3",)),
        (("steps.1.epochs=2",), RECIPE, (True, False), ("epochs was 1.0, is 2.0",)),
        (("dataset.train=train.jsonl[:100]",), RECIPE, (True, False), ("the training data is other data",)),
        (("dataset.evaluation=test.jsonl[:50]",), RECIPE, (True, True), ()),
        (("dataset.max_length=16",), RECIPE, (True, False), ("max_length was not set, is 16",)),
    ],
)
def test_the_plan_foresees_what_is_kept_and_says_what_differs(applied, sentiment, write, overrides, text, kept, why):
    from compressit import plan

    applied()
    file = write(text.format(name="planned", model=sentiment / "model", data=sentiment))
    found = foresee(plan.plan(recipe.load(file, overrides)))
    assert tuple(each.kept for each in found) == kept
    missed = [each.why for each in found if not each.kept]
    assert (missed[0] if missed else ()) == why


def test_other_bytes_of_the_model_and_other_versions_miss(applied, sentiment, write, tmp_path, monkeypatch):
    import shutil

    from compressit import plan

    applied()
    shutil.copytree(sentiment / "model", tmp_path / "renamed")
    file = write(RECIPE.format(name="planned", model=tmp_path / "renamed", data=sentiment))
    planned = plan.plan(recipe.load(file))
    assert [each.kept for each in foresee(planned)] == [True, True], "names and times are no part of a key"
    config = json.loads((tmp_path / "renamed" / "config.json").read_text())
    (tmp_path / "renamed" / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert foresee(planned)[0].why == ("what it began from differs",)
    shutil.copy(sentiment / "model" / "config.json", tmp_path / "renamed")
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "torch" else real(name))
    assert foresee(planned)[0].why == (f"torch was {real('torch')}, is 9.9",)


def test_the_verbs_of_the_cache(applied, sentiment, write, cli, place):
    applied()
    file = write(RECIPE.format(name="asked", model=sentiment / "model", data=sentiment))
    assert "2 checkpoints" in cli("cache", "list").stdout
    said = json.loads(cli("cache", "list", "--json").stdout)
    assert {step["made"]["step"] for step in said["steps"]} == {"drop_layers", "finetune"}
    assert cli("cache", "why", file).stdout == "step 1 (drop_layers): kept\nstep 2 (finetune): kept\n"
    changed = cli("cache", "why", file, "--set", "steps.1.epochs=3").stdout
    assert changed.endswith("step 2 (finetune): not kept: epochs was 1.0, is 3.0\n")
    assert cli("cache", "verify").stdout == "2 of 2 checkpoints are as they were saved\n"
    harmed = cache.entries()[0].folder / "steps.json"
    harmed.write_text(harmed.read_text() + " ")
    broken = cli("cache", "verify")
    assert broken.returncode == 6
    assert f"{harmed.parent}: steps.json" in broken.stdout
    assert cli("cache", "gc", "--keep", "1 potato").returncode == 2
    left = cli("cache", "gc", "--keep", f"{cache.entries()[0].bytes}B")
    assert "in 1 folders let go" in left.stdout
    assert len(cache.entries()) == 1
    cli("cache", "gc", "--keep", "0B")
    assert "0 checkpoints, 0 B" in cli("cache", "list").stdout
    assert [*cache.place().iterdir()] == []


def test_what_a_killed_run_left_is_listed_and_let_go_with_the_rest(place, cli):
    with pytest.raises(KeyboardInterrupt), store.unfinished("ab" * 32) as folder:
        (folder / "half").write_bytes(b"x" * 1000)
        raise KeyboardInterrupt
    assert "what 1 killed runs can go on from: 1 kB" in cli("cache", "list").stdout
    with store.unfinished("ab" * 32) as folder:
        assert "in 0 folders" in cli("cache", "gc", "--keep", "0B").stdout, "what a live run is at stays"
        raised = (folder / "half").exists()
    assert raised
    assert not [*(place / "unfinished").iterdir()]


def test_what_a_kill_left_half_written_or_half_removed_goes_too(applied, place, cli):
    applied()
    dead, live = f"{owners.host()}-99999999-1", owners.mine()
    for name in (f".{'ab' * 32}.tmp-{dead}", f".{'cd' * 32}.tmp-{live}"):
        (place / "steps" / name).mkdir()
    cli("cache", "gc", "--keep", "50GB")
    assert [path.name for path in (place / "steps").glob(".*")] == [f".{'cd' * 32}.tmp-{live}"]
    assert len(cache.entries()) == 2


def test_a_teachers_bytes_count_and_its_name_does_not(sentiment, tmp_path, place, write):
    import shutil

    from compressit import plan

    shutil.copytree(sentiment / "model", tmp_path / "teacher")
    text = RECIPE.replace("  - step: finetune\n", "  - step: distill\n    teacher: {teacher}\n")
    file = write(text.format(name="d", model=sentiment / "model", data=sentiment, teacher=tmp_path / "teacher"))
    compressit.apply(file, tmp_path / "out")
    (tmp_path / "teacher").rename(tmp_path / "moved")
    moved = write(
        text.format(name="d", model=sentiment / "model", data=sentiment, teacher=tmp_path / "moved"), "m.yaml"
    )
    assert [each.kept for each in foresee(plan.plan(recipe.load(moved)))] == [True, True]
    weights = tmp_path / "moved" / "tokenizer_config.json"
    weights.write_text(weights.read_text() + "\n")
    assert foresee(plan.plan(recipe.load(moved)))[1].why == ("a model that it learns from is another",)
