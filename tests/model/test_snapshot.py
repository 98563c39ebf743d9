"""A model between two steps, kept and taken up again: to the last byte what goes on in memory, wherever weights lie."""

import pytest

from compressit import model as models
from compressit.model import snapshot
from tests.stepping import done

STEPS = [("prune_magnitude", {"sparsity": 0.5}), ("quantize_rtn", {"bits": 4, "group_size": 32})]


def saved(model, folder):
    """Save a model; give its files' bytes by name, and its tensors by name where they may lie in other files."""
    model.save(folder)
    from safetensors.torch import load_file

    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}
    others = {file.name: file.read_bytes() for file in folder.iterdir() if "safetensors" not in file.name}
    return tensors, others


@pytest.mark.parametrize("taken_on_disk", [False, True])
@pytest.mark.parametrize("kept_on_disk", [False, True])
@pytest.mark.parametrize("after", [1, 2], ids=["pruned", "quantized"])
def test_what_is_taken_up_is_what_was_kept(after, kept_on_disk, taken_on_disk, storyteller, tmp_path):
    def opened(name, on_disk):
        return {"task": "text-generation", "scratch": tmp_path / name if on_disk else None}

    source = storyteller / "model"
    straight = models.load(source, **opened("straight", False))
    done(straight, STEPS, tmp_path / "steps-0")
    model = models.load(source, **opened("first", kept_on_disk))
    done(model, STEPS[:after], tmp_path / "steps-1")
    kept = tmp_path / "kept"
    kept.mkdir()
    snapshot.keep(model, kept)
    found = snapshot.take_up(kept, source, **opened("second", taken_on_disk))
    assert (found.disk is not None) == taken_on_disk
    done(found, STEPS[after:], tmp_path / "steps-2")
    assert saved(found, tmp_path / "found") == saved(straight, tmp_path / "whole")


def test_a_checkpoint_of_floats_is_there_as_it_would_be_saved(storyteller, tmp_path):
    model = models.load(storyteller / "model", "text-generation")
    done(model, STEPS[:1], tmp_path / "steps")
    (tmp_path / "kept").mkdir()
    snapshot.keep(model, tmp_path / "kept")
    assert saved(model, tmp_path / "whole")[1].keys() <= {
        file.name for file in snapshot.checkpoint(tmp_path / "kept").iterdir()
    }
    done(model, STEPS[1:], tmp_path / "steps")
    (tmp_path / "then").mkdir()
    snapshot.keep(model, tmp_path / "then")
    assert snapshot.checkpoint(tmp_path / "then") is None
