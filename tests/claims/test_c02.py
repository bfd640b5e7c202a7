"""C2: verdicts, and wrong masks that must be caught on each path."""

import numpy as np
import pytest

from assay.claims.base import decide
from assay.claims.c02 import (
    CLAIM,
    LENGTH,
    PREFIX,
    WHERE,
    allowed,
    in_packed,
    in_row,
    model_of,
    packed_batch,
    through_cache,
)
from assay.spec.masks import Causal, Mask, MaskFacts, Prefix
from assay.stats import Interval, Verdict


@pytest.mark.parametrize("broken", [None, *WHERE])
def test_verdicts(broken: str | None) -> None:
    answers = {name: Interval.exact(2.0 if name == broken else 0.0) for name in WHERE}
    verdict, each = decide(CLAIM, answers | {"control": Interval.exact(40)})
    assert verdict is (Verdict.REFUTED if broken else Verdict.SUPPORTED)
    assert each["control"] is Verdict.SUPPORTED


def test_a_wrong_prefix_is_caught() -> None:
    model, one = model_of("rope"), allowed([LENGTH], [PREFIX], LENGTH)
    assert np.array_equal(in_row(model), one)
    for prefix in (0, PREFIX - 1, PREFIX + 1):
        assert (in_row(model, prefix=prefix) != one).any()


def test_a_mask_without_documents_is_caught_in_a_packed_row() -> None:
    model, (batch, lengths, prefixes) = model_of("rope"), packed_batch()
    table = allowed(lengths, prefixes, batch.input_ids.shape[1])
    assert np.array_equal(in_packed(model, batch), table)
    leaky = Mask(Causal() | Prefix(), MaskFacts(prefix=batch.mask.facts.prefix))
    found = in_packed(model, batch, leaky)
    documents = batch.document_ids[0]
    assert found[documents[:, None] != documents[None]].any()


def test_the_cache_holds_the_rule_and_another_prefix_would_not() -> None:
    keys, logits = through_cache(model_of("rope"))
    one = allowed([LENGTH], [PREFIX], LENGTH)
    assert np.array_equal(keys, one) and np.array_equal(logits, one[:, PREFIX - 1 :])
    assert not np.array_equal(keys, allowed([LENGTH], [PREFIX + 1], LENGTH))
