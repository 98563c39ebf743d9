"""Training for the steps that train: transformers' Trainer, with zeros kept and every line of its output ours."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import ranks, tasks
from compressit.data.labels import unknown
from compressit.errors import StepError
from compressit.model import Model, cast
from compressit.progress import Advance
from compressit.steps import Fact, Need, Notes, StepConfig, StepContext, _sharding
from compressit.steps._adapting import is_added
from compressit.steps._answers import Objective

if TYPE_CHECKING:
    import torch


POINTS = 200
"""Most points of a training's curves."""
CURVES = ("loss", "learning_rate", "grad_norm", "epoch")


class TrainingConfig(StepConfig):
    """Fields of every step that trains."""

    makes: ClassVar[frozenset[Fact]] = frozenset()
    together: ClassVar[bool] = True
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.FACTORS})
    effort: ClassVar[str | None] = "epochs"

    epochs: float = Field(3, gt=0, le=10_000)
    """Passes over the training split."""
    batch_size: int = Field(32, ge=1)
    """Examples in a batch, on each device."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are added up before each update."""
    learning_rate: float = Field(5e-5, gt=0, le=1)
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the updates during which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay of AdamW."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of forward passes, a teacher's too; `auto` is bfloat16 on a GPU that has it and float32 elsewhere."""

    def needs(self) -> frozenset[Need]:
        """Ask for a training split."""
        return frozenset({Need.TRAINING})

    def by_labels(self) -> bool:
        """Say whether nothing is learned without labels."""
        return True


def train(
    model: Model,
    config: TrainingConfig,
    context: StepContext,
    objective: Objective,
    taught: Sequence[torch.Tensor] | None = None,
    watchers: Sequence[Any] = (),
) -> Notes:
    """Train in place; weights of linear layers and convolutions that are zero stay zero.

    Args:
        model: Trained in float32 and given back in the type it came in.
        config: The step's fields.
        context: Its training rows, device and seed; an interrupted training goes on from its scratch folder.
        objective: What is minimised.
        taught: What a teacher says of each prepared row, (answers, classes) each, which the objective is given one
            after the other.
        watchers: Callbacks of the trainer, which are called before the zeros are seen to.

    Raises:
        StepError: the loss became NaN or infinite.
    """
    import torch
    from transformers import PrinterCallback

    assert context.train is not None, "the plan refuses training without a training split"
    if taught is None and unknown(context.train) and config.by_labels():
        raise StepError(
            f"{config.step}: no row of the training split has a label",
            hint="distill with alpha: 0 learns from a teacher alone",
        )
    task = tasks.load(model.task)
    prepared = task.prepare(
        tasks.learned(model.task, context.train), model.processor, context.max_length, **context.fields
    )
    dtype, use_cache = model.module.dtype, getattr(model.module.config, "use_cache", None)
    cast(model.module, torch.float32)
    batches = math.ceil(math.ceil(len(prepared) / config.batch_size) / context.processes)
    # What is left of an epoch is an update of its own.
    updates = math.ceil(math.ceil(batches / config.accumulate) * config.epochs)
    sharded = context.processes > 1 and _sharding.asked()
    whole = _sharding.plain(model, config.step) if sharded else model.module
    joined = contextlib.nullcontext() if context.processes > 1 else ranks.alone()
    with joined, context.progress.bar(config.step, updates) as advance:
        trainer = _trainer(objective, context.processes)(
            model=model.module,
            args=_arguments(config, context, "input_ids" in prepared.column_names, updates),
            train_dataset=_Rows(prepared, taught),
            data_collator=_collate(task.collate(model.processor)),
            callbacks=[*watchers, _watcher(_zeros(model.module), sharded, advance, context.curve)],
        )
        if sharded:
            _sharding.spread(trainer, model)
        # Each batch's loss is a mean already, which accumulated batches are to average.
        trainer.model_accepts_loss_kwargs = False
        trainer.remove_callback(PrinterCallback)
        context.scratch.mkdir(parents=True, exist_ok=True)
        left = ranks.agreed(_last_whole(context.scratch), context.processes)
        result = trainer.train(resume_from_checkpoint=left)
        # Else the module would go on computing in the arithmetic of the training.
        trainer.accelerator.unwrap_model(model.module, keep_fp32_wrapper=False)
        if sharded:
            _sharding.gather(trainer, model, whole)
    cast(model.module.to(context.device), dtype)
    model.module.eval()
    if use_cache is not None:
        # The trainer turns it off; generation from the checkpoint wants it as it was.
        model.module.config.use_cache = use_cache
    if not math.isfinite(result.training_loss):
        raise StepError(
            f"{config.step}: the loss became {result.training_loss}",
            hint="lower learning_rate, or train in float32 (precision: float32)",
        )
    # The trainer's mean covers only what this process did.
    mean = {"loss": round(float(result.training_loss), 5)} if left is None else {"resumed": True}
    return {"updates": trainer.state.global_step, **mean}


def arithmetic(config: TrainingConfig, device: str) -> contextlib.AbstractContextManager[Any]:
    """Have whatever runs meanwhile, such as a teacher, compute in a training's precision."""
    import torch

    precision = _precision(config, device)
    if precision == "float32":
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = torch.autocast(device.partition(":")[0], getattr(torch, precision))
    return found


def _precision(config: TrainingConfig, device: str) -> str:
    import torch

    if config.precision != "auto":
        return config.precision
    return "bfloat16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"


def _last_whole(scratch: Path) -> str | None:
    """Find the newest checkpoint that the trainer finished writing: its state file comes last."""
    whole = [file.parent for file in scratch.glob("checkpoint-*/trainer_state.json")]
    newest = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return None if newest is None else str(newest)


def _arguments(config: TrainingConfig, context: StepContext, text: bool, updates: int) -> Any:
    from transformers import TrainingArguments

    gpu, precision = context.device.startswith("cuda"), _precision(config, context.device)
    return TrainingArguments(
        output_dir=str(context.scratch),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        seed=context.seed,
        use_cpu=not gpu,
        save_strategy="epoch",
        save_total_limit=1,
        logging_strategy="steps",
        logging_steps=math.ceil(updates / POINTS),
        # A NaN must show in the mean.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        # Batches of like lengths hold little padding.
        train_sampling_strategy="group_by_length" if text else "random",
        **({"ddp_find_unused_parameters": True, "log_level_replica": "error"} if context.processes > 1 else {}),
    )


def _trainer(objective: Objective, processes: int) -> Any:
    import torch.distributed as dist
    from transformers import Trainer

    class WithLoss(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **unused: Any) -> Any:
            inputs = dict(inputs)
            labels, taught = inputs.pop("labels"), inputs.pop("taught", None)
            if processes == 1:
                return objective(model, inputs, labels, taught)
            # DDP has to see all that the loss comes from, also what lies beside the model's own outputs.
            inner = self.accelerator.unwrap_model(model)
            with _in_place(inner, lambda forward, **inputs: objective(forward, inputs, labels, taught)):
                return model(**inputs)

        def _save_rng_state(self, output_dir: str) -> None:
            super()._save_rng_state(output_dir)
            if processes > 1:
                # The first process writes last the file that tells of a whole checkpoint.
                dist.barrier()

    return WithLoss


@contextlib.contextmanager
def _in_place(module: Any, answer: Callable[..., Any]) -> Iterator[None]:
    """Have `answer`, which is given the module's own forward, answer in its place."""
    own, forward = vars(module).get("forward"), module.forward
    module.forward = functools.partial(answer, forward)
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _watcher(
    zeros: dict[str, tuple[torch.Tensor, torch.Tensor]],
    sharded: bool,
    advance: Advance,
    curve: Callable[[int, Mapping[str, float]], None],
) -> Any:
    import torch
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *unused: Any, model: Any, **kwargs: Any) -> None:
            if sharded:
                zeros.update(_sharding.zeros(model, {*zeros}))

        def on_step_end(self, *unused: Any, **kwargs: Any) -> None:
            with torch.no_grad():
                for weight, mask in zeros.values():
                    weight.masked_fill_(mask.to(weight.device), 0)
            advance(1)

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **unused: Any) -> None:
            # The last one sums the training up, and has other fields.
            if "loss" in logs:
                curve(state.global_step, {name: logs[name] for name in CURVES if name in logs})

    return Watcher()


def _zeros(module: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Find the weights in training that are zero: pruned by a step before, or by whoever made the model."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | Conv1D
    parts = {n: p.weight for n, p in module.named_modules() if isinstance(p, kinds) and not is_added(n)}
    trained = {name: weight for name, weight in parts.items() if weight.requires_grad}
    return {name: (weight, weight == 0) for name, weight in trained.items() if bool((weight == 0).any())}


class _Rows:
    """Prepared rows, each with the teacher's answers beside it."""

    def __init__(self, prepared: Any, taught: Sequence[torch.Tensor] | None) -> None:
        self.prepared = prepared
        self.taught = taught

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Fetch a whole batch at once, which the data loader asks for where it can."""
        columns = self.prepared[indices]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if self.taught is None:
            return rows
        return [{**row, "taught": self.taught[index]} for row, index in zip(rows, indices, strict=True)]


def _collate(collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Any:
    import torch

    def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
        taught = [row.pop("taught") for row in rows if "taught" in row]
        batch = collate(rows)
        return {**batch, "taught": torch.cat(taught)} if taught else batch

    return together
