"""Which part of Python's standard library does a paragraph of its documentation come from? Seven topics.

The text is the docstrings of the Python that runs, so it differs a little between Python versions.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

TASK = "text-classification"
COLUMNS = {"text": "text", "label": "label"}
TRAINING = {"epochs": 2.5, "batch_size": 32, "learning_rate": 1.5e-3, "warmup": 0.2}

TOPICS = {
    "concurrency": "asyncio multiprocessing threading concurrent subprocess queue selectors sched signal contextvars",
    "files": "tarfile zipfile gzip bz2 lzma csv json xml configparser plistlib pickle pickletools shelve shutil "
    "pathlib os posixpath ntpath tempfile glob fnmatch filecmp fileinput io _pyio dbm zipimport tomllib "
    "stat mimetypes",
    "internet": "email http urllib ftplib smtplib imaplib poplib socket socketserver ssl xmlrpc wsgiref ipaddress "
    "mailbox html base64 quopri uuid webbrowser netrc",
    "interface": "tkinter turtle argparse optparse getopt cmd code curses readline rlcompleter getpass gettext locale",
    "language": "importlib inspect ast typing dis symtable tokenize dataclasses enum functools contextlib collections "
    "abc _collections_abc types copy copyreg weakref pkgutil runpy codeop pyclbr modulefinder warnings "
    "operator keyword",
    "numbers": "_pydecimal statistics fractions numbers random datetime _pydatetime calendar zoneinfo heapq bisect "
    "colorsys hashlib hmac secrets graphlib",
    "testing": "unittest doctest pdb bdb trace traceback timeit profile cProfile pstats tracemalloc logging "
    "faulthandler",
}
PARAGRAPH = (40, 400)
"""Least and greatest number of characters."""


@functools.cache
def splits() -> dict[str, Dataset]:
    """Read the docstrings; all paragraphs of one definition are in the same split, and none is in both."""
    import datasets

    labels = datasets.ClassLabel(names=sorted(TOPICS))
    features = datasets.Features({"text": datasets.Value("string"), "label": labels})
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    seen: set[str] = set()
    for topic, definition, text in _paragraphs():
        if text.lower() in seen:
            continue
        seen.add(text.lower())
        split = "test" if hashlib.sha256(definition.encode()).digest()[0] < 64 else "train"
        rows[split].append({"text": text, "label": topic})
    shuffled = {
        name: sorted(part, key=lambda row: hashlib.sha256(row["text"].encode()).digest()) for name, part in rows.items()
    }
    return {name: datasets.Dataset.from_list(part, features=features) for name, part in shuffled.items()}


def untrained(train: Dataset, seed: int) -> tuple[Any, Any]:
    """Make a BERT of six blocks, and a tokenizer from the words of the training split."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(seed)
    names = train.features["label"].names
    tokenizer = BertTokenizer(vocab=_vocabulary(train["text"]), do_lower_case=True, model_max_length=40)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=256,
        # Dropout would cost a third of the training time, for one point of accuracy.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=64,
        # Wider than a large model's: without it six blocks this narrow learn slowly.
        initializer_range=0.05,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return BertForSequenceClassification(config), tokenizer


def _vocabulary(texts: Any) -> dict[str, int]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=6000, special_tokens=special, show_progress=False)
    )
    vocabulary: dict[str, int] = made.get_vocab()
    return dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))


def _paragraphs() -> Iterator[tuple[str, str, str]]:
    """Give topic, definition and text of every paragraph."""
    library = Path(sysconfig.get_path("stdlib"))
    for topic, modules in TOPICS.items():
        for module in modules.split():
            for file in sorted([library / f"{module}.py", *(library / module).rglob("*.py")]):
                if file.is_file() and "test" not in file.relative_to(library).parts:
                    for definition, text in _docstrings(file):
                        yield topic, f"{file.relative_to(library)}:{definition}", text


def _docstrings(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                text = " ".join(paragraph.split())
                if PARAGRAPH[0] <= len(text) <= PARAGRAPH[1]:
                    yield getattr(node, "name", ""), text
