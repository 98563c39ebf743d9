"""Open a model, its processor or its labels from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressit import machine, tasks
from compressit.errors import StepError
from compressit.model import architectures, caches, disk, fitting, ranges
from compressit.model.fetching import check_safe, explained
from compressit.model.whole import Model
from compressit.tasks import _waveforms

TOKENIZERS = ("tokenizer*.json", "vocab.*", "*.model", "merges.txt")
"""Without one of these transformers makes an empty tokenizer up."""
PADDED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


def load(
    folder: Path, task: str, *, device: str = "cpu", trust_remote_code: bool = False, scratch: Path | None = None
) -> Model:
    """Open a trained model and its processor for a task.

    Args:
        folder: Local folder, as `fetch` gives it.
        task: Name of the task.
        device: Where to put it.
        trust_remote_code: Run Python code that the folder holds. Only ever from a command-line flag.
        scratch: Leave the weights on disk, and lay out here what can't be read from the folder as it is.

    Raises:
        StepError: the folder doesn't hold such a model, or its head was never trained for the task.
        UnsafeError: the weights come as pickle only, or need code of their own.
    """
    import transformers

    check_safe(folder, trust_remote_code=trust_remote_code)
    architectures.introduce(folder)
    auto_class = getattr(transformers, tasks.load(task).AUTO_CLASS)
    options = {"use_safetensors": True, "trust_remote_code": trust_remote_code}
    lies = None
    with explained(folder):
        if not trust_remote_code:
            fitting.check_size(auto_class, folder)
        opener = fitting.opener(auto_class, folder, trust_remote_code=trust_remote_code)
        if scratch is None:
            module, info = opener.from_pretrained(folder, output_loading_info=True, **options)
        else:
            module, info, lies = disk.opened(auto_class, opener, folder, scratch, **options)
        fitting.forget(module)
    _freeze_computed(module)
    _fit_inputs(module)
    idle = tuple(getattr(tasks.load(task), "UNTRAINED", ()))
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith(idle)):
        raise StepError(
            f"{folder} holds no trained weights for {task}: {', '.join(missing[:4])} are missing",
            hint="compressit compresses a model that is already trained for its task; train it first",
        )
    for part in {name.partition(".")[0] for name in info["missing_keys"]}:
        # What was never trained is not computed, nor saved as if it had been.
        setattr(module, part, None)
    opened = processor(folder, task, trust_remote_code=trust_remote_code)
    module = module.eval()
    on = module if lies else module.to(device)
    found = Model(on, opened, task, str(folder), lies, ranges=ranges.read(folder), caches=caches.read(folder))
    # What can't be read of its folder shows before any work is done.
    assert callable(found.answer)
    return found


def beginner(
    folder: Path, task: str, labels: Mapping[int, str], *, device: str = "cpu", trust_remote_code: bool = False
) -> tuple[Model, list[str]]:
    """Open a model that is to be trained for a task, its head made anew unless it has one for the same labels.

    Returns:
        The model, and the weights that have learned nothing, by module.

    Raises:
        StepError: the folder doesn't hold such a model.
        UnsafeError: the weights come as pickle only, or need code of their own.
    """
    import transformers

    kind = tasks.load(task)
    if kind.OUTPUT.PAIRED or hasattr(kind, "reader"):
        # What it says are tokens or vectors, and no labels that a head could be made for.
        return load(folder, task, device=device, trust_remote_code=trust_remote_code), []
    check_safe(folder, trust_remote_code=trust_remote_code)
    architectures.introduce(folder)
    auto_class = getattr(transformers, kind.AUTO_CLASS)
    ids = {label: index for index, label in labels.items()}
    more = {"id2label": dict(labels), "label2id": ids, "trust_remote_code": trust_remote_code}
    with explained(folder):
        own = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        trained = _spelled(own.id2label) == _spelled(labels) and auto_class.__name__.removeprefix("AutoModel") in str(
            own.architectures
        )
    if trained:
        return load(folder, task, device=device, trust_remote_code=trust_remote_code), []
    with explained(folder):
        config = transformers.AutoConfig.from_pretrained(folder, **more)
        module = auto_class.from_config(config, trust_remote_code=trust_remote_code)
        base, info = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=trust_remote_code
        )
        inside = getattr(module, module.base_model_prefix)
        missing = inside.load_state_dict(base.state_dict(), strict=False).missing_keys
    _fit_inputs(module)
    new = [f"{module.base_model_prefix}.{name}" for name in {*missing, *info["missing_keys"]}]
    new += [name for name in module.state_dict() if not name.startswith(f"{module.base_model_prefix}.")]
    opened = processor(folder, task, trust_remote_code=trust_remote_code)
    return Model(module.eval().to(device), opened, task, str(folder)), sorted({n.rpartition(".")[0] for n in new})


def _freeze_computed(module: Any) -> None:
    """Have nothing learned that isn't saved, as Marian's positions, which are computed anew whenever it is opened."""
    unsaved = {*(getattr(module, "_keys_to_ignore_on_save", None) or ())}
    unsaved -= {*(getattr(module, "all_tied_weights_keys", None) or ())}
    for name, parameter in module.named_parameters():
        if name in unsaved:
            parameter.requires_grad_(False)


def _fit_inputs(module: Any) -> None:
    """Have pictures and sounds, which come in float32, take the type of the weights, as not all architectures do."""
    if module.main_input_name != "input_ids":
        module.register_forward_pre_hook(fitted, with_kwargs=True)


def fitted(module: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give inputs with what the model mainly reads in the type of its weights: a hook that models are opened with."""
    name = module.main_input_name
    return args, {**inputs, name: inputs[name].to(module.dtype)} if name in inputs else inputs


def _spelled(labels: Mapping[int, str]) -> dict[int, str]:
    return {index: label.lower() for index, label in labels.items()}


def processor(folder: Path, task: str, *, trust_remote_code: bool = False) -> Any:
    """Open the tokenizer, image processor or feature extractor of a folder."""
    import transformers

    architectures.introduce(folder)
    name = tasks.load(task).PROCESSOR_CLASS
    if name == "AutoImageProcessor":
        machine.need({"PIL": "vision"})
    if name == "AutoFeatureExtractor":
        _waveforms.ready()
    if name == "AutoTokenizer" and not any(next(folder.glob(pattern), None) for pattern in TOKENIZERS):
        raise StepError(f"{folder} holds no tokenizer", hint="save it there: AutoTokenizer.from_pretrained(...)")
    with explained(folder):
        opened = getattr(transformers, name).from_pretrained(folder, trust_remote_code=trust_remote_code)
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    for limit in (positions(config), tasks.cut_at(task, folder)):
        if limit is not None and getattr(opened, "model_max_length", 0) > limit:
            # Many tokenizers don't say how much their model takes.
            opened.model_max_length = limit
    inform = getattr(tasks.load(task), "inform", None)
    if inform is not None:
        with explained(folder):
            inform(opened, config, folder)
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

    check_safe(folder, trust_remote_code=trust_remote_code)
    architectures.introduce(folder)
    with explained(folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return dict(config.id2label)
