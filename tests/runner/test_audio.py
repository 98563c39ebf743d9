"""A small wav2vec 2.0 from recipe to report, on a folder of sounds: cut, distilled, trained, exported."""

import json

import numpy as np
import pytest

import compressit
from compressit import plan, recipe
from compressit.errors import CompressitError
from compressit.progress import Silent
from compressit.serving import bench, finished, predict
from tests import heard, tiny

RECIPE = """\
name: sounds
task: audio-classification
model: model
dataset:
  path: data
  train: train
  calibration: train[:48]
  evaluation: test
  max_seconds: 0.45
steps:
  - {step: drop_layers, keep: 3, choose: influence}
  - {step: prune_ffn, sparsity: 0.5, uniform: true}
  - {step: distill, epochs: 2, learning_rate: 1e-3, batch_size: 16}
  - {step: finetune, epochs: 1, batch_size: 16}
exports:
  - {export: onnx, weights: int8}
metrics: [accuracy, f1, agreement, size]
targets:
  - {metric: accuracy, min: 0.8}
  - {metric: size, max_ratio: 0.9, artifact: checkpoint}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    heard.write(folder / "data" / "train", 96, 1)
    heard.write(folder / "data" / "test", 45, 2)
    names = dict(enumerate(heard.CLASSES))
    module = tiny.build("wav2vec2-stable", id2label=names, label2id={name: index for index, name in names.items()})
    module.init_weights()
    processor = tiny.processor("wav2vec2-stable")
    heard.train(module, processor, heard.rows(96, 3)).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder, compressit.apply(folder / "recipe.yaml", folder / "run", waterfall=False)


def test_targets_are_met_and_files_say_what_the_checkpoint_says(run):
    _, report = run
    assert report.exit_code == 0
    checkpoint, onnx = report.artifacts
    assert onnx.notes["agreement"] > 0.9
    assert checkpoint.parameters == report.steps[-1].parameters


def test_plain_transformers_opens_the_checkpoint_and_its_extractor(run):
    import soundfile
    import transformers

    folder, _ = run
    place = folder / "run" / "checkpoint"
    model = transformers.AutoModelForAudioClassification.from_pretrained(place)
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (3, 32)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(place)
    assert (extractor.sampling_rate, extractor.return_attention_mask) == (heard.RATE // 2, True)
    wave, _ = soundfile.read(folder / "data" / "test" / "low" / "002.wav", dtype="float32")
    inputs = extractor(wave[::2], sampling_rate=extractor.sampling_rate, return_tensors="pt")
    assert model.config.id2label[int(model(**inputs).logits.argmax())] == "low"
    assert (folder / "run" / "onnx" / "preprocessor_config.json").is_file()


def test_new_sounds_are_told_apart(run, tmp_path):
    heard.write(tmp_path, 6, 5)
    files = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.wav"))
    rows = [{"audio": str(file), "number": number} for number, file in enumerate(files)]
    wave, _ = heard.sounds(1, 6)[0]
    rows.append({"audio": {"array": [*map(float, wave)], "sampling_rate": heard.RATE}, "number": 6})
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = []
    done = finished.opened(run[0] / "run")
    assert predict.predict(done, tmp_path / "new.jsonl", predict.Wanted(), lines.append, Silent()) == 7
    said = [json.loads(line) for line in lines]
    assert [row["number"] for row in said] == [*range(7)]
    right = [row["prediction"]["label"] == file.parent.name for row, file in zip(said, files, strict=False)]
    assert np.mean(right) > 0.8


def test_it_is_timed_on_noise(run):
    done = finished.opened(run[0] / "run")
    found = bench.bench([done], bench.Wanted(batches=(2,), seconds=0.1), Silent())
    assert {timed.name for timed in found.timed} == {"original", "checkpoint", "onnx"}
    assert [cell.length for cell in found.cells] == [None]


PLANNED = """\
name: refused
task: audio-classification
model: {model}
dataset: {{path: data, train: train, calibration: "train[:48]", evaluation: test}}
steps:
  - {step}
{more}
"""


@pytest.mark.parametrize(
    ("name", "step", "more", "message", "hint"),
    [
        ("wav2vec2", "{step: cast}", "", "convolves what it is given as it comes", "weights: int8"),
        ("wav2vec2", "{step: prune_width, sparsity: 0.2}", "", "computed for the width it has", "prune_structured"),
        ("wavlm", "{step: prune_heads, sparsity: 0.5}", "", "each gates position biases", "prune_ffn"),
        ("hubert", "{step: student_textcnn}", "", "does not work on models for audio-classification", None),
        (
            "ast",
            "{step: drop_layers, keep: 2}",
            "exports: [{export: gguf}]",
            "gguf does not hold models for audio",
            None,
        ),
    ],
)
def test_the_plan_says_what_can_not_be_done(name, step, more, message, hint, run, tmp_path):
    tiny.save(name, tmp_path / "model")
    file = run[0] / "refused.yaml"
    file.write_text(PLANNED.format(model=tmp_path / "model", step=step, more=more))
    with pytest.raises(CompressitError) as refused:
        plan.plan(recipe.load(file))
    assert message in str(refused.value)
    assert hint is None or hint in str(refused.value)
