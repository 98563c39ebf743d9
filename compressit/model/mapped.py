"""Weights mapped from their files: the system reads what is used and drops it where memory is short, so a model runs.

Accelerate's hooks, which read each layer anew for every batch, give the same figures, but miss what a module takes from
another without calling it (DeBERTa's relative positions), and transformers can't lay out integers that stay integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit import intake, machine
from compressit.model import disk, opening

if TYPE_CHECKING:
    import torch

    from compressit.model.whole import Model


def load(folder: Path, task: str, scratch: Path, *, trust_remote_code: bool = False) -> Model:
    """Open a trained model that is ready to run, with no weight in memory of its own but the smallest.

    Args:
        folder: Local folder, as `fetch` gives it.
        task: Name of the task.
        scratch: A folder for weights that no file holds as they are used: integers unpacked, experts stacked, other
            types. They are laid out there one by one, and must stay as long as the model runs.
        trust_remote_code: Run Python code that the folder holds. Only ever from a command-line flag.

    Raises:
        StepError: the folder doesn't hold such a model, or its head was never trained for the task.
        UnsafeError: the weights come as pickle only, or need code of their own.
    """
    quantized = intake.described(folder).get("quantization_config")
    scratch.mkdir(parents=True, exist_ok=True)
    if quantized is not None and not quantized.get("dequantize"):
        # transformers can't leave integers on disk; but as they are used as they lie, it maps them by itself.
        model = opening.load(folder, task, trust_remote_code=trust_remote_code)
        _unpack(model.module, scratch)
        return model
    model = opening.load(folder, task, trust_remote_code=trust_remote_code, scratch=scratch)
    assert model.disk is not None
    _fill(model.module, disk.read(model.disk.places), scratch)
    model.disk = None
    return model


def _fill(module: Any, found: dict[str, torch.Tensor], scratch: Path) -> None:
    held = {name: tensor.dtype for name, tensor in module.state_dict(keep_vars=True).items()}
    same = {name: tensor for name, tensor in found.items() if tensor.dtype == held[name]}
    disk.fill(module, same)
    for name in found.keys() - same.keys():
        _lay_out(module, name, found[name].to(held[name]), scratch)
    module.tie_weights()


def _unpack(module: Any, scratch: Path) -> None:
    """Do layer by layer, on disk, what compressed-tensors does in memory at the first forward."""
    from compressed_tensors.compressors import decompress_module
    from compressed_tensors.quantization.utils import is_module_quantized

    compressor = module.hf_quantizer.compressor
    for name, layer in module.named_modules():
        if is_module_quantized(layer) and layer.quantization_scheme.weights is not None:
            decompress_module(layer, compressor.force_compression_format)
            _lay_out(module, f"{name}.weight", layer.weight.data, scratch)
    compressor.remove_decompression_hook(module)


def _lay_out(module: Any, name: str, tensor: torch.Tensor, scratch: Path) -> None:
    file = scratch / f"{name}.mapped.safetensors"
    disk.write(file, {name: tensor})
    disk.fill(module, disk.read({name: disk.Place(file, name)}))
    machine.give_back()
