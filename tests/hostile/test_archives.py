"""Archives are never unpacked: not a model's, not data's, and not one that goes by another name."""

import gzip
import io
import tarfile
import zipfile

import pytest

RECIPE = """\
name: packed
task: text-classification
model: {model}
dataset: {{path: {data}, evaluation: {split}, columns: {{text: sentence}}}}
exports: [{{export: onnx}}]
metrics: [size]
"""


@pytest.fixture
def packed(tmp_path):
    """Archives of several kinds, one of which leads out of its folder, and one that would be 1 GB."""
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("../escaped.csv", "sentence,label\ngood,1\n")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("../escaped/config.json")
        archive.addfile(info, io.BytesIO())
    with gzip.open(tmp_path / "bomb.csv", "wb", compresslevel=9) as stream:
        for _ in range(1024):
            stream.write(b"\0" * (1 << 20))
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "data.zip").rename(folder / "train.zip")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("train.csv", "sentence,label\ngood,1\n")
    return tmp_path


def test_a_name_is_enough_where_it_says_so(packed, sentiment, write, cli):
    done = cli("validate", write(RECIPE.format(model=packed / "model.tar.gz", data=packed / "data.zip", split="train")))
    assert done.returncode == 2
    assert f"{packed / 'model.tar.gz'} is an archive" in done.stderr
    assert f"{packed / 'data.zip'} is an archive" in done.stderr
    assert "unpack it" in done.stderr


@pytest.mark.parametrize(("data", "split"), [("bomb.csv", "train"), ("folder", "train")])
def test_another_name_does_not_help(packed, sentiment, write, cli, data, split):
    before = {path for path in packed.parent.rglob("*")}
    recipe = write(RECIPE.format(model=sentiment / "model", data=packed / data, split=split))
    done = cli("apply", recipe, "-o", packed / "out")
    assert done.returncode == 2, done.stderr
    assert "is an archive" in done.stderr
    after = {path for path in packed.parent.rglob("*") if "cache" not in str(path)}
    assert not {path for path in after - before if "escaped" in path.name or path.stat().st_size > 1 << 20}
