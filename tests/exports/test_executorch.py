"""ExecuTorch: run on its own runtime, checked against the checkpoint, int8, and read back from the file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from compressit import model as models
from compressit.errors import StepError
from compressit.exports import executorch
from compressit.runtimes import load
from compressit.weights import of_shapes
from tests import tiny
from tests.exports.conftest import checkpoint_said, file_said, python


def config(**fields):
    return executorch.Config(export="executorch", **fields)


def test_convolutions_stay_in_float():
    module = tiny.build("resnet")
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    with pytest.raises(StepError, match="int8 is for linear layers"):
        executorch.foresee(config(weights="int8"), (), of_shapes("resnet", shapes))


@pytest.fixture(scope="module", params=["float32", "int8"])
def exported(request, classifier, examples, tmp_path_factory):
    pytest.importorskip("executorch.runtime")
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, executorch.run(classifier, config(weights=request.param), folder, examples)


def test_every_length_gives_the_checkpoints_answers(exported, classifier, rows):
    kind, folder, notes = exported
    some = rows.select(range(100))
    wanted, said = checkpoint_said(classifier, some, 16), file_said("executorch", folder, classifier, some)
    if kind == "float32":
        assert notes["max_difference"] < 1e-4
        assert np.abs(said - wanted).max() < 1e-4
    else:
        assert (said.argmax(-1) == wanted.argmax(-1)).mean() > 0.97
        assert 1e-4 < np.abs(said - wanted).max() < 1


def test_the_file_says_what_it_holds(exported, classifier):
    kind, folder, _ = exported
    facts = load("executorch").inspect(folder)
    linear = [each for each in classifier.module.modules() if isinstance(each, torch.nn.Linear)]
    matrices = sum(each.weight.numel() for each in linear)
    assert facts.dtypes.get("int8", 0) == (matrices if kind == "int8" else 0)
    # Vectors that are alike lie in the file once.
    assert facts.parameters == pytest.approx(classifier.module.num_parameters(), rel=0.05)
    assert facts.bytes == (folder / "model.pte").stat().st_size


def test_zeros_are_counted_whether_rounded_or_not(exported, classifier, examples, tmp_path):
    kind = exported[0]
    model = models.load(Path(classifier.source), classifier.task)
    for each in model.module.modules():
        if isinstance(each, torch.nn.Linear):
            each.weight.data[:, ::2] = 0
    executorch.run(model, config(weights=kind), tmp_path, examples)
    before, after = (load("executorch").inspect(folder) for folder in (exported[1], tmp_path))
    matrices = sum(each.weight.numel() for each in model.module.modules() if isinstance(each, torch.nn.Linear))
    assert before.nonzero - after.nonzero == pytest.approx(matrices / 2, rel=0.05)


def test_a_text_that_is_too_long_is_refused(exported, classifier):
    _, folder, _ = exported
    batch = {name: np.ones((1, 65), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    with pytest.raises(StepError, match="at most 64 tokens, and an example has 65"):
        load("executorch").open(folder, classifier.task, "cpu")(batch)


def test_it_runs_where_compressit_is_not(exported, classifier, rows):
    _, folder, _ = exported
    text = rows[0]["text"]
    said = python(
        load("executorch").OPENING + "import torch\n"
        "print(model(**{n: torch.from_numpy(v) for n, v in tokens.items()}).logits[0].tolist())",
        folder,
        f'["{text}"]',
    )
    alone = file_said("executorch", folder, classifier, rows.select([0]))[0]
    assert np.allclose(eval(said.splitlines()[-1]), alone, atol=1e-5)


FAMILIES = ["distilbert", "roberta", "electra", "albert", "deberta-v2", "mpnet", "modernbert"]
PICTURES = ["vit", "dinov2", "resnet", "convnext"]
TASKS = ["bert-tags", "bert-qa", "bert-pairs"]


@pytest.mark.parametrize("name", [*FAMILIES, *PICTURES, *TASKS])
def test_families_and_tasks(name, exported_tiny):
    pytest.importorskip("executorch.runtime")
    assert exported_tiny(executorch, config(), name)[2]["max_difference"] < 1e-3
