"""Passes over all batches through one block that stop as soon as they have shown what they were run for.

A block's products fall into stages: those whose inputs depend on nothing that is still to change. In a Llama block they
are q, k and v; o; gate and up; down. Each stage is one pass up to its own products, through matrices that have changed
already, from where the stage before stopped. All experts of a block are one stage: which of them a token meets is only
known when it gets there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit import ranks
from compressit.data.walking.runs import Runs
from compressit.data.walking.watch import Key, Stopped

if TYPE_CHECKING:
    import torch

    from compressit.data.walking.blocks import How
    from compressit.model.matrices import Matrix


@dataclass(frozen=True)
class Shared:
    """Products that are given the same inputs, and how often in a pass."""

    keys: tuple[Key, ...]
    calls: int


@dataclass(frozen=True)
class Group:
    """Chosen matrices that see the same inputs, and what was measured of these."""

    matrices: tuple[Matrix, ...]
    statistic: Any


@dataclass(frozen=True)
class Stage:
    """What one pass measures.

    Attributes:
        products: By the inputs they share.
        stop: The call that makes the first of them; 0 where a pass runs beyond it before it has seen all.
    """

    products: tuple[Shared, ...]
    stop: int


def plan_of(runs: Runs, inside: Mapping[str, Matrix], how: How, *, sequential: bool) -> list[Stage]:
    """Find the stages of a block, by what happens to the first batch; for several processes, to that of the first."""
    seen: dict[Key, list[Hashable]] = {}
    first: dict[Key, int] = {}
    alive: list[torch.Tensor] = []

    def see(key: Key, inputs: torch.Tensor, call: int) -> None:
        # Kept alive, so that no other tensor comes to lie at the same place.
        alive.append(inputs)
        seen.setdefault(key, []).append((inputs.data_ptr(), inputs.shape))
        first.setdefault(key, call)

    runs.learn(see)
    grouped: dict[tuple[Hashable, ...], list[Key]] = {}
    for key, inputs in seen.items():
        grouped.setdefault((key[1] is not None, *inputs), []).append(key)
    found = [Shared(tuple(keys), len(inputs) - 1) for inputs, keys in grouped.items()]
    experts = [shared for shared in found if shared.keys[0][1] is not None]
    # Experts that no token of the first batch met, each by itself.
    unmet = dict.fromkeys(m.product for m in inside.values() if m.product not in seen)
    experts += [Shared((key,), 1) for key in unmet]
    plain = [shared for shared in found if shared.keys[0][1] is None]
    if not sequential:
        return [Stage(ranks.agreed((*plain, *experts), how.processes), 0)]
    stages: list[tuple[Shared, ...]] = [(shared,) for shared in plain]
    if experts:
        order = list(seen)
        start = min((order.index(s.keys[0]) for s in experts if s.keys[0] in seen), default=len(order))
        place = sum(order.index(shared.keys[0]) < start for shared in plain)
        stages.insert(place, tuple(experts))
    return [Stage(products, _stop(products, first)) for products in ranks.agreed(stages, how.processes)]


def collect(
    runs: Runs,
    computing: Mapping[str, torch.Tensor],
    inside: Mapping[str, Matrix],
    stage: Stage,
    how: How,
    *,
    keep_outputs: bool,
) -> list[Group]:
    """Measure the inputs of a stage's products over all batches.

    For each set of products that share their inputs it gives the chosen matrices they multiply and what was measured.
    With `keep_outputs` each pass runs to its end, and what comes out flows on.
    """
    leaders = {shared.keys[0]: shared for shared in stage.products}
    stack = any(key[1] is not None for key in leaders)
    members = {shared.keys[0]: _members(shared, inside) for shared in stage.products}
    statistics = {key: how.statistic(_inputs(found[0], computing), how.device) for key, found in members.items()}
    left: dict[Key, int] = {}

    def see(key: Key, inputs: torch.Tensor) -> None:
        if key in leaders:
            statistics[key].add(_measured(inputs, places))
            left[key] -= 1
        if not keep_outputs and not stack and not any(left.values()):
            raise Stopped

    for batch in range(len(runs.calls)):
        places = how.places[batch] if how.places else None
        left.update({key: shared.calls for key, shared in leaders.items()})
        output = runs.go(batch, see, stage.stop)
        if keep_outputs and output is not None:
            runs.flow.put(batch, output)
    for statistic in statistics.values():
        statistic.pool(how.processes)
    return [Group(members[key], statistics[key]) for key in leaders]


def _stop(products: tuple[Shared, ...], first: Mapping[Key, int]) -> int:
    alone = len(products) == 1 and products[0].calls == 1 and products[0].keys[0][1] is None
    return first.get(products[0].keys[0], 0) if alone else 0


def _measured(inputs: torch.Tensor, places_BT: torch.Tensor | None) -> torch.Tensor:
    """Lay inputs out in rows, without places that are not to be measured: (..., I) -> (N, I)."""
    if places_BT is not None and inputs.shape[:-1] == places_BT.shape:
        return inputs[places_BT.to(inputs.device)]
    return inputs.reshape(-1, inputs.shape[-1])


def _members(shared: Shared, inside: Mapping[str, Matrix]) -> tuple[Matrix, ...]:
    return tuple(matrix for matrix in inside.values() if matrix.product in shared.keys)


def _inputs(matrix: Matrix, computing: Mapping[str, torch.Tensor]) -> int:
    return int(matrix.of(computing).shape[1])
