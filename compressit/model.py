"""A model: transformers module and processor, where they came from, and how they are saved."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import anatomy, tasks
from compressit.errors import MissingExtra, RecipeError, RetryableError, StepError, UnsafeError
from compressit.spec import Location, Spec

if TYPE_CHECKING:
    import torch
    from torch import nn

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What is fetched from the hub; code only where the user trusts it."""
TOKENIZERS = ("tokenizer*.json", "vocab.*", "*.model", "merges.txt")
"""Without one of these transformers makes an empty tokenizer up."""
PADDED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


class ModelSpec(Spec):
    """Which model a recipe starts from."""

    path: Location
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
        from safetensors import SafetensorError

        try:
            if any(hasattr(part, "quantization_scheme") for part in self.module.modules()):
                _save_quantized(self.module, folder)
            else:
                self.module.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        except SafetensorError as error:
            raise StepError(f"writing {folder} failed: {_line(error)}", hint="is the disk full?") from error


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


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of what a checkpoint holds, in place; what is computed when a model is opened keeps its own."""
    held = module.state_dict().keys()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in held and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def fetch(path: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """Give the local folder of a model: the folder itself, or a hub snapshot, downloaded where it must be.

    Raises:
        UnsafeError: the weights come as pickle only.
        RetryableError: the hub is out of reach and its cache does not hold the model.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision, trust_remote_code)
    check_safe(folder)
    return folder


def load(folder: Path, task: str, *, device: str = "cpu", trust_remote_code: bool = False) -> Model:
    """Open a trained model and its processor for a task.

    Args:
        folder: Local folder, as `fetch` gives it.
        task: Name of the task.
        device: Where to put it.
        trust_remote_code: Run Python code that the folder holds. Only ever from a command-line flag.

    Raises:
        StepError: the folder doesn't hold such a model, or its head was never trained for the task.
        UnsafeError: the weights come as pickle only, or need code of their own.
    """
    import transformers

    check_safe(folder)
    with _explained(folder):
        module, info = getattr(transformers, tasks.load(task).AUTO_CLASS).from_pretrained(
            folder, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    if info["missing_keys"]:
        raise StepError(
            f"{folder} holds no trained weights for {task}: {', '.join(sorted(info['missing_keys'])[:4])} are missing",
            hint="compressit compresses a model that is already trained for its task; train it first",
        )
    opened = processor(folder, task, trust_remote_code=trust_remote_code)
    return Model(module.eval().to(device), opened, task, str(folder))


def processor(folder: Path, task: str, *, trust_remote_code: bool = False) -> Any:
    """Open the tokenizer or image processor of a folder."""
    import transformers

    name = tasks.load(task).PROCESSOR_CLASS
    if name == "AutoImageProcessor" and find_spec("PIL") is None:
        raise MissingExtra("pillow", "vision")
    if name == "AutoTokenizer" and not any(next(folder.glob(pattern), None) for pattern in TOKENIZERS):
        raise StepError(f"{folder} holds no tokenizer", hint="save it there: AutoTokenizer.from_pretrained(...)")
    with _explained(folder):
        opened = getattr(transformers, name).from_pretrained(folder, trust_remote_code=trust_remote_code)
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    limit = positions(config)
    if limit is not None and getattr(opened, "model_max_length", 0) > limit:
        # Many tokenizers don't say how much their model takes.
        opened.model_max_length = limit
    return opened


def positions(config: Any) -> int | None:
    """Count the tokens that a model has positions for; None where it sets no limit."""
    found = getattr(config, "max_position_embeddings", None)
    if not isinstance(found, int):
        return None
    # RoBERTa and its kin number positions from after the padding token's.
    return found - config.pad_token_id - 1 if config.model_type in PADDED_POSITIONS else found


def labels(folder: Path, *, trust_remote_code: bool = False) -> dict[int, str]:
    """Read a model's labels by id from its config.json."""
    import transformers

    with _explained(folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return dict(config.id2label)


def check_safe(folder: Path) -> None:
    """Refuse a folder that holds pickled weights only."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        raise UnsafeError(
            f"{folder} holds pickled weights only, which can run code when they are opened",
            hint="where you trust them, write them as safetensors: AutoModel.from_pretrained(...).save_pretrained(...)",
        )


def _save_quantized(module: Any, folder: Path) -> None:
    """Store weights as integers. The module in memory computes the same afterwards, its weights already rounded."""
    from compressed_tensors.compressors import ModelCompressor

    compressor = ModelCompressor.from_pretrained_model(module)
    untouched = [name for name, part in module.named_modules() if _is_plain_linear(part)]
    # Its progress bars have no switch.
    with contextlib.redirect_stderr(io.StringIO()):
        compressor.compress_model(module)
        module.save_pretrained(folder)
        compressor.update_config(str(folder))
        compressor.decompress_model(module)
    _mend(folder / "config.json", untouched)


def _is_plain_linear(part: nn.Module) -> bool:
    from torch import nn

    return isinstance(part, nn.Linear) and not hasattr(part, "quantization_scheme")


def _mend(file: Path, untouched: Sequence[str]) -> None:
    """Write what transformers needs to open every architecture, and other readers pass over.

    Layers left alone are looked up by their names in memory, where compressed-tensors writes those of the file. Packed
    weights must be unpacked while they are read: some architectures, and zero points, can't wait for the first forward.
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    found = config["quantization_config"]
    found["ignore"] = list(dict.fromkeys([*found["ignore"], *untouched]))
    if found["format"] == "pack-quantized":
        found["dequantize"] = True
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _snapshot(path: str, revision: str | None, trust_remote_code: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    wanted = [*FILES, "*.py"] if trust_remote_code else FILES
    try:
        return Path(huggingface_hub.snapshot_download(path, revision=revision, allow_patterns=wanted))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise StepError(f"{path} is neither a local folder nor a model on the hub: {_line(error)}") from error
    except (OSError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        raise RetryableError(
            f"{path} is not a local folder, is not in the hub's cache, and the hub can't be reached",
            hint="check the path, or the network and HF_HUB_OFFLINE, then run the same command again",
        ) from error


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        if "trust_remote_code" in str(error):
            hint = "read that code, then pass --trust-remote-code"
            raise UnsafeError(f"{folder} needs code of its own to be opened", hint=hint) from error
        shapes = "ignore_mismatched_sizes" in str(error)
        what = "its weights have other shapes than its config.json says" if shapes else _line(error)
        raise StepError(f"{folder} can't be opened: {what}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _sample(names: Sequence[str]) -> str:
    middle = list(names)[len(names) // 2 :][:2]
    return ", ".join(middle) if middle else "(none)"
