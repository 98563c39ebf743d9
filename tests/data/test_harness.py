"""Tasks of the LM Evaluation Harness: what is read, and that its figures are those of the harness itself."""

import json
from pathlib import Path

import datasets
import pytest

import compressit
from compressit import plan
from compressit import recipe as recipes
from compressit.data import DatasetSpec, source
from compressit.errors import CompressitError, DataError, RetryableError
from tests.tasks.test_multiple_choice import questions

pytestmark = pytest.mark.filterwarnings("ignore")
CARD = """\
---
configs:
- config_name: ARC-Easy
  data_files:
  - {split: train, path: train.jsonl}
  - {split: validation, path: validation.jsonl}
  - {split: test, path: test.jsonl}
---
"""
RECIPE = """\
name: harness
task: multiple-choice
model: {model}
dataset: {{path: "lm_eval:arc_easy", evaluation: "test[:12]"{more}}}
steps: [{{step: quantize_rtn, bits: 3, group_size: 32}}]
metrics: [accuracy, size]
"""


@pytest.fixture
def arc(tmp_path, monkeypatch):
    """A folder where the hub's data set would be, which lm-eval asks datasets for by its id."""
    folder = tmp_path / "allenai" / "ai2_arc"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for split, seed in (("train", 1), ("validation", 2), ("test", 3)):
        rows = []
        for number, each in enumerate(questions(16, seed)):
            letters = ["A", "B", "C", "D"][: len(each["choices"])]
            rows.append(
                {
                    "id": str(number),
                    "question": each["context"],
                    "choices": {"text": each["choices"], "label": letters},
                    "answerKey": letters[each["answer"]],
                }
            )
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize("normalize", ["", "characters"])
def test_figures_are_those_of_the_harness(normalize, arc, storyteller):
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    more = f", normalize: {normalize}" if normalize else ""
    (arc / "r.yaml").write_text(RECIPE.format(model=storyteller / "model", more=more))
    compressit.apply(arc / "r.yaml", arc / "out", waterfall=False)
    found = json.loads((arc / "out" / "report.json").read_text())
    for own, folder in ((found["original"], storyteller / "model"), (found["artifacts"][0], arc / "out/checkpoint")):
        judge = HFLM(pretrained=str(folder), device="cpu", batch_size=1, dtype="float32")
        said = lm_eval.simple_evaluate(judge, tasks=["arc_easy"], num_fewshot=0, limit=12, bootstrap_iters=0)
        wanted = said["results"]["arc_easy"]["acc_norm,none" if normalize else "acc,none"]
        assert 0 < wanted < 1
        assert own["readings"][0]["value"] == pytest.approx(wanted)


def read(split, name="arc_easy", **more):
    return source.read(DatasetSpec(path=f"lm_eval:{name}", evaluation=split, **more), split, Path())


def test_what_cannot_be_read_is_named(arc):
    assert read("validation[:3]").column_names == ["context", "choices", "answer"]
    assert read("test[:1]", shots=2)["context"][0].count("Question:") == 3
    for wrong, said in (
        ({"split": "dev"}, "no split 'dev'"),
        ({"split": "test", "name": "arc_eazy"}, "did you mean arc_easy"),
        ({"split": "test", "name": "mmlu"}, "is a group of tasks"),
        ({"split": "test", "shots": 16}, "has 16 solved examples"),
    ):
        with pytest.raises(DataError, match=said):
            read(**wrong)
    with pytest.raises(RetryableError, match=r"lm_eval:piqa is not .* the hub can't be reached"):
        read("test", "piqa")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("multiple-choice", "text-generation"), "has choices"),
        (("lm_eval:arc_easy", "demo:stdlib"), "solved examples"),
        (("shots: 2", "revision: main"), "says by itself"),
        (("shots: 2", 'suffix: " So:"'), "says by itself"),
    ],
)
def test_recipes_that_cannot_mean_it_are_refused(change, said, tmp_path):
    text = RECIPE.format(model="demo:stdlib", more=", shots: 2").replace(*change)
    (tmp_path / "r.yaml").write_text(text.replace("[accuracy, size]", "[size]"))
    with pytest.raises(CompressitError, match=said):
        plan.plan(recipes.load(tmp_path / "r.yaml"))
