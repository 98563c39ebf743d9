"""Run folders: whole or not there, never replaced by accident, checked byte for byte."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from compressit import store
from compressit.errors import IntegrityError, RecipeError, RetryableError, StepError, UnsafeError
from compressit.store import owners, publishing


def publish(target, text="one", **options):
    with store.staged(target, **options) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text(text)
        (folder / ".scratch").mkdir()
        (folder / ".scratch" / "b.txt").write_text("gone")


def test_a_result_appears_whole_with_its_manifest_and_without_scratch(tmp_path):
    publish(tmp_path / "out", about={"recipe_sha256": "abc"})
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.txt", "inner", "manifest.json"]
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert said["recipe_sha256"] == "abc"
    assert said["files"]["inner/a.txt"]["size"] == 3
    assert store.verify(tmp_path / "out") == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_run_leaves_nothing_and_harms_nothing(tmp_path):
    publish(tmp_path / "out")
    with pytest.raises(ZeroDivisionError), store.staged(tmp_path / "out", overwrite=True) as folder:
        (folder / "half.txt").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_stands_there_is_replaced_only_when_asked_and_only_if_it_is_ours(tmp_path):
    publish(tmp_path / "out")
    with pytest.raises(RecipeError, match="--overwrite"):
        publish(tmp_path / "out", "two")
    publish(tmp_path / "out", "two", overwrite=True)
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "two"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UnsafeError, match="not a result of compressit"):
        publish(tmp_path / "mine", overwrite=True)
    for text in ("{}", '{"format": 1, "files": {}}'):
        (tmp_path / "mine" / "manifest.json").write_text(text)
        with pytest.raises(UnsafeError):
            publish(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UnsafeError, match=r"holds notes\.txt, which compressit did not write"):
        publish(tmp_path / "out", "three", overwrite=True)
    (tmp_path / "out" / "notes.txt").unlink()
    with pytest.raises(RecipeError, match="not a usable folder name"):
        publish(tmp_path / ("é" * 150))
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecipeError, match="is a file"):
        publish(tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UnsafeError, match="symbolic link"):
        publish(tmp_path / "link", overwrite=True)
    (tmp_path / "empty").mkdir()
    publish(tmp_path / "empty")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_modes_are_what_the_users_umask_says(tmp_path, mask):
    before = os.umask(mask)
    try:
        publish(tmp_path / "out")
    finally:
        os.umask(before)
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "inner" / "a.txt").write_text("two"), "content changed"),
        (lambda folder: (folder / "inner" / "a.txt").write_text("longer"), "6 bytes, 3 expected"),
        (lambda folder: (folder / "inner" / "a.txt").unlink(), "missing"),
        (lambda folder: (folder / "more.txt").write_text("x"), "not in the manifest"),
    ],
)
def test_every_change_of_a_result_is_found(tmp_path, harm, said):
    publish(tmp_path / "out")
    harm(tmp_path / "out")
    with pytest.raises(IntegrityError, match=said):
        store.check(tmp_path / "out")


def test_a_link_in_a_result_is_found(tmp_path):
    publish(tmp_path / "out")
    (tmp_path / "out" / "sly").symlink_to(tmp_path)
    assert store.verify(tmp_path / "out") == ["sly: a symbolic link"]


def test_a_manifest_cannot_point_out_of_the_folder(tmp_path):
    publish(tmp_path / "out")
    (tmp_path / "secret").write_text("s")
    file = tmp_path / "out" / "manifest.json"
    said = json.loads(file.read_text())
    said["files"]["../secret"] = {"size": 1, "sha256": "0"}
    file.write_text(json.dumps(said))
    assert "../secret: lies outside the folder" in store.verify(tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1, "files": {"a": 5}}',
        '{"format": 1, "files": {"a": {}}}',
        '{"format": 99, "files": {}}',
        "\xff",
    ],
)
def test_a_broken_manifest_is_an_error_that_names_it(tmp_path, text):
    publish(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        store.verify(tmp_path / "out")


KILLED = """
import sys, time
from pathlib import Path
from compressit import store
with store.staged(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "half.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_leaves_is_no_result_and_the_next_run_removes_it(tmp_path):
    publish(tmp_path / "out")
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "out"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGKILL)
    left = [path for path in tmp_path.iterdir() if path.name != "out"]
    assert len(left) == 1
    assert left[0].name.startswith(".out.tmp-")
    with pytest.raises(IntegrityError, match="not a finished result"):
        store.check(left[0])
    publish(tmp_path / "out", "two", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_live_run_is_writing_is_left_alone(tmp_path):
    with store.staged(tmp_path / "out") as folder:
        publishing.sweep(tmp_path / "out")
        assert folder.is_dir()


def test_a_result_that_lost_its_name_gets_it_back(tmp_path):
    """A kill between the two renames of an overwrite."""
    publish(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / f".out.old-{owners.host()}-999999999-1")
    publishing.sweep(tmp_path / "out")
    assert store.verify(tmp_path / "out") == []


def test_of_two_runs_with_one_target_the_second_is_told_who_the_first_is(tmp_path):
    with store.staged(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("first")
        done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out"], capture_output=True, text=True)
        assert done.returncode == 1
        assert f"RetryableError: process {os.getpid()} on {owners.host()} is writing {tmp_path / 'out'}" in done.stderr
    assert (tmp_path / "out" / "a.txt").read_text() == "first"


def test_a_run_of_another_host_is_left_alone_and_said_how_to_remove(tmp_path):
    other = tmp_path / ".out.tmp-far-away-17-4"
    other.mkdir()
    with (
        pytest.raises(RetryableError, match="process 17 on far-away is writing") as told,
        store.staged(tmp_path / "out"),
    ):
        pass
    assert f"if that process is dead, remove {other}" in told.value.hint
    assert other.is_dir()


def test_what_a_lost_host_left_bars_no_way(tmp_path, monkeypatch):
    """A batch knows from a cluster that a node is gone, which nobody else can."""
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".out.tmp-far-away-17-4").mkdir()
    half = tmp_path / "cache" / "unfinished" / "k.far-away-17-4"
    half.mkdir(parents=True)
    (half / "note").write_text("half way")
    (tmp_path / ".other.tmp-far-away-17-4").mkdir()
    (tmp_path / ".out.tmp-far-away-18-4").mkdir()
    store.forget("far-away-17-4", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".other.tmp-far-away-17-4", ".out.tmp-far-away-18-4"]
    with store.unfinished("k") as found:
        assert (found / "note").read_text() == "half way"
    with store.staged(tmp_path / "mine") as folder:
        (folder / "a.txt").write_text("alive")
        store.forget(owners.mine(), tmp_path / "mine")
    assert store.verify(tmp_path / "mine") == []


def test_what_another_published_in_the_meantime_stays(tmp_path):
    """On file systems that show what others do too late."""
    with pytest.raises(RetryableError, match="another run published"), store.staged(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("first")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.txt").write_text("second")
    assert (tmp_path / "out" / "a.txt").read_text() == "second"


def test_a_place_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises((StepError, RecipeError), match="file"):
        publish(tmp_path / "file" / "out")


def test_an_unfinished_folder_is_found_again_and_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), store.unfinished("k") as folder:
        (folder / "note").write_text("half way")
        raise KeyboardInterrupt
    with store.unfinished("k") as again:
        assert (again / "note").read_text() == "half way"
    assert not again.exists()


def test_a_result_is_amended_and_still_verifies(tmp_path):
    publish(tmp_path / "out", about={"recipe_sha256": "abc"})
    store.amend(tmp_path / "out", {"inner/a.txt": "two", "b.md": "new"})
    assert store.verify(tmp_path / "out") == []
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "two"
    said = store.manifest(tmp_path / "out")
    assert (said["recipe_sha256"], {*said["files"]}) == ("abc", {"inner/a.txt", "b.md"})
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.txt", "b.md", "inner", "manifest.json"]


def test_an_amendment_stays_inside(tmp_path):
    publish(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("../x.txt", str(tmp_path / "x.txt"), "link/x.txt", "manifest.json"):
        with pytest.raises(UnsafeError):
            store.amend(tmp_path / "out", {name: "x"})
    assert not [*(tmp_path / "elsewhere").iterdir(), *tmp_path.glob("x.txt")]
    with pytest.raises(IntegrityError, match="not a finished result"):
        store.amend(tmp_path / "elsewhere", {"a": "x"})


def test_some_files_can_be_checked_alone(tmp_path):
    publish(tmp_path / "out")
    (tmp_path / "out" / "inner" / "a.txt").write_text("two")
    assert store.verify(tmp_path / "out", ()) == []
    assert store.verify(tmp_path / "out", ["inner/a.txt"]) == ["inner/a.txt: its content changed (SHA-256)"]
    with pytest.raises(IntegrityError, match=r"b\.txt: not in the manifest"):
        store.check(tmp_path / "out", ["b.txt"])
