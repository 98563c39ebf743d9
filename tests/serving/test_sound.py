"""Results that were changed behind a manifest that says they were not: nothing of them is believed or opened."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from compressit.errors import IntegrityError, UnsafeError
from compressit.report import files, kept
from compressit.serving import finished


@pytest.fixture
def changed(done, tmp_path):
    """Change a copy of the run by a function of its folder, and sign it again."""

    def change(how):
        copy = shutil.copytree(done, tmp_path / "copy")
        how(copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        for name in list(manifest["files"]):
            held = (copy / name).read_bytes() if (copy / name).is_file() else None
            if held is None:
                del manifest["files"][name]
            else:
                manifest["files"][name] = {"size": len(held), "sha256": hashlib.sha256(held).hexdigest()}
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    return change


def reported(how):
    """Change report.json."""

    def change(folder):
        tree = json.loads((folder / "report.json").read_text())
        how(tree)
        (folder / "report.json").write_text(json.dumps(tree))

    return change


def said(**arrays):
    """Change arrays of what the checkpoint said, by a function each."""

    def change(folder):
        with np.load(folder / "examples" / "checkpoint.npz") as held:
            whole = dict(held)
        whole |= {key: how(whole) for key, how in arrays.items()}
        np.savez(folder / "examples" / "checkpoint.npz", **whole)

    return change


def first(tree):
    return tree["artifacts"][0]


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (lambda tree: first(tree).update(path="/etc"), UnsafeError, "'/etc' is no folder of this result"),
        (lambda tree: first(tree).update(path="../../other"), UnsafeError, "is no folder of this result"),
        (lambda tree: first(tree).update(name="../../x"), UnsafeError, "is no folder of this result"),
        (lambda tree: tree.update(artifacts=[]), IntegrityError, "tells of no artifact"),
        (lambda tree: tree.update(task="nope"), IntegrityError, "the task 'nope', which this compressit doesn't know"),
        (lambda tree: tree.update(schema_version=2, more=1), IntegrityError, "version 2; this compressit reads 1"),
        (lambda tree: first(tree).update(readings=[]), IntegrityError, "not measured by the same metrics"),
        (lambda tree: first(tree)["readings"][0].update(value=float("nan")), IntegrityError, "NaN is no number"),
        (lambda tree: tree.pop("name"), IntegrityError, "report.json is not as expected: name: Field required"),
        (lambda tree: tree.update(task="image-classification"), IntegrityError, "recipe.yaml beside it does not"),
    ],
)
def test_a_report_that_was_changed_is_refused(changed, how, kind, message):
    folder = changed(reported(how))
    with pytest.raises(kind, match=message):
        finished.opened(folder)


def test_a_runtime_that_nobody_installed_is_named(changed, cli):
    folder = changed(reported(lambda tree: first(tree).update(runtime="other")))
    made = cli("verify", folder)
    assert made.returncode == 5
    assert "unknown runtime 'other'" in made.stderr


@pytest.mark.parametrize("text", ["", '{"name": ', "[" * 100_000])
def test_a_report_that_was_cut_is_refused(changed, text):
    folder = changed(lambda folder: (folder / "report.json").write_text(text))
    with pytest.raises(IntegrityError, match=r"report\.json can't be read"):
        finished.opened(folder)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest\.json can't be read"):
        finished.opened(folder)


def test_a_result_without_its_recipe_is_none(changed):
    folder = changed(lambda folder: (folder / "recipe.yaml").unlink())
    with pytest.raises(IntegrityError, match=r"holds no recipe\.yaml"):
        finished.opened(folder)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda folder: (folder / "examples" / "checkpoint.npz").write_bytes(b""), "can't be read"),
        (lambda folder: (folder / "examples" / "checkpoint.npz").write_bytes(b"PK\x03\x04half"), "can't be read"),
        (lambda folder: (folder / "examples" / "checkpoint.npz").unlink(), r"holds no examples/checkpoint\.npz"),
        (said(logits=lambda held: held["logits"][:10]), "labels holds 300 rows, 10 expected"),
        (said(logits=lambda held: held["logits"][:, 0]), "logits holds float32 in 1 axes"),
        (said(logits=lambda held: held["logits"].astype(str)), "logits holds <U32"),
        (said(labels=lambda held: held["labels"] + 7), "labels go beyond the classes"),
        (said(more=lambda held: held["labels"]), "can't be read"),
    ],
)
def test_evidence_that_was_changed_is_refused(changed, how, message):
    folder = changed(how)
    with pytest.raises(IntegrityError, match=message):
        kept.said(folder, "text-classification", "checkpoint")
    with pytest.raises(IntegrityError, match=message):
        files.read(folder)


def test_tags_that_were_changed_are_refused():
    from compressit.outputs.tags import Tags

    fields = {"logits": np.zeros((3, 2), np.float32), "labels": np.array([0, 1, -1]), "counts": np.array([1, 2]),
              "names": np.array(["O", "B-X"]), "examples": np.zeros(2, np.uint64)}  # fmt: skip
    assert Tags(**fields).unsound() == ""
    for name, value, wrong in (
        ("counts", np.array([4, -1]), "fewer words than none"),
        ("counts", np.array([1, 1]), "3 rows, 2 expected"),
        ("names", np.array(["O"]), "names holds 1 rows, 2 expected"),
        ("labels", np.array([0, 1, 2]), "beyond the classes"),
    ):
        assert wrong in Tags(**{**fields, name: value}).unsound()


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "{run}", "--input", "{rows}", "--output", "{run}/report.json", "--overwrite"),
        ("report", "{run}", "--html", "{run}/report.html"),
        ("compare", "{run}", "--write-baseline", "{run}/checkpoint/baseline.json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_nothing_of_ones_own_is_written_into_a_result(changed, sentiment, cli, arguments):
    folder = changed(lambda folder: None)
    made = cli(*(each.format(run=folder, rows=sentiment / "test.jsonl") for each in arguments))
    assert made.returncode == 2
    assert "a result, whose files are all known" in made.stderr
    assert cli("verify", folder).returncode == 0
