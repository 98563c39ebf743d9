"""Training of a model whose weights are spread over the processes (FSDP2 of torch, as accelerate sets it up)."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from compressit.errors import StepError
from compressit.model import Model
from compressit.model.opening import fitted

if TYPE_CHECKING:
    import torch

HINT = "let each GPU hold the whole model: accelerate launch --multi_gpu, or torchrun"


def asked() -> bool:
    """Tell whether the launcher wants weights spread over the processes.

    Raises:
        StepError: it wants what this can't do.
    """
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if _said(f"ACCELERATE_USE_{name}"):
            raise StepError(f"steps that train don't work with accelerate's {name}", hint=HINT)
    sharded = _said("ACCELERATE_USE_FSDP")
    if sharded and os.environ.get("FSDP_VERSION", "1") != "2":
        raise StepError("steps that train work with the second version of FSDP alone", hint="--fsdp_version 2")
    return sharded


def spread(trainer: Any, model: Model) -> None:
    """Spread weights as the launcher was told, over processes without a GPU, too, where accelerate passes it over."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    if state.distributed_type is DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        if state.mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
        # Each look at the one state copies from the other.
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        trainer.is_fsdp_enabled = True
    if state.fsdp_plugin.transformer_cls_names_to_wrap is None:
        # What transformers would not split holds embeddings, too, which accelerate spreads by themselves, and fails.
        state.fsdp_plugin.transformer_cls_names_to_wrap = sorted({type(block).__name__ for _, block in model.blocks()})


def plain(model: Model, step: str) -> Any:
    """Copy a module before its weights are spread, to put together again what becomes of them.

    Raises:
        StepError: somebody looks on while it computes, or has it compute in another way, which a copy would keep.
    """
    for part in model.module.modules():
        looked_at = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
        if "forward" in vars(part) or any(hook is not fitted for hook in looked_at):
            raise StepError(
                f"{step}: hidden states, relations and int8 can't be learned under FSDP",
                hint=f"leave out hidden and relations; or {HINT}",
            )
    return copy.deepcopy(model.module).cpu()


def gather(trainer: Any, model: Model, whole: Any) -> None:
    """Give a model its weights back, of which the first process has all and the others none."""
    state = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.accelerator.is_main_process:
        whole.load_state_dict(state)
    model.module = whole


def zeros(module: Any, names: set[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Find the zeros of this process's share of some modules' weights: the share itself, and where it is zero."""
    shares = {name: part.weight.to_local() for name, part in module.named_modules() if name in names}
    return {name: (share, share == 0) for name, share in shares.items()}


def _said(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")
