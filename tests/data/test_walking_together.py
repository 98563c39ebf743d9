"""Walks that several processes go together: each with samples of its own, all with what all have measured."""

import multiprocessing
import os
import random
import socket
from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from compressit import model as models
from compressit import ranks, steps
from compressit.data import walking
from compressit.data.walking import How
from compressit.data.walking.statistics import Gram, Norms, Peaks
from compressit.errors import StepError
from compressit.progress import Silent
from compressit.steps import StepContext
from tests import tiny

TASK = "text-classification"
PROCESSES = 2


def texts(model, processes=1):
    rows = [{"text": each, "label": 0} for each in worded()]
    return walking.samples(Dataset.from_list(rows), model, None, processes=processes)


def worded():
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=count)) for count in LONG]


WORDS = ["good", "bad", "film", "plot", "of", "the"]
LONG = (20, 12, 20, 20, 31, 12, 31)
"""Words of the texts."""


def walked(folder, scratch, processes=1, stop=None, statistic=Gram, on_disk=None):
    """Halve each matrix in a walk; give what was measured, and the weights afterwards; `stop` before so many blocks."""
    model = models.load(folder, TASK, scratch=on_disk)
    how = How(statistic, True, "compressed", "cpu", torch.float32, 1 << 30, processes=processes)
    seen = {}
    for number, block in enumerate(walking.walk(model, texts(model, processes), model.matrices(), scratch, how)):
        if number == stop:
            return seen, {}
        for group in block.groups():
            count = group.statistic.count
            measured = group.statistic.hessian() if statistic is Gram else [*vars(group.statistic).values()][1]
            for matrix in group.matrices:
                seen[matrix.name] = measured.clone(), count
                block.put(matrix, block.weight(matrix) * 0.5)
    state = {name: matrix.of(_tensors(model)).clone() for name, matrix in model.matrices().items()}
    return seen, state


def _tensors(model):
    return {n: t for name, names in model.parts().items() for n, t in model.read(name, names).tensors.items()}


def refitted(folder, scratch, processes=1, rank=0):
    """Round all matrices to 2 bits and refit them; give what is noted, and the model's tensors afterwards."""
    model = models.load(folder, TASK)
    rows = Dataset.from_list([{"text": each, "label": 0} for each in worded()])
    context = StepContext(None, rows, lambda path: models.load(folder, TASK), "cpu", 0, Silent(), scratch)
    for step, fields in (("quantize_rtn", {"bits": 2}), ("refit", {"learning_rate": 1e-2})):
        module, together = steps.load(step), step == "refit"
        place = scratch / step if together else scratch / f"{step}-{rank}"
        own = replace(context, scratch=place, processes=processes if together else 1)
        notes = module.run(model, module.Config(step=step, **fields), own)
    return notes, {name: tensor.clone() for name, tensor in _tensors(model).items()}


def one_of_them(rank, port, place):
    """Walk through all models in one group, for a process takes longer to start than to walk."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in own.items()})
    torch.set_num_threads(1)
    with ranks.connected().together(1, "cpu"):
        for name in MODELS:
            torch.save(each_walk(place / name, rank), place / name / f"{rank}.pt")


def each_walk(place, rank):
    folder = place / "model"
    return {
        "whole": walked(folder, place / "whole", PROCESSES),
        "on disk": walked(folder, place / "on disk", PROCESSES, on_disk=place / f"laid-{rank}"),
        "begun": walked(folder, place / "stopped", PROCESSES, stop=1),
        "gone on": walked(folder, place / "stopped", PROCESSES),
        "refitted": refitted(folder, place / "refitted", PROCESSES, rank),
        **{each.__name__: walked(folder, place / each.__name__, PROCESSES, statistic=each) for each in OTHERS},
    }


MODELS, OTHERS = ("llama", "mixtral"), (Norms, Peaks)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("walks")
    for name in MODELS:
        (place / name).mkdir()
        tiny.save(name, place / name / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fresh = multiprocessing.get_context("spawn")
    started = [fresh.Process(target=one_of_them, args=(rank, port, place)) for rank in range(PROCESSES)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=200)
    return place


@pytest.fixture(params=MODELS)
def walks(request, place):
    """Give the model, where its walks have left their files, and by process what each has seen and made."""
    own = place / request.param
    return own / "model", own, [torch.load(own / f"{rank}.pt") for rank in range(PROCESSES)]


def alike(found, wanted):
    assert found.keys() == wanted.keys()
    for name, (value, count) in wanted.items():
        assert found[name][1] == count, name
        assert torch.allclose(found[name][0], value, rtol=1e-4, atol=1e-6), name


def test_all_see_what_all_have_measured(walks, tmp_path):
    folder, place, each = walks
    wanted, made = walked(folder, tmp_path)
    for found in each:
        for kind in ("whole", "on disk"):
            seen, state = found[kind]
            alike(seen, wanted)
            assert all(torch.equal(state[name], made[name]) for name in made)
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert len(written) == tiny.BLOCKS
    for kind in ("whole", "on disk", "stopped"):
        assert {path.name for path in (place / kind).iterdir() if path.is_file()} == written


@pytest.mark.parametrize("statistic", OTHERS)
def test_sums_and_peaks_are_those_of_all(statistic, walks, tmp_path):
    folder, _, each = walks
    wanted, _ = walked(folder, tmp_path, statistic=statistic)
    for found in each:
        alike(found[statistic.__name__][0], wanted)


def test_a_walk_that_was_stopped_goes_on(walks, tmp_path):
    folder, _, each = walks
    wanted, made = walked(folder, tmp_path)
    for found in each:
        (before, _), (after, state) = found["begun"], found["gone on"]
        assert before
        assert after
        assert not {*before} & {*after}
        alike({**before, **after}, wanted)
        assert all(torch.equal(state[name], made[name]) for name in made)


def test_all_learn_from_what_all_see(walks, tmp_path):
    folder, _, ((notes, tensors), *others) = walks[0], walks[1], [each["refitted"] for each in walks[2]]
    wanted, _ = refitted(folder, tmp_path)
    assert notes["error_before"] == pytest.approx(wanted["error_before"], rel=0.2)
    assert notes["error_after"] < 0.9 * notes["error_before"]
    for _, theirs in others:
        assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors.items())


def test_too_few_samples_are_an_error(walks):
    model = models.load(walks[0], TASK)
    with pytest.raises(StepError, match="7 calibration samples are too few for 8 processes"):
        texts(model, 8)
