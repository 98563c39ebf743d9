"""Leave out whole experts of a mixture, for good: each block keeps those that its calibration tokens need most.

A token still meets as many experts, of those that are left, so a run takes as long as before; memory shrinks.
`contribution` is how much an expert adds over all tokens: the sum over those that meet it of how much it counts times
how long its answer is; `saliency` is the mean of that over its tokens (REAP, Lasby et al. 2025, arXiv:2510.13999),
which spares experts that few tokens meet and that matter to these; `use` is how many tokens meet it. On a small Mixtral
whose experts are met unevenly, perplexity 1.26 without a cut rises to 1.38, 1.39 and 1.40 in this order where two of
eight go (at random 1.39 to 1.44), and to 1.52, 2.04 and 1.51 where four go (1.53 to 1.72); where six go,
`use` is best: 2.95, 2.54 and 2.16. That is one model (`tests/benchmarks/bench_experts.py`).

No training; the answers of the experts that go are not made up for: `distill` does that. Every block keeps as many
experts, and plain transformers opens the checkpoint.

Recipe::

    - step: prune_experts
      sparsity: 0.25
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compressit import anatomy, weights
from compressit.errors import RecipeError, StepError
from compressit.model import Model
from compressit.steps import Dial, Fact, Need, Notes, StepConfig, StepContext
from compressit.steps._calibration import batches, real
from compressit.weights import Weight, Weights

if TYPE_CHECKING:
    import torch


class Config(StepConfig):
    """Fields of the step."""

    makes: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES})
    keeps: ClassVar[frozenset[Fact]] = frozenset({Fact.SHAPES, Fact.SPARSITY, Fact.DTYPE})
    prunes: ClassVar[bool] = True

    keep: int | None = Field(None, ge=1)
    """How many experts each block keeps; or give `sparsity`."""
    sparsity: float | None = Field(None, gt=0, lt=1)
    """Share of each block's experts to leave out, rounded to whole ones."""
    importance: Literal["contribution", "saliency", "use"] = "contribution"
    """Whether how much an expert adds to all of its tokens counts, to each of them, or how many these are."""
    batch_size: int = Field(8, ge=1)
    """Examples at once while it is measured."""

    @model_validator(mode="after")
    def _one(self) -> Config:
        if (self.keep is None) == (self.sparsity is None):
            raise ValueError("give one of `keep` and `sparsity`")
        return self

    def needs(self) -> frozenset[Need]:
        """Ask for calibration data."""
        return frozenset({Need.CALIBRATION})

    def dial(self, table: Weights | None) -> Dial | None:
        """Turn the share that goes."""
        return Dial("sparsity", self.sparsity, lambda share: round(share, 4)) if self.sparsity else None


def run(model: Model, config: Config, context: StepContext) -> Notes:
    """Cut the experts out, in place."""
    module = model.module
    blocks = [name for name, _ in model.blocks() if "experts" in anatomy.networks(module, name)]
    counts = {len(anatomy.experts(module, name)) for name in blocks}
    count = max(counts, default=0)
    stay = _left(config, count, anatomy.met(module.config.to_dict()), module.config.model_type)
    if len(counts) > 1:
        raise StepError(f"blocks have {min(counts)} to {count} experts, and are to be left as many")
    uses, sums = _measured(model, config, context, blocks, count)
    gone = 0
    for name in blocks:
        mean = sums[name] / uses[name].clamp(min=1)
        worth = {"contribution": sums[name], "saliency": mean, "use": uses[name]}[config.importance]
        kept = sorted(worth.argsort(descending=True, stable=True)[:stay].tolist())
        gone += int(uses[name].sum() - uses[name][kept].sum())
        anatomy.keep_experts(module, name, kept)
    met = sum(int(each.sum()) for each in uses.values())
    return {
        "experts_before": count,
        "experts_after": stay,
        "never_met": sum(int((each == 0).sum()) for each in uses.values()),
        "choices_rerouted": round(gone / max(1, met), 5),
    }


def foresee(table: Weights, config: Config) -> Weights:
    """Leave tensors of experts out of the table, and rows of routers."""
    count = _count(table)
    stay = _left(config, count, table.met, table.model_type)

    def left(tensor: Weight) -> Weight | None:
        number = anatomy.expert_number(table.model_type, tensor.name)
        if number is not None:
            return tensor if number < stay else None
        if not anatomy.is_router(table.model_type, tensor.name):
            return tensor
        return Weight(tensor.name, (stay, *tensor.shape[1:]), tensor.bits)

    return table.changed(tensor for tensor in map(left, table.tensors) if tensor is not None)


def claim(folder: Path, config: Config) -> str | None:
    """Count the experts of the saved checkpoint."""
    table = weights.read(folder)
    found = _count(table)
    rows = {tensor.shape[0] for tensor in table.tensors if anatomy.is_router(table.model_type, tensor.name)}
    if rows != {found}:
        return f"the checkpoint has {found} experts in a block, and routers for {sorted(rows)}"
    if config.keep is not None and found > config.keep:
        return f"the checkpoint has {found} experts in a block, {config.keep} were to stay"
    return None


def _count(table: Weights) -> int:
    """Count the experts of a block in the table."""
    numbers = (anatomy.expert_number(table.model_type, tensor.name) for tensor in table.tensors)
    return max((number + 1 for number in numbers if number is not None), default=0)


def _left(config: Config, count: int, met: int | None, model_type: str) -> int:
    """Say how many experts stay in each block.

    Raises:
        RecipeError: there are none, none would go, or a token would meet fewer than it does.
    """
    if not count:
        raise RecipeError(f"{config.step}: {model_type} has no experts", hint="prune_ffn cuts neurons out of any model")
    stay = config.keep if config.keep is not None else round(count * (1 - (config.sparsity or 0)))
    if stay >= count:
        raise RecipeError(f"{config.step}: {stay} of {count} experts leave nothing to cut")
    if stay < (met or 1):
        raise RecipeError(
            f"{config.step}: {stay} experts would stay in each block, and each token meets {met}",
            hint=f"keep {met} or more",
        )
    return stay


def _measured(
    model: Model, config: Config, context: StepContext, blocks: list[str], count: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Count, by block, the tokens that each expert meets, and sum how much it adds to them: (experts,) each."""
    import torch

    uses = {name: torch.zeros(count, dtype=torch.float64) for name in blocks}
    sums = {name: torch.zeros(count, dtype=torch.float64) for name in blocks}
    given: dict[str, Any] = {}

    def watch(name: str) -> Any:
        # Every experts module of transformers is called with the tokens, whom each goes to, and how much it counts.
        def hook(part: Any, args: Any) -> None:
            tokens_TH, index_TK, counts_TK = args
            there = real(model, given, name)
            live_T = torch.ones(len(index_TK), dtype=torch.bool) if there is None else there.flatten()
            chosen_TK = torch.where(live_T.to(index_TK.device)[:, None], index_TK, count)
            for expert in range(count):
                at, choice = (chosen_TK == expert).nonzero(as_tuple=True)
                if len(at):
                    said_NH = _answer(part, expert, tokens_TH.flatten(0, -2)[at])
                    uses[name][expert] += len(at)
                    sums[name][expert] += float((counts_TK[at, choice] * said_NH.norm(dim=-1)).double().sum())

        return hook

    hooks = [
        model.module.get_submodule(*anatomy.members(model.module, name, "experts")).register_forward_pre_hook(
            watch(name)
        )
        for name in blocks
    ]
    try:
        with torch.no_grad():
            for inputs, _ in batches(model, config.batch_size, context, "experts"):
                given = inputs
                model.module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return uses, sums


def _answer(part: Any, expert: int, tokens_NH: torch.Tensor) -> torch.Tensor:
    """Compute what one expert says of some tokens."""
    from torch.nn.functional import linear

    gate, up = linear(tokens_NH, part.gate_up_proj[expert]).chunk(2, dim=-1)
    return linear(part.act_fn(gate) * up, part.down_proj[expert]).float()
