"""Zeros ahead of a cut: they go with what is cut, and what is left has no weight where there was none."""

import json
import shutil

import pytest

import compressit
from compressit import recipe, rules, steps
from compressit.errors import StepError
from tests.conftest import linears

RECIPE = """\
name: cut
task: text-classification
model: {model}
dataset: {{path: {data}, calibration: "train.jsonl[:64]", evaluation: "test.jsonl[:40]", columns: {{text: sentence}}}}
steps:
  - {{step: prune_wanda, sparsity: 0.5}}
  - {{step: prune_ffn, sparsity: 0.5, importance: magnitude}}
  - {{step: cast}}
metrics: [nonzero]
"""
HALF = {"sparsity": 0.5, "importance": "magnitude", "refit": False}
CUTS = {
    "neurons": ("prune_ffn", HALF),
    "heads": ("prune_heads", HALF),
    "channels": ("prune_width", HALF),
    "blocks": ("drop_layers", {"keep": 2}),
}


@pytest.fixture
def file(sentiment, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=sentiment / "model", data=sentiment))
    return tmp_path / "r.yaml"


def test_a_recipe_may_cut_after_it_has_zeroed(file, tmp_path):
    # By itself it leaves the weights on disk, and what it keeps is no checkpoint as it is.
    only = [line for line in file.read_text().splitlines() if "ffn" not in line and "cast" not in line]
    (tmp_path / "only.yaml").write_text("\n".join(only))
    compressit.apply(tmp_path / "only.yaml", tmp_path / "only", waterfall=False)
    compressit.apply(file, tmp_path / "out", waterfall=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 0.5 < report["artifacts"][0]["readings"][0]["value"] < 0.95
    # What a step left has to be there for its promise to be held: of what is kept it alone is let go.
    (entry,) = (each for each in compressit.cache.entries() if each.made["step"] == "prune_wanda")
    shutil.rmtree(entry.folder)
    compressit.apply(file, tmp_path / "again", waterfall=False)
    assert len(compressit.cache.entries()) == 3


def test_zeros_that_are_lost_in_the_cut_are_found(file, tmp_path, monkeypatch):
    cut = steps.load("prune_ffn")

    def forgetful(model, config, context, run=cut.run):
        notes = run(model, config, context)
        weight = next(layer.weight for name, layer in linears(model).items() if name.endswith("output.dense"))
        weight.data[weight == 0] = 1e-3
        return notes

    monkeypatch.setattr(cut, "run", forgetful)
    with pytest.raises(StepError, match=r"step 1 \(prune_wanda\) did not keep its promise: .* has weights that were 0"):
        compressit.apply(file, tmp_path / "out", waterfall=False)


ZERO = "{step: prune_wanda, pattern: '2:4'%s}"


@pytest.mark.parametrize("cut", ["prune_ffn", "prune_structured", "prune_width"])
def test_a_pattern_is_made_after_inputs_are_cut(cut, file):
    head, given = file.read_text().partition("steps:")[0], f"{{step: {cut}, sparsity: 0.5}}"

    def problems(*taken):
        file.write_text(f"{head}steps: [{', '.join(taken)}]\n")
        return rules.check(recipe.load(file))

    (found,) = problems(ZERO % "", given)
    assert f"{cut} would take apart the pattern that step 1 (prune_wanda) makes" in found.message
    assert found.hint == f"move {cut} before prune_wanda: cut first, then zero"
    assert problems(given, ZERO % "") == []
    # These may leave every four inputs together, or which matrices have the pattern is not known yet.
    for other in ("{step: prune_heads, sparsity: 0.5}", "{step: drop_layers, keep: 2}"):
        assert problems(ZERO % "", other) == []
    assert problems(ZERO % ", include: ['*.query']", given) == []
    assert problems("{step: prune_wanda, sparsity: 0.5}", given) == []


def saved(model, folder):
    model.save(folder)
    return folder


@pytest.fixture
def zeroed(opened, context, tmp_path):
    """Zero weights and cut: what is to be held, given the end's folder; and the model, of which parts are gone."""

    def made(name, fields, *cuts):
        model, step = opened("bert"), steps.load(name)
        given, config = context(model), step.Config(step=name, **fields)
        step.run(model, config, given)
        stages = [saved(model, tmp_path / "left")]
        for kind in cuts:
            other, settings = CUTS[kind]
            steps.load(other).run(model, steps.load(other).Config(step=other, **settings), given)
            stages.append(saved(model, tmp_path / kind))

        def held(folder, **other):
            return step.remains([*stages[:-1], saved(model, tmp_path / folder)], config.model_copy(update=other))

        return held, model

    return made


@pytest.mark.parametrize("cuts", [*((kind,) for kind in CUTS), ("blocks", "neurons", "heads"), ("neurons", "channels")],
                         ids=" ".join)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "fields"),
    [("prune_wanda", {"sparsity": 0.5}), ("prune_magnitude", {"sparsity": 0.5, "scope": "global"})],
    ids=["wanda", "magnitude"],
)
def test_one_weight_that_comes_back_is_found_in_whatever_is_left(name, fields, cuts, zeroed):
    held, model = zeroed(name, fields, *cuts)
    assert held("cut") is None
    layers = {own: layer for own, layer in linears(model).items() if ".1." in own}
    assert len(layers) == 6
    for own, layer in layers.items():
        row, column = (layer.weight == 0).nonzero()[len(layer.weight)]
        layer.weight.data[row, column] = 1.0
        assert held(own) == f"{own} has weights that were 0"
        layer.weight.data[row, column] = 0.0
    assert held("mended") is None


def test_layers_that_were_left_alone_may_be_anything(zeroed):
    held, model = zeroed("prune_magnitude", {"sparsity": 0.5, "include": ("*.attention.*",)}, "blocks")
    for own, layer in linears(model).items():
        if ".attention." not in own:
            layer.weight.data.fill_(1.0)
    assert held("cut") is None


def test_a_promise_that_was_not_kept_before_the_cut_is_no_better_after_it(zeroed):
    held, _ = zeroed("prune_wanda", {"sparsity": 0.5}, "neurons")
    assert "zeros, not" in held("cut", sparsity=0.6)


def test_patterns_stay_patterns(zeroed):
    held, model = zeroed("prune_wanda", {"pattern": "2:4"}, "heads", "blocks")
    assert held("cut") is None, "heads are 8 wide"
    layer = next(iter(linears(model).values()))
    layer.weight.data[0, :4] = 1.0
    assert "has weights that were 0" in held("lost")


def test_a_pattern_that_a_cut_takes_apart_is_found(zeroed):
    held, _ = zeroed("prune_wanda", {"pattern": "2:4"}, "neurons")
    assert "does not keep the pattern 2:4" in held("cut")
