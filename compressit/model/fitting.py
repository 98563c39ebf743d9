"""Open a checkpoint whose config.json can't say its shapes: modules are built as its tensors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import anatomy, checkpoint


def opener(auto_class: Any, folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Give the class whose `from_pretrained` opens a folder.

    Args:
        auto_class: Of the task.
        folder: Of the checkpoint.
        trust_remote_code: Run Python code that the folder holds.

    Returns:
        The auto class itself, or where tensors tell the shapes, the model's class, made to fit them before they are
        read. Pass what it opens to `forget`.
    """
    if anatomy.settled(checkpoint.described(folder)):
        return auto_class
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        plain: Any = type(auto_class.from_config(config, trust_remote_code=trust_remote_code))
    shapes = checkpoint.shapes(folder)

    def build(self: Any, config: Any, *args: Any, **more: Any) -> None:
        plain.__init__(self, config, *args, **more)
        anatomy.fit(self, shapes)

    # transformers goes by names of classes in places.
    return type(plain.__name__, (plain,), {"__init__": build, "__module__": plain.__module__, "fits": plain})


def forget(module: Any) -> None:
    """Make a module what plain transformers would have made of it, in place."""
    module.__class__ = getattr(type(module), "fits", type(module))
