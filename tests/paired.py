"""Pairs of sentences that share more or fewer words, and what sentence-transformers puts beside a model."""

import json
import random

from tests.conftest import BAD, GOOD, PLAIN


def pairs(count, seed):
    """Two sentences and how many of their words they share, in tenths."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        words = draw.sample([*GOOD, *BAD, *PLAIN], 10)
        shared = draw.randrange(11)
        rest = draw.sample([word for word in [*GOOD, *BAD, *PLAIN] if word not in words], 10 - shared)
        other = [*words[:shared], *rest]
        draw.shuffle(other)
        # Texts of unlike lengths are padded unlike.
        first, second = words[: draw.randint(max(1, shared), 10)], other
        rows.append({"text": " ".join(first), "text_pair": " ".join(second), "score": shared / 2})
    return rows


def modules(folder, pooling="mean", width=32, dense=None, normalize=True, length=None, **config):
    """Write modules.json and what it names; `dense` is a (weight, bias, activation)."""
    from safetensors.torch import save_file

    parts = [("", "Transformer", {}), ("1_Pooling", "Pooling", {"word_embedding_dimension": width})]
    parts[1][2].update({f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")})
    if pooling in ("mean", "cls", "max"):
        parts[1][2][f"pooling_mode_{pooling}_token{'' if pooling == 'cls' else 's'}"] = True
    else:
        parts[1][2]["pooling_mode"] = pooling
    if dense is not None:
        weight, bias, activation = dense
        fields = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": True}
        parts.append(
            ("2_Dense", "Dense", {**fields, "activation_function": f"torch.nn.modules.activation.{activation}"})
        )
    if normalize:
        parts.append((f"{len(parts)}_Normalize", "Normalize", {}))
    listed = []
    for number, (path, kind, fields) in enumerate(parts):
        listed.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
        if path:
            (folder / path).mkdir(parents=True, exist_ok=True)
            (folder / path / "config.json").write_text(json.dumps(fields))
    if dense is not None:
        save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}, **config}))
