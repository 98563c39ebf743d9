"""What in a model's settings would have its opener run or fetch code, or open something else in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit.errors import UnsafeError
from compressit.intake.settings import CONFIG, entries, parsed

SETTINGS = (CONFIG, "tokenizer_config.json", "preprocessor_config.json", "processor_config.json",
            "image_processor_config.json", "generation_config.json")  # fmt: skip
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
OWN = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")
"""Ways of computing that are part of torch and transformers; every other may be a kernel that the hub holds."""
QUANTIZERS = ("compressed-tensors",)
ADAPTER = "adapter_config.json"


def check_code(folder: Path) -> None:
    """Refuse a folder whose settings ask for code of its own, or for anything from elsewhere.

    Where transformers has the classes itself, it opens the model with those, and `auto_map` is not looked at.

    Raises:
        UnsafeError: what it asks for, and where.
    """
    for name in SETTINGS:
        file = folder / name
        tree = parsed(file) if file.is_file() else None
        for key, value, around in entries(tree, file):
            asked = _asks(key, value, around, name)
            if asked:
                raise UnsafeError(
                    f"{file} says {key}, and {asked}",
                    hint="read what it asks for, then pass --trust-remote-code; or take it out of the file",
                )
    if (folder / ADAPTER).is_file():
        raise UnsafeError(
            f"{folder} holds an adapter, whose {ADAPTER} names another model to be opened in its place",
            hint="merge it into its model first: model.merge_and_unload().save_pretrained(...)",
        )


def _asks(key: str, value: Any, around: dict[str, Any], name: str) -> str | None:
    """Say what an entry would do; None where it is harmless."""
    if key == "auto_map" and value and name == CONFIG and not _known(around.get("model_type")):
        return f"transformers has no class of its own for a {str(around.get('model_type'))[:40]!r}"
    if key in ("trust_remote_code", "custom_pipelines", "custom_generate") and value:
        return "only the command line says what is trusted"
    if key.strip("_").removesuffix("_internal") in IMPLEMENTATIONS and not _own(value):
        return f"{str(value)[:60]!r} may be fetched from the hub"
    if key == "use_pretrained_backbone" and value:
        return "a part of it would be fetched from elsewhere"
    if key == "quantization_config" and value is not None:
        method = value.get("quant_method") if isinstance(value, dict) else value
        return None if method in QUANTIZERS else f"{str(method)[:40]!r} may fetch kernels from the hub"
    return None


def _own(value: Any) -> bool:
    chosen = value.values() if isinstance(value, dict) else [value]
    return all(each is None or each in OWN for each in chosen)


def _known(model_type: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING
