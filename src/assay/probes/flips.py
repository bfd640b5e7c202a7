"""Token flips: change one token, look at which outputs change. What a model lets through, whatever it says of itself.

    found = reach(lambda ids: model(ids).logits, ids, vocabulary=model.spec.vocab_size)
    found[j, i]        # a flip of token j changes output i

Outputs are compared bit for bit. A change reaches a query through one layer where its mask shows the key, and through
several where there is a path of that many steps; the residual stream keeps a token's own change in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["Reach", "Shape", "closure", "reach", "shape"]

Reach = Bool[np.ndarray, "tokens outputs"]
"""[from token j, to output i]: a flip of j changes i."""

Shape = Literal["causal", "prefix", "bidirectional", "other"]


def reach(
    run: Callable[[Tensor], Tensor],
    ids: Int[Tensor, "1 s"],
    *,
    vocabulary: int,
    keep: Iterable[int] = (),
) -> Reach:
    """Flip every token in turn and see what changes.

    Args:
        run: from tokens [1, S] to outputs [1, T, ...]; without randomness.
        ids: tokens.
        vocabulary: flipped tokens are drawn from ids below it.
        keep: ids that are neither flipped nor flipped to: those that decide the mask themselves, such as `<sop>`.

    Returns:
        [S, T]; the row of a kept token is False.
    """
    kept = set(keep)
    free = [token for token in range(vocabulary) if token not in kept]
    before = run(ids)
    rows = np.zeros((ids.shape[1], before.shape[1]), dtype=bool)
    for place, token in enumerate(ids[0].tolist()):
        if token in kept:
            continue
        other = ids.clone()
        near = ((token + 1 + place + n) % len(free) for n in range(2))
        other[0, place] = next(free[index] for index in near if free[index] != token)
        changed = run(other) != before
        rows[place] = changed.flatten(2).any(-1)[0].cpu().numpy() if changed.dim() > 2 else changed[0].cpu().numpy()
    return rows


def closure(table: Bool[np.ndarray, "q k"], layers: int) -> Reach:
    """The reach that a mask allows in `layers` steps.

    Args:
        table: the mask: whether query q sees key k.
        layers: how many attention layers the model has, all with this mask.
    """
    step = (table | np.eye(len(table), dtype=bool)).astype(np.int64)
    found = np.eye(len(table), dtype=np.int64)
    for _ in range(layers):
        found = ((found @ step) > 0).astype(np.int64)
    return found.T > 0


def shape(found: Reach, *, prefix: int, ignore: Iterable[int] = ()) -> Shape:
    """What kind of attention a square reach belongs to.

    Args:
        found: reach of tokens on outputs of the same positions.
        prefix: tokens that a prefix decoder would let see each other.
        ignore: tokens that were not flipped: their rows say nothing.
    """
    size, left_out = len(found), set(ignore)
    told = [token for token in range(size) if token not in left_out]
    token, output = np.arange(size)[:, None], np.arange(size)[None]
    later = token <= output
    kinds: dict[Shape, Bool[np.ndarray, "tokens outputs"]] = {
        "causal": later,
        "prefix": later | (token < prefix),
        "bidirectional": np.ones((size, size), dtype=bool),
    }
    return next((name for name, table in kinds.items() if np.array_equal(found[told], table[told])), "other")
