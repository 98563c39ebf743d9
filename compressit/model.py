"""A model: transformers module and processor, where they came from, and how they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, tasks
from compressit.errors import MissingExtra, RecipeError, RetryableError, StepError, UnsafeError
from compressit.spec import Spec

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("*.safetensors",)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


class ModelSpec(Spec):
    """Which model a recipe starts from."""

    path: str
    """Hub id, local folder, or demo:NAME."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""


@dataclass
class Model:
    """A model in memory. Steps change `module` in place; nothing else of it changes.

    Attributes:
        module: The transformers model, in eval mode.
        processor: Its tokenizer or image processor.
        task: Name of the task whose auto class opened it.
        source: Hub id or folder it came from.
    """

    module: Any
    processor: Any
    task: str
    source: str

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """List the transformer blocks as (full name, block), first to last."""
        return anatomy.blocks(self.module)

    def linears(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> dict[str, nn.Linear]:
        """Pick linear layers by glob patterns over their full names.

        Args:
            include: Patterns of which one must match. Empty: every linear layer inside the blocks.
            exclude: Patterns of which none may match.

        Raises:
            RecipeError: a pattern matches nothing, or nothing is left.
        """
        from torch import nn

        every = {name: part for name, part in self.module.named_modules() if isinstance(part, nn.Linear)}
        inside = tuple(f"{name}." for name, _ in self.blocks()) if not include else ()
        chosen = matching(list(every), include, exclude, default=lambda name: name.startswith(inside))
        return {name: every[name] for name in chosen}

    def save(self, folder: Path) -> None:
        """Write config, safetensors and processor files; a quantized module in the compressed-tensors format."""
        self.module.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def matching(names: Sequence[str], include: Sequence[str], exclude: Sequence[str], default: Any) -> list[str]:
    """Pick names by glob patterns; a pattern that matches nothing is an error that shows some names.

    Args:
        names: What there is to pick from.
        include: Patterns of which one must match. Empty: `default(name)` decides.
        exclude: Patterns of which none may match.
        default: Called with a name when `include` is empty.
    """
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"pattern {pattern!r} matches no layer", hint=f"layers are named like {_sample(names)}")
    chosen = [
        name
        for name in names
        if (any(fnmatchcase(name, pattern) for pattern in include) if include else default(name))
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    ]
    if not chosen:
        raise RecipeError("include and exclude leave no layer", hint=f"layers are named like {_sample(names)}")
    return chosen


def load(
    source: str, task: str, *, device: str = "cpu", revision: str | None = None, trust_remote_code: bool = False
) -> Model:
    """Open a trained model and its processor for a task.

    Args:
        source: Hub id or local folder.
        task: Name of the task.
        device: Where to put it.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run Python code that the model's repository holds. Only ever from a command-line flag.

    Raises:
        StepError: the folder doesn't hold such a model, or its head was never trained for the task.
        UnsafeError: the weights come as pickle only, or need code of their own.
        RetryableError: the hub is out of reach.
    """
    import transformers

    kind = tasks.load(task)
    check_safe(source)
    if kind.PROCESSOR_CLASS == "AutoImageProcessor":
        _require_pillow()
    try:
        module, info = getattr(transformers, kind.AUTO_CLASS).from_pretrained(
            source,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        processor = getattr(transformers, kind.PROCESSOR_CLASS).from_pretrained(
            source, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise _explain(error, source) from error
    if info["missing_keys"]:
        raise StepError(
            f"{source} holds no trained weights for {task}: {', '.join(sorted(info['missing_keys'])[:4])} are missing",
            hint="compressit compresses a model that is already trained for its task; train it first",
        )
    return Model(module.eval().to(device), processor, task, source)


def check_safe(source: str) -> None:
    """Refuse a local folder that holds pickled weights only."""
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        raise UnsafeError(
            f"{source} holds pickled weights only, which can run code when they are opened",
            hint="convert them to safetensors where you trust them: "
            "AutoModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)",
        )


def _explain(error: Exception, source: str) -> Exception:
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return UnsafeError(
            f"{source} needs code of its own to be opened", hint="read that code, then pass --trust-remote-code"
        )
    if Path(source).is_dir():
        return StepError(f"{source} can't be opened: {text[:400]}")
    if "offline" in text.lower() or "couldn't connect" in text.lower() or "connection" in text.lower():
        return RetryableError(
            f"{source} is not a local folder, is not in the hub's cache, and the hub can't be reached",
            hint="check the path, or the network and HF_HUB_OFFLINE, then run the same command again",
        )
    return StepError(f"{source} can't be opened: {text[:400]}", hint="a local folder or a hub id is expected")


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingExtra("pillow", "vision") from None


def _sample(names: Sequence[str]) -> str:
    middle = list(names)[len(names) // 2 :][:2]
    return ", ".join(middle) if middle else "(none)"
