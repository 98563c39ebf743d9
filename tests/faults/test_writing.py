"""A kill, a full disk and a lying disk at every single moment of a write: old or new, never half, nothing left over."""

import json
import os
import subprocess
import sys

import pytest

from compressit import store

DRIVER = '''
"""Do one write again and again, disturbed at its first, second, ... touch of the disk, until it gets through."""
import errno, json, os, signal, sys
from pathlib import Path
from compressit import cache, store
from compressit.errors import CompressitError, IntegrityError
from compressit.store import publishing

place, action, fault = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["COMPRESSIT_CACHE"] = str(place / "cache")
MADE = {"step": "x", "config": {"keep": 2}}
WRITES = {"os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def filled(folder, text):
    (folder / "inner").mkdir(exist_ok=True)
    for name in ("a.txt", "inner/b.txt"):
        (folder / name).write_text(text)


def publish(text, overwrite=True):
    with store.staged(place / "out", overwrite=overwrite) as folder:
        filled(folder, text)


def upload(text, overwrite=True):
    with store.staged(store.place(f"file://{place}/there"), overwrite=overwrite) as folder:
        filled(folder, text)


def put(text):
    cache.put(MADE, lambda folder: filled(folder, text))


def write(text):
    with store.written(place / "out.txt", overwrite=True) as stream:
        stream.write(text)


def amend(text):
    store.amend(place / "out", {"a.txt": text, "inner/b.txt": text})


def texts(folder):
    return {(folder / name).read_text() for name in ("a.txt", "inner/b.txt")}


def whole():
    """Say what a reader finds."""
    if action == "write":
        return {(place / "out.txt").read_text()}
    if action == "upload":
        try:
            with store.fetched(store.place(f"file://{place}/there")) as folder:
                return texts(folder)
        except IntegrityError as error:  # a folder without its manifest, or with half of it, is no result
            assert "not a finished result" in error.message or "can't be read" in error.message, error
            return {"none"}
    if action == "put":
        found = cache.find(MADE, lambda line: None)
        return {"none"} if found is None else texts(found)
    publishing.sweep(place / "out")
    wrong = store.verify(place / "out")
    if action == "amend":  # killed in between, it says what is not as it should be, and the same call mends it
        return {"told"} if wrong else texts(place / "out")
    assert wrong == [], wrong
    return texts(place / "out")


count = 0


def disturb(number):
    def look(event, arguments):
        global count
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (opened or event in WRITES):
            return
        named = [os.fsdecode(each) for each in arguments if isinstance(each, (str, bytes, os.PathLike))]
        if not any(str(place) in name for name in named):
            return
        count += 1
        if count == number or (fault == "full" and count > number):
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if event not in ("os.remove", "os.rmdir", "shutil.rmtree"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    sys.addaudithook(look)
    sync = os.fsync

    def fsync(handle):
        look("os.chmod", (str(place),))
        sync(handle)

    os.fsync = fsync


do = {"publish": publish, "upload": upload, "put": put, "write": write, "amend": amend}[action]
if action in ("publish", "amend"):
    publish("old", overwrite=False)
if action == "upload":
    upload("old", overwrite=False)
if action == "write":
    write("old")
outcomes, number = [], 0
while True:
    number += 1
    child = os.fork()
    if not child:
        disturb(number)
        try:
            do("new")
        except CompressitError as error:
            os._exit(20 + int(error.exit_code))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(19 if count >= number else 0)  # 19: it got through in spite of the fault
    status = os.waitpid(child, 0)[1]
    outcome = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    found = whole()
    if fault == "full" and action != "amend":
        hidden = [path.name for path in place.rglob("*") if ".tmp-" in path.name or ".old-" in path.name]
        assert hidden == [], hidden
    outcomes.append([number, outcome, sorted(found)])
    if outcome == 0:
        break
    assert number < 500
    if found == {"new"}:  # it was published before the fault; begin again from the old one
        publish("old") if action in ("publish", "amend") else write("old") if action == "write" else None
        if action == "upload":
            upload("old")
        if action == "put":
            cache.remove(cache.place() / cache.key(MADE))
do("newer") if action != "put" else put("new")
HALF = (".tmp-", ".old-", ".half", ".writing-")
left = [path.name for path in place.rglob("*") if any(part in path.name for part in HALF)]
print(json.dumps({"outcomes": outcomes, "left": left}))
'''


@pytest.mark.parametrize("fault", ["kill", "once", "full"])
@pytest.mark.parametrize("action", ["publish", "upload", "put", "write", "amend"])
def test_at_every_moment(action, fault, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, tmp_path, action, fault],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    outcomes = said["outcomes"]
    assert outcomes[-1][1:] == [0, ["new"]]
    assert len(outcomes) > (4 if action == "write" else 15), "every touch of the disk was tried"
    expected = {"kill": {-9}, "once": {25}, "full": {25}}[fault]
    assert {outcome for _, outcome, _ in outcomes[:-1]} <= expected | {19}, outcomes
    told = {tuple(found) for _, _, found in outcomes[:-1]}
    assert told <= {("old",), ("new",), ("none",), ("told",)}, "never half of one and half of another"
    assert said["left"] == [], "the next write removes what the disturbed one left"


def test_what_gets_a_name_is_on_the_disk_before(tmp_path, monkeypatch):
    """Power that is lost takes what was not synced: files first, then their folder, and the new name last."""
    events = []

    def sync(handle, real=os.fsync):
        events.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    def rename(old, new, real=os.rename):
        events.append(("rename", os.fspath(old), os.fspath(new)))
        real(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    with store.staged(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text("a")
    place = events.index(("rename", str(folder), str(tmp_path / "out")))
    before = [name for _, name, *_ in events[:place]]
    assert {str(folder / name) for name in ("inner/a.txt", "inner", "manifest.json", ".")} <= set(before)
    assert before.index(str(folder / "inner" / "a.txt")) < before.index(str(folder / "manifest.json"))
    assert ("sync", str(tmp_path)) in events[place:]
