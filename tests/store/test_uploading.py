"""Results behind a URL: there with their manifest or not at all, only the rest sent again, two writers told apart."""

import datetime
import json
import socket

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from compressit import store
from compressit.errors import IntegrityError, RecipeError, RetryableError, StepError, UnsafeError
from compressit.store import owners, remote, uploading

FILES = {"a.txt": "one", "inner/b.txt": "two", "inner/c.txt": "three"}


class Flaky(MemoryFileSystem):
    """Memory that notes what is sent, and fails where it is told to."""

    protocol = "flaky"
    sent: list = []  # noqa: RUF012
    fail: dict = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("flaky://"))

    def put_file(self, lpath, rpath, **options):
        name = rpath.rpartition("/")[2]
        if name in self.fail:
            raise self.fail.pop(name)
        self.sent.append(name)
        super().put_file(lpath, rpath, **options)


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    Flaky.sent.clear()
    Flaky.fail.clear()


def publish(url="flaky://bucket/run", files=FILES, **options):
    with store.staged(store.place(url), **options) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def names(url="flaky://bucket/run"):
    return sorted(store.place(url).files())


def read(url="flaky://bucket/run"):
    with store.fetched(store.place(url)) as folder:
        return {name: (folder / name).read_text() for name in FILES if (folder / name).exists()}


def test_a_result_is_uploaded_with_its_manifest_last_and_read_back(tmp_path):
    publish(about={"recipe_sha256": "abc"})
    assert names() == ["a.txt", "inner/b.txt", "inner/c.txt", "manifest.json"]
    assert Flaky.sent[-1] == "manifest.json"
    assert read() == FILES
    assert json.loads(store.place("flaky://bucket/run").read("manifest.json"))["recipe_sha256"] == "abc"
    assert [*(tmp_path / "cache" / "unfinished").iterdir()] == []
    publish("flaky://bucket/run2", {"a.txt": "another"})
    assert read() == FILES
    with pytest.raises(RecipeError, match="exists already"):
        publish()
    publish(files={"a.txt": "1"}, overwrite=True)
    assert names() == ["a.txt", "manifest.json"]


def test_a_broken_upload_is_no_result_and_only_the_rest_is_sent_again():
    Flaky.fail["c.txt"] = ConnectionResetError("the line is dead")
    with pytest.raises(RetryableError, match="flaky://bucket/run can't be used: the line is dead"):
        publish()
    with pytest.raises(IntegrityError, match="not a finished result"):
        read()
    Flaky.sent.clear()
    # What is made again may differ in a file of the same size.
    publish(files={**FILES, "a.txt": "eno"})
    assert Flaky.sent == ["a.txt", "c.txt", "manifest.json"]
    assert read() == {**FILES, "a.txt": "eno"}
    assert names() == ["a.txt", "inner/b.txt", "inner/c.txt", "manifest.json"]


def test_what_was_cut_short_is_sent_again_also_where_a_store_tells_no_sizes(monkeypatch):
    for told in (True, False):
        Flaky.fail["manifest.json"] = TimeoutError("the store is slow")
        with pytest.raises(RetryableError):
            publish()
        if not told:
            monkeypatch.setattr(Flaky, "find", lambda self, path, **options: {
                name: {"type": "file"} for name in MemoryFileSystem.find(self, path)
            })  # fmt: skip
        store.place("flaky://bucket/run").write("inner/b.txt", b"tw")
        Flaky.sent.clear()
        publish()
        assert Flaky.sent == ["b.txt", "manifest.json"]
        assert read() == FILES
        publish(files={}, overwrite=True)
        store.place("flaky://bucket/run").remove("manifest.json")


def test_an_old_result_is_never_mixed_with_a_new_one():
    publish()
    Flaky.fail["c.txt"] = PermissionError("no")
    with pytest.raises(StepError, match=r"no \(PermissionError\)"):
        publish(files={**FILES, "a.txt": "new"}, overwrite=True)
    assert "manifest.json" not in names()
    publish(files={"a.txt": "new"})
    assert read() == {"a.txt": "new"}


def test_what_came_there_meanwhile_is_left_alone():
    place = store.place("flaky://bucket/run")
    with pytest.raises(UnsafeError, match=r"thesis\.txt"), store.staged(place, overwrite=True) as folder:
        (folder / "a.txt").write_text("one")
        place.write("thesis.txt", b"years of work")
    assert names() == ["thesis.txt"]
    place.remove("thesis.txt")
    with pytest.raises(RetryableError, match="another run published"), store.staged(place) as folder:
        (folder / "a.txt").write_text("one")
        place.write("manifest.json", b'{"format": 1, "files": {}}')


def test_what_others_put_there_is_never_replaced():
    place = store.place("flaky://bucket/run")
    place.write("thesis.txt", b"years of work")
    with pytest.raises(RecipeError, match="exists already"):
        publish()
    with pytest.raises(UnsafeError, match=r"holds thesis\.txt, which compressit did not write"):
        publish(overwrite=True)
    place.write("manifest.json", b"{}")
    with pytest.raises(UnsafeError, match="is not a result of compressit"):
        publish(overwrite=True)
    assert place.read("thesis.txt") == b"years of work"


def test_of_two_that_live_the_later_one_gives_up_and_of_a_dead_one_the_work_is_taken_over():
    place = store.place("flaky://bucket/run")
    with uploading.held(place), pytest.raises(RetryableError, match=r"process \d+ on .* is writing flaky://bucket/run"):
        publish()
    assert names() == []
    other = uploading.Hold(place, f"{uploading.MARK}{1:020}-elsewhere-17-4711")
    other.note({"a.txt": {"size": 3, "sha256": "of another"}})
    place.write("a.txt", b"old")
    with pytest.raises(RetryableError, match="process 17 on elsewhere is writing") as told:
        publish()
    assert ".writing-00000000000000000001-elsewhere-17-4711.*" in told.value.hint
    long_ago = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(seconds=2 * uploading.PATIENCE)
    MemoryFileSystem.store[f"/bucket/run/{other.last}"].modified = long_ago
    publish()
    assert read() == FILES
    other.renew()
    with pytest.raises(RetryableError, match="held this one to be dead"):
        other.confirm()
    assert names() == ["a.txt", "inner/b.txt", "inner/c.txt", "manifest.json"]


def test_who_was_killed_on_this_host_is_taken_over_at_once():
    place = store.place("flaky://bucket/run")
    gone = uploading.Hold(place, f"{uploading.MARK}{1:020}-{owners.host()}-999999999-1")
    gone.note({})
    publish()
    assert read() == FILES


def test_a_process_known_to_be_dead_is_forgotten():
    place = store.place("flaky://bucket/run")
    gone = uploading.Hold(place, f"{uploading.MARK}{1:020}-elsewhere-17-4711")
    gone.note({"a.txt": {"size": 3, "sha256": "of another"}})
    place.write("a.txt", b"old")
    assert uploading.empty(place)
    store.forget("elsewhere-17-4711", place)
    publish()
    assert read() == FILES
    with uploading.glimpsed(place, {"a.txt", "no.txt"}) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "manifest.json"]


def test_a_spoilt_or_hostile_result_is_told_before_anything_is_written(tmp_path):
    publish()
    place = store.place("flaky://bucket/run")
    place.write("inner/b.txt", b"owt")
    with pytest.raises(IntegrityError, match=r"inner/b\.txt: its content changed"):
        read()
    place.remove("inner/b.txt")
    place.write("mine.txt", b"")
    with pytest.raises(IntegrityError, match=r"b\.txt: missing\n  mine\.txt: not in the manifest"):
        read()
    for name in ("../out.txt", "/out.txt", "inner/../../out.txt"):
        place.write("manifest.json", json.dumps({"format": 1, "files": {name: {"size": 1, "sha256": ""}}}).encode())
        with pytest.raises(IntegrityError, match=r"out\.txt: lies outside"):
            read()


def test_what_a_url_needs_and_what_is_none(monkeypatch):
    assert not isinstance(store.place("runs/one"), store.Remote)
    monkeypatch.setitem(known_implementations, "s9", {"class": "s9fs.S9", "err": "Install s9fs"})
    with pytest.raises(StepError, match="s9:// needs a package") as told:
        store.place("s9://bucket/run")
    assert told.value.hint == "pip install s9fs"
    with pytest.raises(RecipeError, match="nothing:// is not known"):
        store.place("nothing://bucket/run")
    for url in ("file://", "memory://", "simplecache::memory://a", "memory://a/../b", "memory://a\nb"):
        with pytest.raises(RecipeError):
            store.place(url)
    with pytest.raises(RecipeError) as told:
        store.place("nothing://me:secret@host/run")
    assert "secret" not in str(told.value)


class EndpointConnectionError(Exception):
    pass


class NoCredentialsError(Exception):
    pass


class HttpError(Exception):
    def __init__(self, code):
        self.code = code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError("Could not connect"), RetryableError), (socket.gaierror(-3, "name"), RetryableError),
        (HttpError(503), RetryableError), (HttpError(429), RetryableError), (HttpError(403), StepError),
        (NoCredentialsError("Unable to locate"), StepError), (FileNotFoundError("The bucket"), StepError),
        (OSError(28, "No space"), StepError), (NotImplementedError(), StepError),
    ],
    ids=lambda each: str(each) or type(each).__name__,
)  # fmt: skip
def test_errors_of_stores_say_whether_to_try_again(error, kind):
    class Broken:
        def cat_file(self, path):
            raise error

    with pytest.raises(kind):
        remote.Remote("x://y", Broken(), "y").read("a")
