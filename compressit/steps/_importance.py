"""How much a model loses without one of its heads, neurons or channels, from calibration data or weights alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compressit import anatomy
from compressit.data.labels import unknown
from compressit.errors import StepError
from compressit.model import Model
from compressit.model.matrices import Matrix, convolutions, matrices
from compressit.steps import StepContext
from compressit.steps._answers import many, said, worth
from compressit.steps._calibration import batches, real
from compressit.steps._experts import See, routed

if TYPE_CHECKING:
    import torch

Importance = Literal["fisher", "taylor", "activation", "magnitude", "random"]
MEASURED = ("fisher", "taylor", "activation")
"""Those that need data."""
FEW = 32
"""Tokens that an expert has to see, or nothing that is measured of it counts."""
TINY = 1e-20


@dataclass(frozen=True)
class Units:
    """Inputs of a matrix that can be cut one by one: heads or neurons of a block, or channels.

    Where those of several matrices go together, each of these loses as many.

    Attributes:
        block: Full name of the block; empty outside.
        kind: "ffn", "experts", the kind of attention, "width", or "channels" between convolutions.
        matrix: Full name of the matrix whose inputs they are.
        count: How many there are.
        each: Inputs of the matrix that belong to one of them, next to each other; a convolution reads height x width
            of each channel.
        also: Block and matrix of others that lose as many.
        own: Whether each matrix loses those that matter least in it; otherwise the n-th of all matrices go at once.
    """

    block: str
    kind: str
    matrix: str
    count: int
    each: int
    also: tuple[tuple[str, str], ...] = ()
    own: bool = False

    @property
    def members(self) -> tuple[tuple[str, str], ...]:
        """Block and matrix of all."""
        return ((self.block, self.matrix), *self.also)


@dataclass(frozen=True)
class _Part:
    """One matrix of some units, and which list of scores it counts for; and what it reads.

    Attributes:
        expert: It belongs to an expert, and reads what tokens that meet it bring.
        pictures: It is a convolution, and reads (B, C, H, W).
    """

    matrix: str
    count: int
    each: int
    slot: int
    expert: bool
    pictures: bool

    def by_unit(self, values: torch.Tensor) -> torch.Tensor:
        """Add up what is said of what the matrix is given, by unit: (..., count)."""
        if self.pictures:
            return values.movedim(1, -1)
        return values.unflatten(-1, (self.count, self.each)).sum(-1)

    def by_input(self, rows: torch.Tensor) -> torch.Tensor:
        """Lay out what the matrix is given, in rows: (N, inputs), of a convolution (N, channels)."""
        if self.pictures:
            rows = rows.movedim(1, -1)
        return rows.reshape(-1, rows.shape[-1])


@dataclass(frozen=True)
class _Inputs:
    """The matrices whose inputs are watched, those of the model by name, and how many tokens each expert saw."""

    model: Model
    parts: Sequence[_Part]
    matrices: Mapping[str, Matrix]
    seen: list[int]

    @contextlib.contextmanager
    def watched(
        self, watch: Callable[[int], Callable[..., Any]], see: Callable[[int, torch.Tensor, torch.Tensor, int], None]
    ) -> Iterator[None]:
        """Hook modules with what `watch` gives by place, and have `see` told, by place, of what experts get."""
        sees: dict[str, See] = {}
        with contextlib.ExitStack() as stack:
            for place, each in enumerate(self.parts):
                if each.expert:
                    sees[each.matrix] = self._counting(place, see)
                else:
                    hook = self.model.module.get_submodule(each.matrix).register_forward_pre_hook(watch(place))
                    stack.callback(hook.remove)
            if sees:
                stack.enter_context(routed(self.model.module, self.matrices, sees))
            yield

    def _counting(self, place: int, see: Callable[[int, torch.Tensor, torch.Tensor, int], None]) -> See:
        def told(inputs: torch.Tensor, tokens: torch.Tensor, whole: int) -> None:
            self.seen[place] += len(tokens)
            see(place, inputs, tokens, whole)

        return told


def importance(
    model: Model,
    units: Sequence[Units],
    how: Importance,
    batch_size: int,
    context: StepContext,
    starved: set[str] | None = None,
) -> list[torch.Tensor]:
    """Give the importance of each head or neuron, float32, for each of `units`.

    It is (count,); where several matrices go together but each loses its own, (matrices, count). Of an expert that saw
    fewer than `FEW` tokens it says by magnitude which neurons matter more than others, and all in all what was
    measured; its matrix is added to `starved`.

    `fisher` and `taylor` are derivatives of the loss by a mask of ones over what the matrix gets, or by one mask over
    what several get. `fisher` is their
    mean square over examples, or over positions where each has a loss of its own, for labels that the model itself
    draws (Kwon et al. 2022, arXiv:2204.09656, takes the data's; Kunstner et al. 2019, arXiv:1905.12558, say why to draw
    them). `taylor` is the mean's absolute value for the
    data's labels (Michel et al. 2019, arXiv:1905.10650). `activation` is the mean square of what a unit adds to the
    outputs of the matrix, inputs taken as independent; `magnitude` the same for inputs of one size.
    """
    import torch

    draw = torch.Generator().manual_seed(context.seed)
    parts, slots = _parts(units)
    if how == "taylor" and context.calibration is not None and unknown(context.calibration):
        raise StepError("importance: taylor goes by labels, and no calibration row has one", hint="importance: fisher")
    if how == "random":
        return _gathered(units, [torch.rand(count, generator=draw) for count in slots])
    every = {matrix.name: matrix for matrix in (*matrices(model.module), *convolutions(model.module))}
    # Channels are read by gates of experts, too, which nobody else takes for matrices.
    every = {each.matrix: Matrix(each.matrix, f"{each.matrix}.weight") for each in parts} | every
    outgoing = [_outgoing(model, each, every) for each in parts if how in ("activation", "magnitude") or each.expert]
    if how == "magnitude":
        return _gathered(units, _summed(parts, slots, outgoing))
    inputs = _Inputs(model, parts, every, [0] * len(parts))
    if how == "activation":
        squares = _squares(inputs, batch_size, context)
        found = _summed(parts, slots, [one * other for one, other in zip(squares, outgoing, strict=True)])
    else:
        found = _derivatives(inputs, slots, how, batch_size, context, draw)
    sizes = iter(outgoing)
    for part, seen in zip(parts, inputs.seen, strict=True):
        size = next(sizes) if part.expert or how == "activation" else None
        if part.expert and size is not None and seen < FEW:
            found[part.slot] = size * (max(float(found[part.slot].sum()), TINY) / max(float(size.sum()), TINY))
            if starved is not None:
                starved.add(part.matrix)
    return _gathered(units, found)


def _gathered(units: Sequence[Units], found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    import torch

    lists = iter(found)
    return [torch.stack([next(lists) for _ in each.members]) if each.own else next(lists) for each in units]


def _summed(parts: Sequence[_Part], slots: Sequence[int], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Add up what is said of inputs, by unit."""
    import torch

    found = [torch.zeros(count) for count in slots]
    for part, own_I in zip(parts, inputs, strict=True):
        found[part.slot] += own_I.unflatten(0, (part.count, part.each)).sum(1)
    return found


def _parts(units: Sequence[Units]) -> tuple[list[_Part], list[int]]:
    """List the matrices, and how long each list of scores is."""
    parts: list[_Part] = []
    slots: list[int] = []
    for each in units:
        for place, (_, matrix) in enumerate(each.members):
            if each.own or place == 0:
                slots.append(each.count)
            reads = each.kind == "experts", each.kind == "channels"
            parts.append(_Part(matrix, each.count, each.each, len(slots) - 1, *reads))
    return parts, slots


def _outgoing(model: Model, part: _Part, every: Mapping[str, Matrix]) -> torch.Tensor:
    """Sum the squares of the weights that leave each input: (I,)."""
    weight_OI = every[part.matrix].of(model.module.state_dict()).float()
    scale_O = anatomy.scale(model.module, part.matrix)
    if scale_O is not None:
        weight_OI = weight_OI * scale_O.detach().float()[:, None]
    found: torch.Tensor = weight_OI.square().sum(0).cpu()
    return found


def _squares(watched: _Inputs, batch_size: int, context: StepContext) -> list[torch.Tensor]:
    """Average the square of each input over real tokens: (I,) for each matrix."""
    import torch

    model, parts = watched.model, watched.parts
    sums = [torch.zeros(each.count * each.each) for each in parts]
    seen = [0] * len(parts)
    given: dict[str, torch.Tensor] = {}

    def add(index: int, rows: torch.Tensor) -> None:
        squares = rows.float().square().sum(0).cpu()
        sums[index] += squares.repeat_interleave(parts[index].each) if parts[index].pictures else squares
        seen[index] += len(rows)

    def watch(index: int) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            inputs, mask = args[0], real(model, given, parts[index].matrix)
            same = mask is not None and inputs.shape[:-1] == mask.shape
            add(index, inputs[mask] if same else parts[index].by_input(inputs))

        return hook

    def see(index: int, inputs: torch.Tensor, tokens: torch.Tensor, whole: int) -> None:
        mask = real(model, given, parts[index].matrix)
        same = mask is not None and mask.numel() == whole
        add(index, inputs[mask.flatten()[tokens]] if mask is not None and same else inputs)

    with watched.watched(watch, see), torch.no_grad():
        for inputs, _ in batches(model, batch_size, context, "importance"):
            given.clear()
            given.update(inputs)
            model.module(**inputs)
    return [total / max(1, count) for total, count in zip(sums, seen, strict=True)]


def _derivatives(
    watched: _Inputs,
    slots: Sequence[int],
    how: Importance,
    batch_size: int,
    context: StepContext,
    draw: torch.Generator,
) -> list[torch.Tensor]:
    import torch

    model, parts = watched.model, watched.parts
    by_position = many(model.task)
    rows, size = 0, [0]
    sums = [torch.zeros(count) for count in slots]
    slopes: dict[tuple[int, torch.Size], torch.Tensor] = {}

    def keep(part: _Part, each: torch.Tensor) -> None:
        key = part.slot, each.shape
        # A block that several layers share is met several times.
        slopes[key] = slopes[key] + each if key in slopes else each

    def note(part: _Part, inputs: torch.Tensor, grad: torch.Tensor) -> None:
        found = part.by_unit((inputs * grad).float())
        found = found.reshape(size[0], -1, found.shape[-1])
        # Where each position has a loss of its own, a mask over a whole text would sum the slopes of many.
        keep(part, found.flatten(0, 1) if by_position else found.sum(1))

    def note_routed(part: _Part, inputs: torch.Tensor, examples: torch.Tensor, grad: torch.Tensor) -> None:
        found = (inputs * grad).float()
        keep(part, found if by_position else found.new_zeros(size[0], part.count).index_add_(0, examples, found))

    def watch(index: int) -> Callable[..., Any]:
        def hook(module: Any, args: Any) -> Any:
            inputs = args[0]
            tokens_in_rows = inputs.dim() == 2 and len(inputs) % size[0] == 0
            if len(inputs) != size[0] and not tokens_in_rows:
                # Not of examples: DeBERTa's positions, all of which every example shares.
                return None
            # A view of its own: other matrices may read the same inputs.
            inputs = inputs.view_as(inputs) if inputs.requires_grad else inputs.detach().requires_grad_()
            inputs.register_hook(functools.partial(note, parts[index], inputs.detach()))
            return (inputs, *args[1:])

        return hook

    def see(index: int, inputs: torch.Tensor, tokens: torch.Tensor, whole: int) -> None:
        examples = tokens // (whole // size[0])
        inputs.register_hook(functools.partial(note_routed, parts[index], inputs.detach(), examples))

    with watched.watched(watch, see), _frozen(model.module), torch.enable_grad(), contextlib.ExitStack() as stack:
        if any(part.expert for part in parts):
            # What experts get is not replaced: derivatives have to begin before the first block.
            embeddings = model.module.get_input_embeddings()
            stack.callback(embeddings.register_forward_hook(lambda part, args, made: made.requires_grad_()).remove)
        for inputs, labels in batches(model, batch_size, context, "importance"):
            size[0] = len(next(iter(inputs.values())))
            answers = said(model, inputs)
            worth(model.task).summed(model.task, answers, labels, draw if how == "fisher" else None).backward()
            rows += size[0]
            for (slot, _), slope in slopes.items():
                sums[slot] += (slope.square() if how == "fisher" else slope).sum(0).cpu()
            slopes.clear()
    return [total.abs() / max(1, rows) for total in sums]


@contextlib.contextmanager
def _frozen(module: Any) -> Iterator[None]:
    """Leave weights out of derivatives."""
    held = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
