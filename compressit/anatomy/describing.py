"""The words in which an architecture is described; the descriptions are in `families`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FFN:
    """Where a block keeps its feed-forward network. Paths are below the block.

    Attributes:
        up: Matrices whose outputs are the neurons.
        down: The matrix whose inputs are the neurons.
        size: Key of config.json that says how many there are; None where none does.
        halves: Each matrix of `up` holds two, one below the other, with a row for each neuron.
        times: Key of the number that `size` counts multiples of, where it does.
        counts: Attributes that repeat the number of neurons.
        scale: Path of a parameter that each output of `down` is multiplied by, where there is one.
    """

    up: tuple[str, ...]
    down: str
    size: str | None = "intermediate_size"
    halves: bool = False
    times: str | None = None
    counts: tuple[str, ...] = ()
    scale: str | None = None


@dataclass(frozen=True)
class Keys:
    """What config.json says of heads.

    Attributes:
        heads: Key of the number of (query) heads.
        key_value: Key of the number of key-value heads, where it may differ.
        head_dim: Key of the width of a head. None where there is none, or where the output matrix stays as wide as the
            model: then a number of heads that doesn't divide the model's width as before can't be said.
    """

    heads: str = "num_attention_heads"
    key_value: str | None = None
    head_dim: str | None = None


@dataclass(frozen=True)
class Width:
    """What flows between blocks.

    Attributes:
        key: Key of config.json that says how wide it is.
        also: Keys that may repeat it.
        eps: Key of what norms add to the mean square, where they subtract no mean; None where they do.
        offset: What norms add to their weights.
        last: Path of the norm ahead of the logits, below the base model.
        scales_embeddings: Key that has to be true for embeddings to be multiplied by the square root of the width;
            "always" where they always are.
        scales_logits: Key that has to be true for what the last norm gives to be divided by that root.
        computed: Whether positions are computed for one width, so that no channel can go.
    """

    key: str = "hidden_size"
    also: tuple[str, ...] = ()
    eps: str | None = None
    offset: float = 0.0
    last: str | None = None
    scales_embeddings: str | None = None
    scales_logits: str | None = None
    computed: bool = False

    def scales(self, config: Any) -> bool:
        """Tell whether a model with this config multiplies its embeddings by the square root of the width."""
        key = self.scales_embeddings
        return key is not None and (key == "always" or bool(getattr(config, key)))


@dataclass(frozen=True)
class Attention:
    """Where a block keeps an attention. Matrices that a model doesn't have are passed over.

    Attributes:
        module: Path of the module that computes it, below the block.
        output: Path of the output matrix, below the block. Its inputs are heads x head width.
        tables: Paths of parameters with a column for each head, below the block.
        query: Matrices of that module with rows for each query head.
        key_value: Matrices of that module with rows for each key-value head.
        fused: Its matrix with the rows of query, key and value one below the other.
        interleaved: `fused` holds them head by head: query, key and value of the first, then of the second.
        head_dim: Its attribute that holds the width of a head.
        counts: Attributes that hold the number of query heads.
        key_value_counts: Attributes that hold the number of key-value heads.
        widths: Attributes that hold query heads x head width.
        reads: Key of the number of heads that the module reads in its config whenever it computes.
        keys: What config.json says.
        kind: "self" or "cross".
        shared: Path, below the base model, of a parameter with a column for each head that all blocks of the stack add
            to their scores: in a model that has it a head goes out of all of them at once.
        alike: Blocks of the stack have to have as many heads, as what the first one makes is handed to the others.
    """

    module: str
    output: str
    tables: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    key_value: tuple[str, ...] = ()
    fused: str | None = None
    interleaved: bool = False
    head_dim: str = "head_dim"
    counts: tuple[str, ...] = ()
    key_value_counts: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    reads: str | None = None
    keys: Keys = Keys()
    kind: str = "self"
    shared: str | None = None
    alike: bool = False


@dataclass(frozen=True)
class Norm:
    """A norm of a block whose channels matrices alone read: nothing else is given them. Paths are below the block.

    Attributes:
        path: Its own.
        readers: All matrices that read it, and modules of experts; those that a model doesn't have are passed over.
        when: Key of config.json that has to be true for that; None where it always is so.
    """

    path: str
    readers: tuple[str, ...]
    when: str | None = None


@dataclass(frozen=True)
class Between:
    """Channels between two convolutions of a block that nothing else reads. Paths are below the block.

    Attributes:
        up: The convolution whose outputs they are.
        norm: The batch norm over them.
        down: The convolution whose inputs they are.
        after: The batch norm over what that gives.
    """

    up: str
    norm: str
    down: str
    after: str


@dataclass(frozen=True)
class Stack:
    """A list of blocks, and what each of them holds.

    Attributes:
        path: Path of the list below the base model; `*` stands for a number.
        ffn: The ways in which its blocks may keep their feed-forward network; the first that a block has holds.
        attention: Attentions of a block; those that it doesn't have are passed over.
        depth: Key of config.json that says how many blocks it has; where there are stages, how many each of them has.
        first: Paths, below the block, of what the first block alone has, and hands on to the others: whichever block
            comes to be the first gets them. Modules, or attributes.
        stays: Why its first block can't be dropped, or where there are stages the first of each; None where it can.
        norms: Norms that nothing reads but matrices: none where blocks add what a norm gives to what they give.
        between: Channels between its convolutions; those that a block doesn't have are passed over.
        staged: The lists of its path are stages: something narrows pictures and widens channels between one and the
            next. All of their blocks count as one list.
    """

    path: str
    ffn: tuple[FFN, ...] = ()
    attention: tuple[Attention, ...] = ()
    depth: str = "num_hidden_layers"
    first: tuple[str, ...] = ()
    stays: str | None = None
    norms: tuple[Norm, ...] = ()
    between: tuple[Between, ...] = ()
    staged: bool = False

    @property
    def name(self) -> str:
        """What it is called where a model has an encoder and a decoder."""
        return self.path.partition(".")[0]

    def leads(self, below: str) -> bool:
        """Tell whether what lies there, below a block, belongs to the first block, whichever that is."""
        return any(f"{below}.".startswith(f"{path}.") for path in self.first)


@dataclass(frozen=True)
class Experts:
    """How a mixture of experts is spelled, where transformers stacks all experts of a block in two parameters.

    Attributes:
        module: Name of the module that holds them.
        gate_up: Names of the two matrices that lie one below the other in `gate_up_proj`, as checkpoints spell them.
        down: Name of the one in `down_proj`.
        size: Key of config.json that says how many neurons each expert has.
        met: Key of config.json that says how many experts of a block a token meets.
        router: Name of the matrix beside that module that has a row for each expert.
        counts: Attributes of the module that repeat the number of neurons.
    """

    module: str = "experts"
    gate_up: tuple[str, str] = ("gate_proj", "up_proj")
    down: str = "down_proj"
    size: str = "intermediate_size"
    met: str = "num_experts_per_tok"
    router: str = "gate"
    counts: tuple[str, ...] = ("intermediate_dim",)


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts.

    Attributes:
        stacks: Its lists of transformer blocks, in the order that data walks them.
        saved: Parts of names as checkpoints spell them, and as the module in memory does, where they differ.
        transposed: Whether its matrices lie as (inputs, outputs), as GPT-2's do.
        experts: How its experts are spelled, where it has any.
        left: Glob patterns of two-dimensional weights inside the blocks that are no matrices of linear layers, or that
            nobody compresses: routers, tables of position biases.
        repeated: Whether data walks the same blocks again and again, as ALBERT's layers do.
        width: What flows between the blocks.
        unreadable: Why plain transformers can't open a checkpoint of it that is quantized; None where it can.
        unmixed: Why it can't where layers are quantized in different ways; None where it can.
        headless: Whether it has no attention.
        raw: Whether it convolves what it is given as it comes, in float32.
        gated: Why no head can go; None where some can.
    """

    stacks: tuple[Stack, ...]
    saved: tuple[tuple[str, str], ...] = ()
    transposed: bool = False
    experts: Experts | None = None
    left: tuple[str, ...] = ()
    repeated: bool = False
    width: Width = Width()
    unreadable: str | None = None
    unmixed: str | None = None
    headless: bool = False
    raw: bool = False
    gated: str | None = None
