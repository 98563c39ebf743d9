"""What trimming a classifier's vocabulary to its training text costs: a table, one row for each setting.

    python tests/benchmarks/bench_vocabulary.py --model FOLDER --data FOLDER --corpus train.jsonl --test test.jsonl
        [--text sentence] [--min-count 1 2 3 ...] [--keep 8000 0.99 ...] [--alphabet all seen]
        [--others pieces nearest] [--seeds 0 1 2] [--out FILE.json]

Each setting starts from the model anew, is trimmed by the step as a recipe would, saved, and opened again with plain
transformers. `alike` is the share of test texts whose tokens all stay; of these, one text at a time, `same logits`
counts those whose logits are the original's bit by bit as soon as the step is done, and `saved` is the largest
difference from the original's of what was opened again: weights that lie elsewhere in memory may be added up in another
order. Accuracy is that of what was opened.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import datasets
import torch
import transformers

from compressit import data, model
from compressit.progress import Silent
from compressit.steps import StepContext, trim_vocabulary

TASK = "text-classification"
SAMPLE = 1024
"""Calibration rows, of the corpus, on which `others: nearest` measures."""
HEADS = ["setting", "rows", "of all", "corpus covered", "alike", "same logits", "saved", "accuracy", "points", "MB"]


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", default="train.jsonl")
    parser.add_argument("--test", default="test.jsonl")
    parser.add_argument("--text", default="sentence")
    parser.add_argument("--min-count", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--keep", nargs="*", default=[])
    parser.add_argument("--alphabet", nargs="*", default=["all"])
    parser.add_argument("--others", nargs="*", default=["pieces"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0], help="of the calibration rows")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def logits(module, tokenizer, texts: list[str]) -> list[torch.Tensor]:
    """One text at a time, so that none hangs on its neighbours."""
    limit = tokenizer.model_max_length
    with torch.inference_mode():
        batches = (tokenizer(text, truncation=True, max_length=limit, return_tensors="pt") for text in texts)
        return [module(**batch).logits[0].clone() for batch in batches]


def embedded(module, tokenizer, text: str) -> torch.Tensor:
    return module.get_input_embeddings().weight[torch.tensor(tokenizer(text)["input_ids"])]


def right(said: list[torch.Tensor], truth: torch.Tensor) -> float:
    return (torch.stack(said).argmax(-1) == truth).double().mean().item()


def trimmed(source: Path, corpus: datasets.Dataset, sample: datasets.Dataset, fields: dict, folder: Path):
    """Trim and save."""
    found = model.load(source, TASK)
    context = StepContext(corpus, sample, None, "cpu", 0, Silent(), folder / "scratch")
    notes = trim_vocabulary.run(found, trim_vocabulary.Config(step="trim_vocabulary", **fields), context)
    found.save(folder / "saved")
    return found, notes


def settings(given: argparse.Namespace):
    counts = [{"min_count": count} for count in given.min_count]
    keeps = [{"keep": float(keep) if "." in keep else int(keep)} for keep in given.keep]
    if "pieces" in given.others:
        for alphabet, fields in itertools.product(given.alphabet, [*counts, *keeps]):
            yield {"alphabet": alphabet, **fields}
    if "nearest" in given.others:
        yield from ({"others": "nearest", **fields} for fields in keeps)


def main() -> None:
    given = asked()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    original = model.load(given.model, TASK)
    spec = data.DatasetSpec(path=str(given.data.resolve()), evaluation=given.test, columns={"text": given.text})
    labels = original.module.config.id2label
    corpus, test = (data.rows(spec, split, TASK, labels, Path.cwd()) for split in (given.corpus, given.test))
    texts, truth = list(test["text"]), torch.tensor(test["label"])
    before = logits(original.module, original.processor, texts)
    read = [embedded(original.module, original.processor, text) for text in texts]
    rows, accuracy = original.module.get_input_embeddings().num_embeddings, right(before, truth)
    records = [{"setting": "original", "rows": rows, "accuracy": accuracy}]
    for line in (HEADS, ["---"] * len(HEADS), ["original", rows, "100%", "", "", "", "", f"{accuracy:.4f}", "", ""]):
        print(*line, sep=" | ")
    for seed, fields in itertools.product(given.seeds, settings(given)):
        sample = corpus.shuffle(seed=seed).select(range(min(SAMPLE, len(corpus))))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "saved"
            found, notes = trimmed(given.model, corpus, sample, fields, Path(name))
            module = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            after = logits(module, tokenizer, texts)
        pairs = enumerate(zip(texts, read, strict=True))
        alike = [index for index, (text, rows) in pairs if torch.equal(embedded(module, tokenizer, text), rows)]
        own = logits(found.module, found.processor, [texts[index] for index in alike])
        same = sum(torch.equal(before[index], said) for index, said in zip(alike, own, strict=True))
        apart = max((float((before[index] - after[index]).abs().max()) for index in alike), default=0.0)
        said = right(after, truth)
        record = {"alike": len(alike), "same": same, "apart": apart, "accuracy": said, "bytes": size}
        records.append({**fields, **record, **notes})
        setting, left = ", ".join(f"{key}: {value}" for key, value in fields.items()), notes["tokens_after"]
        line = [setting, left, f"{left / rows:.1%}", f"{notes['corpus_covered']:.2%}", f"{len(alike) / len(texts):.1%}"]
        line += [f"{same} of {len(alike)}", f"{apart:.1e}", f"{said:.4f}", f"{100 * (said - accuracy):+.2f}"]
        print(*line, f"{size / 1e6:.1f}", sep=" | ", flush=True)
    if given.out:
        given.out.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
