"""Checkpoints of a shape with random weights, and the token ids that every tool calibrates on and is judged on.

    python shapes.py checkpoint 1.1b FOLDER [--depth] [--tokenizer FOLDER] [--seed 0]
    python shapes.py ids FILE.npy --vocabulary 32000                         # random ids
    python shapes.py ids FILE.npy --tokenizer FOLDER --text FILE [--first]   # windows of a text: drawn, or first
    python shapes.py ids FILE.npy --model FOLDER                             # sampled from the model itself

Ids are an int64 array of `--count` windows of `--length` tokens.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHAPES = {
    "110m": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 2048,
        "dtype": torch.float32,
    },
    "1.1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": 5632,
        "dtype": torch.bfloat16,
    },
}
VOCABULARY = 32000


def random_llama(shape: str, deeper: bool, seed: int) -> LlamaForCausalLM:
    """Weights of standard deviation 0.02, as initialised, and norms spread around 1."""
    torch.manual_seed(seed)
    size = dict(SHAPES[shape])
    if deeper:
        size["num_hidden_layers"] *= 2
    config = LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=False, max_position_embeddings=2048, **size)
    model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.normal_(1, 0.2)
    return model


def trivial_tokenizer() -> PreTrainedTokenizerFast:
    """One made-up word for each token, so that the folder opens like any other."""
    words = ["<unk>", "<s>", "</s>", *(f"w{index}" for index in range(3, VOCABULARY))]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def text_windows(tokenizer: str, text: Path, count: int, length: int, seed: int, first: bool) -> np.ndarray:
    """Windows that don't overlap, of the whole text without special tokens: the first ones, or drawn."""
    ids = AutoTokenizer.from_pretrained(tokenizer)(text.read_text(), add_special_tokens=False)["input_ids"]
    windows = np.array(ids[: len(ids) // length * length], dtype=np.int64).reshape(-1, length)
    if count > len(windows):
        raise SystemExit(f"{text} holds {len(windows)} windows of {length} tokens, not {count}")
    return windows[:count] if first else windows[np.random.default_rng(seed).permutation(len(windows))[:count]]


@torch.no_grad()
def sampled_windows(folder: str, count: int, length: int, seed: int) -> np.ndarray:
    """What the model itself writes at temperature 1: one text after another until the window is full."""
    draw = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.full((count, 1), model.config.bos_token_id)
    cache = None
    while ids.shape[1] < length:
        out = model(ids[:, -1:] if cache else ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        following = torch.multinomial(out.logits[:, -1].softmax(-1), 1, generator=draw)
        ids = torch.cat([ids, following], dim=1)
    return ids.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    checkpoint = verbs.add_parser("checkpoint")
    checkpoint.add_argument("shape", choices=SHAPES)
    checkpoint.add_argument("folder")
    checkpoint.add_argument("--depth", action="store_true", help="twice the blocks")
    checkpoint.add_argument("--tokenizer", help="a folder to take the tokenizer from, instead of a made-up one")
    ids = verbs.add_parser("ids")
    ids.add_argument("file", type=Path)
    ids.add_argument("--count", type=int, default=128)
    ids.add_argument("--length", type=int, default=512)
    ids.add_argument("--vocabulary", type=int)
    ids.add_argument("--tokenizer")
    ids.add_argument("--text", type=Path)
    ids.add_argument("--first", action="store_true", help="the text's first windows in order, instead of drawn ones")
    ids.add_argument("--model")
    for verb in (checkpoint, ids):
        verb.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    if asked.verb == "checkpoint":
        random_llama(asked.shape, asked.depth, asked.seed).save_pretrained(asked.folder)
        tokenizer = AutoTokenizer.from_pretrained(asked.tokenizer) if asked.tokenizer else trivial_tokenizer()
        tokenizer.save_pretrained(asked.folder)
        return
    if asked.text and asked.tokenizer:
        windows = text_windows(asked.tokenizer, asked.text, asked.count, asked.length, asked.seed, asked.first)
    elif asked.model:
        windows = sampled_windows(asked.model, asked.count, asked.length, asked.seed)
    elif asked.vocabulary:
        draw = np.random.default_rng(asked.seed)
        windows = draw.integers(0, asked.vocabulary, (asked.count, asked.length), dtype=np.int64)
    else:
        parser.error("ids need --vocabulary, --model, or --text with --tokenizer")
    np.save(asked.file, windows)


if __name__ == "__main__":
    main()
