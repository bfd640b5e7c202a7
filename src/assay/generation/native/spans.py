"""Which keys each row sees, as a range: all that the native step knows of visibility."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from assay.spec.masks import Mask


def span(mask: Mask) -> Int[Tensor, "b 2"] | None:
    """First key that each row sees and the one behind its last, in int32; None where no key is padding.

    Only of masks that `holes` finds none in.
    """
    real = padding_of(mask)
    if real is None:
        return None
    first, count = real.long().argmax(-1), real.sum(-1)
    return torch.stack((first, first + count), -1).int().contiguous()


def holes(mask: Mask) -> bool:
    """Whether some row has padding between real keys, so that no range says what it sees."""
    real = padding_of(mask)
    return real is not None and bool(((real[:, 1:] & ~real[:, :-1]).sum(-1) + real[:, 0].int() > 1).any())


def padding_of(mask: Mask) -> Bool[Tensor, "b k"] | None:
    """True for real keys; None where the rule looks at no padding."""
    return mask.facts.key_mask if "key_mask" in mask.rule.needs else None
