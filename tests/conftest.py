"""What every test may use: a small trained text classifier with its data, made once in a few seconds, and no hub."""

import contextlib
import gc
import json
import os
import random
from pathlib import Path

import pytest

from tests import commands

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Small models gain nothing from threads, and those of two workers wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOOD = ["good", "fine", "great", "lovely", "bright", "superb"]
BAD = ["bad", "dull", "poor", "awful", "weak", "dreary"]
PLAIN = ["the", "film", "a", "plot", "actor", "is", "was", "and", "scene", "music", "with", "of", "it", "very", "quite"]


def sentences(count: int, seed: int) -> list[dict]:
    """Sentences whose label is which kind of word is in the majority: easy, and not decided by one word alone."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.randrange(2)
        more, fewer = (GOOD, BAD) if label else (BAD, GOOD)
        words = draw.choices(more, k=draw.randint(2, 3)) + draw.choices(fewer, k=draw.randint(0, 1))
        words += draw.choices(PLAIN, k=draw.randint(2, 14))
        draw.shuffle(words)
        rows.append({"sentence": " ".join(words), "label": label})
    return rows


@pytest.fixture(scope="session", autouse=True)
def one_process_forks():
    """Have all runs of a session measure in forks of one process, which takes longer to start than a small run does."""
    from compressit.measure import processes

    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        fresh, found = processes.forks, []

        def forks():
            if not found:
                found.append(stack.enter_context(fresh()))
            return contextlib.nullcontext(found[0])

        patch.setattr(processes, "forks", forks)
        yield


@pytest.fixture(scope="module", autouse=True)
def imported_once() -> None:
    """Leave out of garbage collections what is there by now: walks and trainings make some, half a second each."""
    gc.freeze()


@pytest.fixture
def measured_here(monkeypatch) -> None:
    """Have artifacts measured in this process, for speed."""
    from compressit.measure import child

    @contextlib.contextmanager
    def begun(job, scratch, what):
        yield lambda: child.measure(job, Path(scratch))

    monkeypatch.setattr("compressit.measure.begun", begun)


@pytest.fixture(scope="session")
def sentiment(tmp_path_factory) -> Path:
    """A folder with train.jsonl, test.jsonl and model/, a 4-layer BERT that gets most of them right."""
    folder = tmp_path_factory.mktemp("sentiment")
    for name, count, seed in (("train", 600, 1), ("test", 300, 2)):
        lines = [json.dumps(row) for row in sentences(count, seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    save_classifier(folder / "model", sentences(600, 1))
    return folder


def tokenizer():
    """A word-level tokenizer of the words above."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate([*special, *GOOD, *BAD, *PLAIN])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def save_classifier(folder: Path, rows: list[dict], layers: int = 4) -> None:
    """Train a small BERT on the rows, seeded, and save it as a checkpoint."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokens = tokenizer()
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    model = BertForSequenceClassification(config).train()
    batch = tokens([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([row["label"] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(6):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), 50):
            some = order[start : start + 50]
            loss = model(**{key: value[some] for key, value in batch.items()}, labels=labels[some]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokens.save_pretrained(folder)


def story(count: int, seed: int) -> str:
    """Short stories, a blank line between them; who does what where hangs together, so there is something to learn."""
    draw, told = random.Random(seed), []
    for _ in range(count):
        who, where, what = draw.choice(WHO), draw.choice(WHERE), draw.choice(WHAT)
        lines = [f"Once a {who} lived {where}.", f"The {who} wanted a {what}."]
        lines += [f"It looked {where} for the {what}."] * draw.randint(0, 1)
        lines.append(draw.choice([f"At last the {who} found the {what}.", f"Nobody gave the {who} a {what}."]))
        told.append(" ".join(lines))
    return "\n\n".join(told)


WHO = ["fox", "bear", "king", "child", "crow", "miller"]
WHERE = ["in the wood", "by the river", "under the hill", "near the old mill"]
WHAT = ["crown", "fish", "song", "golden egg", "friend"]


@pytest.fixture(scope="session")
def storyteller(tmp_path_factory) -> Path:
    """A folder with train.txt, test.txt and model/, a 4-layer Llama that has learned how such stories go."""
    folder = tmp_path_factory.mktemp("storyteller")
    (folder / "train.txt").write_text(story(400, 1))
    (folder / "test.txt").write_text(story(60, 2))
    save_storyteller(folder / "model", (folder / "train.txt").read_text())
    return folder


def story_tokenizer(text: str, bos: bool = True):
    """A byte-level BPE of the stories; with `bos` it puts <s> before every text, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    made.train_from_iterator(
        [text],
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", model_max_length=128)


def save_storyteller(folder: Path, text: str, layers: int = 4) -> None:
    """Train a small Llama on the text, seeded, and save it as a checkpoint."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokens = story_tokenizer(text)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.08,
    )
    model = LlamaForCausalLM(config).train()
    ids = torch.tensor(tokens(text, verbose=False)["input_ids"])
    windows = ids[: len(ids) // 64 * 64].view(-1, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(4):
        for some in torch.randperm(len(windows)).split(16):
            model(input_ids=windows[some], labels=windows[some]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokens.save_pretrained(folder)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep steps' checkpoints apart from the user's, so that each is made by the code under test; demos are shared."""
    from compressit import store

    own = tmp_path_factory.mktemp("cache")
    demos = store.home() / "demos"
    demos.mkdir(parents=True, exist_ok=True)
    (own / "demos").symlink_to(demos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSIT_CACHE", str(own))
        yield


@pytest.fixture
def write(tmp_path):
    """Write a recipe file from text; give its path."""

    def written(text: str, name: str = "recipe.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return written


@pytest.fixture
def cli():
    """Run the command line in a process of its own."""
    from compressit.measure import processes

    def run(*arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str = ""):
        with processes.forks() as forks:
            return commands.run([*map(str, arguments)], cwd, stdin, {**os.environ, **(env or {})}, forks)

    return run


def linears(model, include=(), exclude=()):
    """Give the linear layers that a step with these patterns would change, by name."""
    return {name: model.module.get_submodule(name) for name in model.matrices(include, exclude)}
