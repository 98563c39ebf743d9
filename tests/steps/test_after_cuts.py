"""Models that were cut differently from block to block are models like any other: for every step and every export."""

import numpy as np
import pytest
import torch

from compressit import anatomy, data, exports, runtimes, steps
from compressit import model as models
from tests.anatomy.conftest import cut_differently
from tests.steps.test_exam import example, refused, take

FORMS = [name for name in exports.names() if "text-classification" in exports.load(name).Config.tasks]


@pytest.fixture
def cut(opened, tmp_path):
    """Save a model that has fewer channels, and other numbers of heads and neurons in each block; give its folder."""

    def made(name):
        model = opened(name)
        anatomy.cut_width(model.module, range(24))
        cut_differently(model.module)
        assert not anatomy.settle(model.module)
        model.save(tmp_path / "cut")
        return tmp_path / "cut"

    return made


@pytest.mark.parametrize("name", ["bert", "vit"])
@pytest.mark.parametrize("step", steps.names())
def test_every_step_takes_it(step, name, opened, cut, context, logits, tmp_path):
    module, config = example(step)
    model = models.load(cut(name), opened(name).task)
    given = context(model)
    if refused(config, model, given):
        return
    if "group_size" in type(config).model_fields:
        config = config.model_copy(update={"group_size": None})
    take(module, config, model, given)
    before = logits(model, given)
    model.save(tmp_path / "saved")
    again = logits(models.load(tmp_path / "saved", model.task), given)
    assert torch.allclose(again, before, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "vit", "mpnet"])
@pytest.mark.parametrize("export", FORMS)
def test_its_export_says_what_it_says(export, name, opened, cut, context, logits, tmp_path):
    model = models.load(cut(name), opened(name).task)
    given, form = context(model, count=16), exports.load(export)
    batches = [batch for _, batch in data.batches(given.train, model, 16)]
    config = form.Config(export=export)
    if export == "executorch":  # which CI has not
        pytest.importorskip("executorch.runtime")
    form.run(model, config, tmp_path, batches)
    session = runtimes.load(config.runtime).open(tmp_path, model.task, "cpu")
    said = [session({key: value.numpy() for key, value in batch.items() if key != "labels"}) for batch in batches]
    assert np.allclose(np.concatenate(said), logits(model, given).numpy(), atol=1e-4)
