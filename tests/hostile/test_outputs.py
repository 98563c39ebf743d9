"""Where a result may go: nothing outside of it is written, and what can't be written is said before any work."""

import json
import os
from pathlib import Path

import pytest

from compressit import store
from compressit.errors import CompressitError, IntegrityError, RecipeError, StepError, UnsafeError


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("out\0put", RecipeError),
        ("out\x1b[31m", RecipeError),
        ("x" * 300, RecipeError),
        ("/dev/null", RecipeError),
        ("/dev/null/out", StepError),
        ("/proc/out", StepError),
        ("link", UnsafeError),
        ("mine", RecipeError),
    ],
)
def test_a_place_that_cannot_hold_a_result_is_refused_before_the_block_runs(place, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    ran = []
    with pytest.raises(kind) as told, store.staged(Path(place)):
        ran.append(place)
    assert ran == []
    assert type(told.value) is kind
    assert sorted(os.listdir(tmp_path)) == ["link", "mine"]
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_a_link_above_is_followed_and_the_result_is_where_it_leads(tmp_path):
    """It is the user's own link: a disk that is larger, say."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    with store.staged(tmp_path / "runs" / "out") as folder:
        (folder / "a.txt").write_text("one")
    assert store.verify(tmp_path / "disk" / "out") == []


@pytest.mark.parametrize(("place", "code"), [("/dev/stdout", 7), ("x" * 300, 2), ("/proc/out", 5)])
def test_a_run_says_so_before_any_work(place, code, recipe, pristine, ends, tmp_path):
    ended = ends("apply", recipe(pristine), "-o", place, cwd=tmp_path)
    assert (ended.code, ended.out) == (code, "")
    assert ended.said.startswith("error: ")
    assert len(ended.said.splitlines()) <= 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_before_any_work(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(CompressitError, match="can't write beside"), store.staged(tmp_path / "locked" / "out"):
        pytest.fail("the block ran")


def test_a_result_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path, ends):
    with store.staged(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("one")
    file = tmp_path / "out" / store.MANIFEST
    newer = json.dumps({**json.loads(file.read_text()), "format": 2})
    file.write_text(newer)
    ended = ends("verify", tmp_path / "out")
    assert (ended.code, file.read_text()) == (6, newer)
    assert "has format 2; this version reads format 1" in ended.said


def test_one_bit_of_a_result_that_flips_is_found(tmp_path, ends):
    with store.staged(tmp_path / "out") as folder:
        (folder / "w.safetensors").write_bytes(bytes(1000))
    (tmp_path / "out" / "w.safetensors").write_bytes(bytes(500) + b"\x01" + bytes(499))
    ended = ends("verify", tmp_path / "out")
    assert ended.code == 6
    assert "w.safetensors: its content changed (SHA-256)" in ended.said


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": {"size": "x", "sha256": "0"}},
        {"a.txt": {"size": 3.5, "sha256": "0"}},
        {"a.txt": {"size": True, "sha256": "0"}},
        {"a.txt": {"size": 3, "sha256": ["0"]}},
        {"x" * 5000: {"size": 3, "sha256": "0"}},
        {"a\0": {"size": 3, "sha256": "0"}},
        {"\x1b[31m": {"size": 3, "sha256": "0"}},
        {"\ud800": {"size": 3, "sha256": "0"}},
    ],
)
def test_a_manifest_whose_entries_are_none_is_an_error_that_names_it(files, tmp_path):
    with store.staged(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("one")
    (tmp_path / "out" / store.MANIFEST).write_text(json.dumps({"format": 1, "files": files}))
    with pytest.raises(IntegrityError, match=r"manifest\.json can't be read"):
        store.check(tmp_path / "out")


@pytest.mark.parametrize("text", ['{"a": ' * 20_000, "9" * 5000, "[" * 200_000])
def test_a_manifest_that_no_reader_survives_is_an_error_that_names_it(text, tmp_path):
    (tmp_path / store.MANIFEST).write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest\.json can't be read"):
        store.manifest(tmp_path)
