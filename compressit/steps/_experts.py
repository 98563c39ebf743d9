"""What each expert of a mixture is given while a model runs, and of which tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compressit.data.walking.watch import products, watching
from compressit.model.matrices import Matrix

if TYPE_CHECKING:
    import torch

See = Callable[["torch.Tensor", "torch.Tensor", int], None]
"""Told of what an expert's matrix gets, (N, I); of which tokens, (N,); and of how many tokens there are in all."""


@contextlib.contextmanager
def routed(module: Any, matrices: Mapping[str, Matrix], see: Mapping[str, See]) -> Iterator[None]:
    """Have `see` told, by the names of some experts' matrices, of what these get.

    Experts are run one after the other meanwhile, so that each product is seen.
    """
    tensors = module.state_dict(keep_vars=True)
    chosen = {matrices[name].product: (name, matrices[name].parameter.rpartition(".")[0]) for name in see}
    index: dict[str, torch.Tensor] = {}

    def tell(key: Any, inputs: torch.Tensor) -> None:
        name, holder = chosen[key]
        # As transformers' experts gather them: by which choice of the token they are, then by token.
        tokens = (index[holder] == key[1]).T.nonzero()[:, 1]
        see[name](inputs, tokens, len(index[holder]))

    def noting(holder: str) -> Callable[..., None]:
        # Every experts module of transformers is called with the tokens, whom each goes to, and how much it counts.
        return lambda part, args: index.update({holder: args[1]})

    config, how = module.config, getattr(module.config, "_experts_implementation", None)
    with contextlib.ExitStack() as stack:
        for holder in sorted({holder for _, holder in chosen.values()}):
            stack.callback(module.get_submodule(holder).register_forward_pre_hook(noting(holder)).remove)
        config._experts_implementation = "eager"
        try:
            with watching(products(tensors, {name: matrices[name] for name in see}), tell, _Untaped()):
                yield
        finally:
            config._experts_implementation = how


class _Untaped:
    """Has every call made."""

    def answer(self, function: Any, given: Any) -> tuple[bool, Any]:
        """Say that it isn't answered."""
        return False, None

    def note(self, function: Any, given: Any, output: Any) -> None:
        """Forget it."""
