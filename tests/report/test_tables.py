"""What the report says of an artifact in words."""

import pytest

from compressit.report import Artifact, Reading, Search, Trial, tables


def artifact(multiplications, ratio, batch_size=1, **fields):
    latency = Reading(metric="latency", unit="seconds", better="lower", value=0.01 * ratio, baseline=0.01, ratio=ratio,
                      details={"batch_size": batch_size})  # fmt: skip
    return Artifact(name="checkpoint", path="checkpoint", runtime="torch", device="cpu", bytes=1, parameters=1,
                    nonzero=1, dtypes={"float32": 1}, readings=(latency,), multiplications=multiplications,
                    **fields)  # fmt: skip


def test_latency_stands_next_to_the_multiplications_that_are_left():
    (said,) = tables.caveats(artifact(0.5, 0.55))
    assert said.startswith("checkpoint: 50% of the blocks' multiplications are left, and latency at batch size 1 is")
    assert "0.55x" in said
    assert "doesn't follow" not in said


def test_what_holds_latency_back_is_said():
    (said,) = tables.caveats(artifact(0.5, 0.7))
    assert "0.70x: it doesn't follow" in said
    assert "weighs most at batch size 1" in said
    (said,) = tables.caveats(artifact(0.5, 0.7, batch_size=32))
    assert "at batch size 32 is 0.70x: it doesn't follow" in said
    assert "batch size 1" not in said


def test_integers_that_are_weights_are_unpacked_and_places_are_not():
    found = artifact(None, 1.0)
    said = [tables.caveats(found.model_copy(update={"dtypes": {"float32": 9, kind: 9}})) for kind in ("int4", "int32")]
    assert "int4 weights save disk" in said[0][0]
    assert said[1] == []


@pytest.mark.parametrize("left", [None, 1.0])
def test_nothing_is_said_where_no_matrix_was_cut(left):
    assert tables.caveats(artifact(left, 0.7)) == []


def test_what_plain_transformers_has_no_words_for_is_said_with_what_opens_it():
    found = artifact(None, 1.0)
    assert (tables.unopened(found), tables.opening(found)) == ([], ("transformers", ""))
    odd = found.model_copy(update={"plain": False})
    (said,) = tables.caveats(odd)
    assert "plain transformers has no words" in said
    assert "compressit.load(folder) does" in said
    library, lines = tables.opening(odd)
    assert library == "compressit"
    assert "model = compressit.load(folder)" in lines


@pytest.mark.parametrize(
    ("runtime", "library"),
    [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("llamacpp", "llama.cpp"), ("of-another", "of-another")],
)
def test_an_exports_card_names_what_opens_it(runtime, library):
    named, lines = tables.opening(artifact(None, 1.0).model_copy(update={"runtime": runtime}))
    assert named == library
    assert bool(lines) == (runtime != "of-another")


def test_how_a_recipe_was_found_is_said_with_and_without_an_objective():
    tried = (Trial(number=1, settings={"a": 1}), Trial(number=2, settings={"a": 2}, missed=("size max 1",)))
    found = Search(split="tune", sampler="auto", objectives=(), trials=tried)
    assert tables.searched(found) == "2 trials by auto, judged on tune; 1 met every target"
    found = found.model_copy(update={"sampler": "tpe", "objectives": ("size", "accuracy")})
    assert tables.searched(found) == "2 trials by tpe, judged on tune for size, accuracy; 1 met every target"
    found = found.model_copy(update={"trials": tried[:1], "objectives": ()})
    assert tables.searched(found) == "1 trial by tpe, judged on tune; 1 met every target"
