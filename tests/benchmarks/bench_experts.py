"""What leaving out experts costs a small Mixtral that has learned stories, by how its experts are ranked.

    python -m tests.benchmarks.bench_experts [--keep 6 4 2] [--seeds 0 1 2]

Perplexity on held-out windows; `random` is drawn once for each seed.
"""

import argparse
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import datasets
import torch
import transformers

from compressit import anatomy, model
from compressit.progress import Silent
from compressit.steps import prune_experts
from tests.conftest import story, story_tokenizer

TASK, EXPERTS, UPDATES, RATE = "text-generation", 8, 260, 3e-3


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs="*", type=int, default=[6, 4, 2])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of the random choice")
    return parser.parse_args()


def windows(tokens, text: str, size: int = 64) -> torch.Tensor:
    ids = tokens(text, verbose=False)["input_ids"]
    return torch.tensor([ids[at : at + size] for at in range(0, len(ids) - size, size)])


def trained(tokens, text: str):
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=len(tokens), hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=EXPERTS, num_experts_per_tok=2, max_position_embeddings=128,
        bos_token_id=0, eos_token_id=1, router_aux_loss_coef=0.02, output_router_logits=True, sliding_window=None,
    )  # fmt: skip
    module, rows, draw = (
        transformers.MixtralForCausalLM(config),
        windows(tokens, text),
        torch.Generator().manual_seed(0),
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    for update in range(UPDATES):
        batch = rows[torch.randint(len(rows), (16,), generator=draw)]
        module(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1)
        optimizer.step()
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - update / UPDATES)
    module.config.output_router_logits = False
    return module


def perplexity(module, rows: torch.Tensor) -> float:
    with torch.no_grad():
        losses = [module(input_ids=row[None], labels=row[None]).loss for row in rows]
    return float(torch.stack(losses).mean().exp())


def main() -> None:
    given, text = asked(), story(400, 1)
    tokens = story_tokenizer(text)
    held = windows(tokens, story(60, 2))
    rows = datasets.Dataset.from_dict({"text": text.split("\n\n")[:100]})
    context = SimpleNamespace(calibration=rows, progress=Silent(), max_length=64, fields={}, device="cpu", seed=0)
    with tempfile.TemporaryDirectory() as place:
        trained(tokens, text).save_pretrained(place)
        tokens.save_pretrained(place)
        opened = lambda: model.load(Path(place), TASK)  # noqa: E731
        print(f"whole {perplexity(opened().module, held):.4f}")
        for keep in given.keep:
            for importance in ("contribution", "saliency", "use"):
                cut = opened()
                config = prune_experts.Config(step="prune_experts", keep=keep, importance=importance)
                prune_experts.run(cut, config, context)
                print(f"{keep} of {EXPERTS}, {importance}: {perplexity(cut.module, held):.4f}")
            for seed in given.seeds:
                cut, draw = opened(), random.Random(seed)
                for name, _ in cut.blocks():
                    anatomy.keep_experts(cut.module, name, sorted(draw.sample(range(EXPERTS), keep)))
                print(f"{keep} of {EXPERTS}, random {seed}: {perplexity(cut.module, held):.4f}")


if __name__ == "__main__":
    main()
