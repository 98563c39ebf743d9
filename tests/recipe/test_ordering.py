"""What a plan refuses because of what comes before it, and what it says to do instead."""

import pytest

from compressit import recipe, rules

TEXT = """\
name: ordered
task: text-generation
model: ./model
dataset: {{path: demo:stdlib, train: train, calibration: "train[:64]", evaluation: test}}
steps: [{steps}]
"""
ZEROING = [
    "{step: prune_magnitude, sparsity: 0.5}",
    "{step: prune_wanda, pattern: '2:4'}",
    "{step: prune_sparsegpt, sparsity: 0.5}",
    "{step: prune_sparsegpt, sparsity: 0.5, bits: 4}",
    "{step: prune_gradually, sparsity: 0.5}",
]
CUTTING = [
    "{step: prune_ffn, sparsity: 0.5}",
    "{step: prune_heads, sparsity: 0.5}",
    "{step: prune_structured, sparsity: 0.5}",
    "{step: prune_width, sparsity: 0.5}",
    "{step: prune_experts, keep: 2}",
]
TURNED_OR_NOT = ["{step: drop_layers, keep: 2}", "{step: factor_svd, sparsity: 0.2}", "smooth", "distill", "cast"]


def found(write, tmp_path, *steps):
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    return rules.check(recipe.load(write(TEXT.format(steps=", ".join(steps)))))


def name(step):
    return step.removeprefix("{step: ").partition(",")[0]


@pytest.mark.parametrize("step", ZEROING)
def test_zeros_and_a_rotation_leave_one_another_out(step, write, tmp_path):
    (late,) = found(write, tmp_path, "rotate", step)
    assert late.message == f"{name(step)} would prune what step 1 (rotate) has turned, where nothing stands out"
    assert late.hint == "leave one of the two out: rotate fills zeros that were made before it"
    early = found(write, tmp_path, step, "rotate")
    assert f"rotate would undo the sparsity that step 1 ({name(step)}) makes" in {each.message for each in early}
    for each in early:
        assert each.hint.startswith("leave one of the two out"), "the other way round is refused, too"


@pytest.mark.parametrize("step", CUTTING)
def test_parts_are_cut_ahead_of_a_rotation(step, write, tmp_path):
    (late,) = found(write, tmp_path, "smooth", "rotate", step)
    assert late.message == f"{name(step)} would prune what step 2 (rotate) has turned, where nothing stands out"
    assert late.hint == f"move {name(step)} before rotate"
    assert found(write, tmp_path, step, "rotate") == []


@pytest.mark.parametrize("step", TURNED_OR_NOT)
def test_what_goes_by_no_single_weight_may_come_after_a_rotation(step, write, tmp_path):
    assert found(write, tmp_path, "rotate", step) == []


def test_what_is_undone_is_moved_only_where_that_helps(write, tmp_path):
    (one,) = found(write, tmp_path, "quantize_rtn", "distill")
    assert one.hint == "move distill before quantize_rtn"
    sides = ("{step: factor_svd, sparsity: 0.2}", "quantize_rtn")
    for steps in (sides, sides[::-1]):
        hints = {each.hint for each in found(write, tmp_path, *steps)}
        assert len(hints) == 1
        assert hints.pop().startswith("leave one of the two out")


@pytest.mark.parametrize("step", ["distill", "finetune", "{step: quantize_qat, bits: 3}", "rotate"])
def test_a_refit_takes_nothing_back_that_was_meant(step, write, tmp_path):
    between = "{step: quantize_rtn, bits: 3}"
    steps = (step, "refit") if "qat" in step else (step, between, "refit")
    (one,) = found(write, tmp_path, *steps)
    assert one.message == f"refit would bring back the weights from before step 1 ({name(step)})"
    assert "quantize_gptq" in one.hint
    assert found(write, tmp_path, between, "refit") == []


def test_a_refit_knows_scaled_weights_by_what_blocks_give_alone(write, tmp_path):
    (one,) = found(write, tmp_path, "smooth", "{step: prune_wanda, sparsity: 0.5}", "refit")
    assert one.message == "refit would take weights that step 1 (smooth) has scaled for the original's"
    assert one.hint == "move smooth behind refit"
    assert found(write, tmp_path, "smooth", "{step: quantize_rtn, bits: 3}", "refit") == []
    assert found(write, tmp_path, "{step: prune_wanda, sparsity: 0.5}", "refit", "smooth") == []
    assert found(write, tmp_path, "{step: prune_wanda, sparsity: 0.5}", "refit", "distill") == []


def test_a_refit_takes_the_fields_of_its_way_alone(write, tmp_path):
    zeros, rounded = "{step: prune_wanda, sparsity: 0.5}", "{step: quantize_rtn, bits: 3}"
    fits, learns = "{step: refit, rounds: 5, damping: 0.1}", "{step: refit, epochs: 2, learning_rate: 1e-3}"
    assert found(write, tmp_path, zeros, fits) == found(write, tmp_path, rounded, learns) == []
    said = [each.message for each in found(write, tmp_path, zeros, learns)]
    assert said == [f"{each} goes with a step before it that rounds, and does nothing without"
                    for each in ("epochs", "learning_rate")]  # fmt: skip
    said = [each.message for each in found(write, tmp_path, zeros, rounded, fits)]
    assert said == [f"{each} goes with zeros to fit around, and does nothing without" for each in ("rounds", "damping")]


@pytest.mark.parametrize("step", ["refit", "quantize_rtn", "smooth", "distill", "{step: prune_wanda, sparsity: 0.5}"])
def test_scales_of_keys_and_values_are_found_last(step, write, tmp_path):
    before = "{step: quantize_rtn, bits: 3}" if step == "refit" else "{step: drop_layers, keep: 2}"
    (one,) = found(write, tmp_path, before, "quantize_cache", step)
    assert one.message == f"{name(step)} would undo the scales of keys and values that step 2 (quantize_cache) makes"
    assert one.hint == f"move {name(step)} before quantize_cache"
