"""One vector of a text's hidden states, as the files of sentence-transformers say that a model's own are made.

`modules.json` lists what comes after the transformer: a pooling, dense layers, a normalisation, each with a folder of
its own. A folder without it says nothing of pooling; then the mean is taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError

if TYPE_CHECKING:
    import torch

MODULES = "modules.json"
TRANSFORMER = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
               "sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
               "sentence_xlnet_config.json", "sentence_xlm_config.json")  # fmt: skip
"""How versions of the library have called the file with what belongs to the transformer itself."""
WHOLE = "config_sentence_transformers.json"
WIDTHS = ("word_embedding_dimension", "embedding_dimension")
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several are put side by side."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
Layer = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Pooling:
    """How a text's vector is made.

    Attributes:
        modes: Names as sentence-transformers has them; what several give is put side by side.
        layers: What comes after, each with the word for it.
        declared: Whether the model's folder says so.
    """

    modes: tuple[str, ...]
    layers: tuple[tuple[str, Layer], ...] = ()
    declared: bool = True

    def __call__(self, given: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Make vectors, (texts, D) in float32, of the hidden states (texts, L, H) and the attention mask (texts, L)."""
        import torch

        hidden = given["last_hidden_state"].float()
        mask = inputs["attention_mask"].to(hidden.device)
        made = torch.cat([pooled(hidden, mask, mode) for mode in self.modes], dim=-1)
        for _, layer in self.layers:
            made = layer(made)
        return made

    def protocol(self) -> dict[str, str]:
        """Say how, for the report."""
        modes = " and ".join(mode.replace("_", " ") for mode in self.modes)
        how = [modes if self.declared else f"{modes}, for want of a {MODULES}", *(word for word, _ in self.layers)]
        return {"pooling": ", ".join(how), "similarity": "cosine"}


def pooled(hidden_BLH: torch.Tensor, mask_BL: torch.Tensor, mode: str) -> torch.Tensor:
    """Make one vector of each row's real positions: (B, H)."""
    import torch

    rows = torch.arange(len(hidden_BLH), device=hidden_BLH.device)
    if mode == "cls":
        return hidden_BLH[rows, mask_BL.int().argmax(1)]
    if mode == "lasttoken":
        return hidden_BLH[rows, mask_BL.shape[1] - 1 - mask_BL.flip(1).int().argmax(1)]
    if mode == "max":
        return hidden_BLH.masked_fill(mask_BL[..., None] == 0, -torch.inf).amax(1)
    weights_BL = mask_BL.to(hidden_BLH.dtype)
    if mode == "weightedmean":
        # A text's first token counts 1, whatever padding is before it.
        weights_BL = weights_BL * weights_BL.cumsum(1)
    total_B = weights_BL.sum(1, keepdim=True).clamp(min=1e-9)
    summed_BH = (hidden_BLH * weights_BL[..., None]).sum(1)
    return summed_BH / (total_B.sqrt() if mode == "mean_sqrt_len_tokens" else total_B)


def read(folder: Path) -> Pooling:
    """Read how a model's vectors are made.

    Raises:
        StepError: by something that isn't known here, or with something put before each text.
    """
    _check_texts(folder)
    modes: tuple[str, ...] = ()
    layers: list[tuple[str, Layer]] = []
    for kind, place in _modules(folder):
        config = _json(place / "config.json")
        if kind == "Pooling":
            modes = _modes(config)
        elif kind == "Normalize":
            layers.append(("normalised", _unit))
        elif kind == "Dense":
            layers.append((f"dense to {config['out_features']}", _dense(place, config)))
        elif kind not in ("Transformer", "Dropout"):
            raise StepError(f"{folder / MODULES} names a {kind}, which compressit can't compute")
    return Pooling(modes or ("mean",), tuple(layers), declared=bool(modes))


def declared(folder: Path) -> bool:
    """Say whether a model's folder says how its vectors are made."""
    return (folder / MODULES).is_file()


def cut_at(folder: Path) -> int | None:
    """Read at how many tokens a model's texts are cut; None where it doesn't say."""
    found: Mapping[str, Any] = next((_json(folder / name) for name in TRANSFORMER if (folder / name).is_file()), {})
    return found.get("max_seq_length")


def keep(source: Path, folder: Path, width: int) -> None:
    """Copy to a checkpoint what makes vectors of it, with the width that its hidden states have now.

    Raises:
        StepError: a dense layer takes another width.
    """
    if not (source / MODULES).is_file():
        return
    for name in (MODULES, WHOLE, *TRANSFORMER):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    _shorten(folder)
    for kind, place in _modules(source):
        if place == source:
            continue
        made = folder / place.relative_to(source)
        for file in place.glob("*"):
            if file.suffix in (".json", ".safetensors"):
                made.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, made / file.name)
        config = _json(place / "config.json")
        if kind == "Pooling" and any(config.get(name, width) != width for name in WIDTHS):
            config |= {name: width for name in WIDTHS if name in config}
            (made / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _shorten(folder: Path) -> None:
    """Have texts cut where a checkpoint's tokenizer cuts them, where that is earlier than the model's that it was."""
    limit = _json(folder / "tokenizer_config.json").get("model_max_length")
    for name in TRANSFORMER:
        config = _json(folder / name)
        if limit is not None and (config.get("max_seq_length") or 0) > limit:
            written = json.dumps(config | {"max_seq_length": limit}, indent=2) + "\n"
            (folder / name).write_text(written, encoding="utf-8")


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """List the parts of a model: the kind of each and where its files are."""
    if not (folder / MODULES).is_file():
        return []
    listed: Sequence[Mapping[str, Any]] = _json(folder / MODULES)
    found = []
    for part in listed:
        place = (folder / part["path"]).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise StepError(f"{folder / MODULES} names {part['path']!r}, outside of the model's folder")
        found.append((str(part["type"]).rpartition(".")[2], folder / part["path"]))
    return found


def _modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    found = (named,) if isinstance(named, str) else tuple(named or (FLAGS[flag] for flag in FLAGS if config.get(flag)))
    if strange := [mode for mode in found if mode not in FLAGS.values()]:
        raise StepError(f"the model's pooling is {strange[0]!r}, which compressit can't compute")
    return found or ("mean",)


def _dense(place: Path, config: Mapping[str, Any]) -> Layer:
    from safetensors.torch import load_file

    activation = str(config.get("activation_function") or "Tanh").rpartition(".")[2]
    beside = config.get("module_input_name", "sentence_embedding") != "sentence_embedding"
    if activation not in ACTIVATIONS or beside or config.get("use_residual"):
        raise StepError(f"{place} holds a dense layer of a kind that compressit can't compute")
    file = place / "model.safetensors"
    if not file.is_file():
        raise StepError(
            f"{place} holds no model.safetensors",
            hint="save the model again with sentence-transformers, which writes safetensors",
        )
    tensors = load_file(file)
    weight, bias = tensors["linear.weight"].float(), tensors.get("linear.bias")

    def layer(given: torch.Tensor) -> torch.Tensor:
        from torch import nn

        if given.shape[-1] != weight.shape[1]:
            raise StepError(
                f"the model's dense layer takes {weight.shape[1]} channels, and is given {given.shape[-1]}",
                hint="prune_width cuts channels that it needs, and a student must be as wide, or have one of its own",
            )
        offset = None if bias is None else bias.float().to(given.device)
        made: torch.Tensor = nn.functional.linear(given, weight.to(given.device), offset)
        acted: torch.Tensor = getattr(nn, activation)()(made)
        return acted

    return layer


def _unit(given: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    return functional.normalize(given, dim=-1)


def _check_texts(folder: Path) -> None:
    """Refuse what would have texts read otherwise than they stand."""
    whole = _json(folder / WHOLE) if (folder / WHOLE).is_file() else {}
    if whole.get("default_prompt_name"):
        raise StepError(
            f"the model puts a prompt before each text ({whole['default_prompt_name']!r} of {folder / WHOLE})",
            hint="put it into the data, and take default_prompt_name out of that file",
        )
    own: Mapping[str, Any] = next((_json(folder / name) for name in TRANSFORMER if (folder / name).is_file()), {})
    if own.get("do_lower_case"):
        raise StepError(
            "the model's texts are put in lower case before its tokenizer reads them (do_lower_case)",
            hint="write them so in the data, and take do_lower_case out of sentence_bert_config.json",
        )


def _json(file: Path) -> Any:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StepError(f"{file} is no JSON: {error}") from error
