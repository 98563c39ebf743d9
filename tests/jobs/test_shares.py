"""A machine shared out to jobs: GPUs that no two have, and cores."""

import pytest

from compressit.errors import RecipeError
from compressit.jobs import shares


def told(monkeypatch, visible, asked, threads=None, **more):
    said = []
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    return shares.share(asked, said.append, **more), said


def test_each_job_has_gpus_and_cores_of_its_own(monkeypatch):
    def of(gpus, threads):
        return {"CUDA_VISIBLE_DEVICES": gpus, "OMP_NUM_THREADS": threads}

    assert told(monkeypatch, "3,5,GPU-a", 2) == ([of("3", "4"), of("5", "4")], [])
    assert told(monkeypatch, "0, 1,2,3", None, gpus=2) == ([of("0,1", "4"), of("2,3", "4")], [])
    assert told(monkeypatch, "0,1", 2, threads="1") == (
        [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}],
        [],
    )
    found, said = told(monkeypatch, "0,1", 4)
    assert found == [of("0", "4"), of("1", "4")]
    assert said == ["warning: 2 jobs at once, not 4: 2 GPUs, 1 for each job"]


def test_without_gpus_or_asking_for_none_only_cores_are_shared(monkeypatch):
    assert told(monkeypatch, "", 3, cpus=1) == ([{"OMP_NUM_THREADS": "2"}] * 3, [])
    assert told(monkeypatch, "-1", None) == ([{"OMP_NUM_THREADS": "8"}], [])
    assert told(monkeypatch, "0", 4, gpus=0, cpus=3) == ([{"OMP_NUM_THREADS": "3"}] * 4, [])
    with pytest.raises(RecipeError, match="a job needs 2 GPUs, and this machine shows 1"):
        told(monkeypatch, "0", 1, gpus=2)
