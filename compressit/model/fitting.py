"""Open a checkpoint whose config.json can't say its shapes: modules are built as its tensors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressit import anatomy, checkpoint, intake, weights
from compressit.errors import UnsafeError
from compressit.model import architectures

SPARE, TIMES, CUT_TIMES = 100_000_000, 16, 256


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
    if anatomy.settled(intake.described(folder)):
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


def opens_plainly(folder: Path) -> bool:
    """Tell whether plain transformers opens a checkpoint: it knows the network, and config.json says all its shapes."""
    said = intake.described(folder)
    return anatomy.settled(said) and not str(said.get("model_type")).startswith(architectures.PREFIX)


def check_size(auto_class: Any, folder: Path) -> None:
    """Refuse a config.json that makes a model far larger than the weights beside it, before memory is taken for it.

    Raises:
        UnsafeError: it does.
    """
    import torch
    import transformers

    settled = anatomy.settled(intake.described(folder))
    with torch.device("meta"):
        shell = auto_class.from_config(transformers.AutoConfig.from_pretrained(folder))
    wanted = sum(tensor.numel() for tensor in (*shell.parameters(), *shell.buffers()))
    held = weights.read(folder).parameters
    # Integers are packed, tied matrices saved once, and of a model that was cut only the tensors say how small it is.
    if wanted > SPARE + (TIMES if settled else CUT_TIMES) * held:
        raise UnsafeError(
            f"{folder / 'config.json'} describes {wanted:,} numbers, and the weights beside it are {held:,}",
            hint="take the model's own config.json from where it was first published",
        )


def forget(module: Any) -> None:
    """Make a module what plain transformers would have made of it, in place."""
    module.__class__ = getattr(type(module), "fits", type(module))
