"""Small networks of our own that a transformer can be distilled into, one file each, as transformers sees a model.

Each file has `classes() -> (config class, model class)`; the model type is `compressit-` and the file's name. Their
checkpoints are opened by `compressit.load`, for plain transformers does not know them; exports open anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import intake, registry
from compressit.errors import StepError

PREFIX = "compressit-"


def classes(name: str) -> tuple[Any, Any]:
    """Give the config and the model class of a network, made known to transformers' auto classes."""
    import transformers

    config, model = registry.load(__name__, name).classes()
    transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
    transformers.AutoModelForSequenceClassification.register(config, model, exist_ok=True)
    return config, model


def introduce(folder: Path) -> None:
    """Make the network that a folder holds known to transformers, where it is one of ours."""
    found = intake.described(folder) if (folder / "config.json").is_file() else {}
    model_type = str(found.get("model_type", ""))
    if not model_type.startswith(PREFIX):
        return
    name = model_type.removeprefix(PREFIX)
    if name not in registry.names(__name__):
        raise StepError(f"{folder} is a {model_type[:60]!r}, a network that this version of compressit doesn't have")
    classes(name)
