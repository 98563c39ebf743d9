"""Sounds from folders, files and rows come out as the same waves; what is wrong with one is said."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from compressit import data, machine
from compressit.data import DatasetSpec
from compressit.errors import DataError, MissingExtra
from compressit.tasks import _waveforms, audio_classification
from tests import heard

TASK = "audio-classification"
NAMES = dict(enumerate(heard.CLASSES))


def read(folder, split="train", **fields):
    spec = DatasetSpec(**{"evaluation": split, **fields})
    return data.rows(spec, split, TASK, NAMES, folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heard")
    heard.write(folder / "folder" / "train", 6, 1)
    heard.write(folder / "folder" / "test", 3, 2)
    some = heard.sounds(6, 1)
    (folder / "flat").mkdir()
    for index, (wave, _) in enumerate(some):
        soundfile.write(folder / "flat" / f"{index}.wav", wave, heard.RATE)
    named = [{"file_name": f"{index}.wav", "label": label} for index, (_, label) in enumerate(some)]
    (folder / "flat" / "metadata.jsonl").write_text("\n".join(map(json.dumps, named)))
    paths = [{"audio": f"flat/{row['file_name']}", "label": row["label"]} for row in named]
    (folder / "paths.jsonl").write_text("\n".join(map(json.dumps, paths)))
    (folder / "paths.csv").write_text("audio,label\n" + "\n".join(f"{row['audio']},{row['label']}" for row in paths))
    arrays = [{"audio": {"array": [*map(float, soundfile.read(folder / row["audio"])[0])],
                         "sampling_rate": heard.RATE}, "label": row["label"]} for row in paths]  # fmt: skip
    (folder / "arrays.jsonl").write_text("\n".join(map(json.dumps, arrays)))
    whole = datasets.Dataset.from_list([{**row, "audio": str(folder / row["audio"])} for row in paths])
    whole = whole.cast_column("audio", datasets.Audio())
    whole.to_parquet(folder / "sounds.parquet")
    with pa.ipc.new_stream(str(folder / "sounds.arrow"), whole.features.arrow_schema) as stream:
        stream.write_table(whole.data.table.cast(whole.features.arrow_schema))
    return folder


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("flat", "train"),
        (".", "paths.jsonl"),
        (".", "paths.csv"),
        (".", "arrays.jsonl"),
        ("sounds.parquet", "train"),
        ("sounds.arrow", "train"),
    ],
)
def test_every_kind_of_place_gives_the_same_waves(place, path, split):
    found = read(place, split, path=path)
    assert [NAMES[label] for label in found["label"]] == [label for _, label in heard.sounds(6, 1)]
    for row, (wave, _) in zip(found, heard.sounds(6, 1), strict=True):
        assert np.abs(_waveforms.read(row["audio"], heard.RATE) - wave).max() < 1e-4


def test_a_folder_of_folders_has_its_splits_and_labels(place):
    found = read(place, "train", path="folder")
    assert sorted(found["label"]) == [0, 0, 1, 1, 2, 2]
    assert len(read(place, "test", path="folder")) == 3
    assert data.repeated(found, read(place, "paths.jsonl", path=".")) == 6, "the same sounds, wherever they lie"
    prepared = audio_classification.prepare(found, heard.extractor(), None)
    order = data.by_length(prepared)
    lengths = [len(prepared[place]["input_values"]) for place in order]
    assert lengths == sorted(lengths)


def test_it_is_brought_to_the_rate_of_the_model_mixed_down_cut_and_padded(tmp_path):
    time = np.arange(44_100) / 44_100
    both = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], 1)
    soundfile.write(tmp_path / "stereo.flac", both, 44_100)
    held = {"bytes": None, "path": str(tmp_path / "stereo.flac")}
    wave = _waveforms.read(held, 8_000)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    assert wave.shape == (8_000,)
    assert np.abs(wave - wanted)[200:-200].max() < 1e-3
    assert len(_waveforms.read(held, 8_000, 0.25)) == 2_000
    rows = datasets.Dataset.from_list([{"audio": held, "label": 1}])
    processor = heard.extractor(mask=True)
    short, long = (audio_classification.prepare(rows, processor, None, most)[0] for most in (0.25, 0.5))
    assert abs(short["input_values"].mean()) < 1e-3
    assert short["input_values"].std() == pytest.approx(1, abs=1e-3)
    batch = audio_classification.collate(processor)([short, long])
    assert batch["input_values"].shape == (2, 4_000)
    assert batch["attention_mask"].sum(1).tolist() == [2_000, 4_000]
    assert batch["input_values"][0, 2_000:].abs().max() == 0
    assert "attention_mask" not in audio_classification.collate(heard.extractor())([short, long])


@pytest.mark.parametrize(
    ("audio", "message"),
    [("gone.wav", "there is no sound file .*gone.wav"),
     (None, "audio is empty"),
     ({"array": [0.0, 0.1]}, "has samples, and no sampling_rate")],
)  # fmt: skip
def test_what_is_wrong_with_a_row_names_its_line(tmp_path, audio, message):
    rows = [{"audio": audio, "label": "low"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=f"line 1 of .*: .*{message}"):
        read(tmp_path, "a.jsonl", path=".")


def test_what_is_no_sound_is_refused(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"nothing to hear")
    soundfile.write(tmp_path / "click.wav", np.zeros(20), 8_000)
    for name, message in (("noise.wav", "can't be read as sound"), ("click.wav", "0.003 seconds of sound")):
        with pytest.raises(DataError, match=message):
            _waveforms.read({"bytes": None, "path": str(tmp_path / name)}, 8_000)


def test_without_the_extra_it_says_which(place, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="soundfile is not installed") as missing:
        read(place, "paths.jsonl", path=".")
    assert missing.value.hint == "pip install 'compressit[audio]'"
