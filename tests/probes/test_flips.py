"""Token flips: the reach of known functions and of models, and what names it."""

from functools import partial

import numpy as np
import pytest
import torch
from tests.nn.common import made, small, tokens

from assay.nn import Transformer
from assay.nn.masks import dense
from assay.probes.flips import closure, reach, shape
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Prefix, Window

N = 7


def decoded(model: Transformer, mask: Mask, ids: torch.Tensor) -> torch.Tensor:
    return model.decode(ids, mask).hidden


def test_reach_of_a_function_whose_reach_is_known() -> None:
    ids = tokens(1, 5)
    found = reach(lambda x: x.cumsum(1).double(), ids, vocabulary=37)
    assert np.array_equal(found, np.triu(np.ones((5, 5), dtype=bool)))
    assert np.array_equal(reach(lambda x: x.float(), ids, vocabulary=37), np.eye(5, dtype=bool))
    assert not reach(lambda x: torch.zeros(1, 3, 2), ids, vocabulary=37).any()


def test_kept_tokens_are_neither_flipped_nor_made() -> None:
    ids, seen = torch.tensor([[0, 1, 2, 1]]), []

    def run(x: torch.Tensor) -> torch.Tensor:
        seen.append(x[0].tolist())
        return x.float()

    found = reach(run, ids, vocabulary=4, keep=[1, 3])
    assert found.any(1).tolist() == [True, False, True, False]
    flipped = [row for row in seen if row != ids[0].tolist()]
    assert flipped == [[2, 1, 2, 1], [0, 1, 0, 1]]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_closure_is_what_a_windowed_model_lets_through(layers: int) -> None:
    model = made(small(layers=layers, attention={"window": 2}))
    rule = Mask(Causal() & Window(2))
    with torch.no_grad():
        found = reach(lambda x: model.decode(x, Mask(Causal())).hidden, tokens(1, N), vocabulary=37)
    table = dense(rule, N, N)[0].numpy()
    assert np.array_equal(found, closure(table, layers))
    assert not np.array_equal(found, closure(table, layers + 1)), "a window reaches further with each layer"


def test_shape_names_the_three_masks_on_one_set_of_weights() -> None:
    model = made(small(family="prefix"))
    prefix = Mask(Causal() | Prefix(), MaskFacts(prefix=torch.arange(N)[None] < 3))
    with torch.no_grad():
        for mask, name in ((Mask(Causal()), "causal"), (prefix, "prefix"), (Mask(Bidirectional()), "bidirectional")):
            found = reach(partial(decoded, model, mask), tokens(1, N), vocabulary=37)
            assert shape(found, prefix=3) == name
            found[2, 5] = not found[2, 5]
            assert shape(found, prefix=3) == "other"
