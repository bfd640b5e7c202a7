"""Equivariance: exact for what has no order, large for what has, and equal tokens are refused."""

from __future__ import annotations

import pytest
import torch

from assay.errors import UserError
from assay.nn import build
from assay.probes.equivariance import permutation_error
from assay.spec.masks import Bidirectional, Causal, Mask
from assay.spec.model import ModelSpec

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


@pytest.mark.parametrize(
    ("positions", "rule", "sees"),
    [
        ("none", Bidirectional(), False),
        ("none", Causal(), True),
        ("rope", Bidirectional(), True),
        ("learned", Bidirectional(), True),
        ("alibi", Bidirectional(), True),
    ],
)
def test_only_a_bidirectional_mask_without_positions_sees_no_order(
    positions: str, rule: Bidirectional | Causal, sees: bool
) -> None:
    spec = ModelSpec.from_dict({"vocab_size": 32, "width": 32, "layers": 2, "positions": {"kind": positions}})
    net = build(spec, seed=0).double().eval()
    found = permutation_error(lambda ids: net.decode(ids, Mask(rule)).hidden, IDS)
    assert found > 1e-3 if sees else found < 1e-12


def test_arithmetic_and_refusal() -> None:
    assert permutation_error(lambda ids: ids[..., None].double(), IDS) == 0
    assert permutation_error(lambda ids: ids.double().cumsum(1)[..., None], IDS) > 0.01
    with pytest.raises(UserError, match="one token only"):
        permutation_error(lambda ids: ids[..., None].double(), torch.tensor([[1, 2], [7, 7]]))
