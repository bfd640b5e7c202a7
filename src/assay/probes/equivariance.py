"""Does a model see order? Permute its tokens and look whether its outputs are permuted, and nothing else.

    error(f, x, P) = max |f(P x) - P f(x)| / max |f(x)|

0 (up to rounding): equivariant, so that no order can be told. Attention without positions is so under a bidirectional
mask, and is not under a causal one, whose rows already differ in what they see (Haviv et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.errors import UserError

__all__ = ["permutation_error"]


@torch.no_grad()
def permutation_error(
    outputs: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s d"]], ids: Int[Tensor, "b s"], *, seed: int = 0
) -> float:
    """The largest deviation from equivariance under one random permutation, relative to the largest output.

    Args:
        outputs: from tokens to one vector a token.
        ids: tokens, at least two of a row different.
        seed: of the permutation, which leaves no row as it was.

    Raises:
        UserError: rows of equal tokens, of which no order can be told by anyone.
    """
    if bool((ids == ids[:, :1]).all(1).any()):
        raise UserError("ids: a row holds one token only, repeated, and its permutations are itself.", "Give a text.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(ids.shape[1], generator=generator)
    while bool((ids[:, order] == ids).all(1).any()):
        order = torch.randperm(ids.shape[1], generator=generator)
    plain, permuted = outputs(ids), outputs(ids[:, order])
    return float((permuted - plain[:, order]).abs().max() / plain.abs().max())
