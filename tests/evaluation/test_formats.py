"""Continuations in the format of an objective: what stands where, and what the loss is taken on."""

import numpy as np
import pytest
from tests.nn.common import made, small

from assay.data.specials import vocabulary
from assay.data.windows import Window
from assay.errors import UserError
from assay.evaluation.continuation import continuation
from assay.evaluation.formats import formatted, nats_in_format
from assay.objectives.base import Key
from assay.objectives.causal_lm import CausalLM
from assay.objectives.glm import GLM
from assay.objectives.prefix_lm import PrefixLM
from assay.spec.objective import ObjectiveKind

V = vocabulary(37, 4)
PROMPT, ANSWER = np.array([20, 21, 22]), np.array([25, 26])


def test_span_corruption_leaves_a_hole_at_the_end() -> None:
    example = formatted(PROMPT, ANSWER, "encoder_decoder", V, ObjectiveKind.span_corruption)
    hole = V.sentinels[0]
    assert example.inputs.tolist() == [20, 21, 22, hole, V.eos]
    assert example.targets.tolist() == [hole, 25, 26] and example.weights.tolist() == [0, 1, 1]
    assert example.decoder_inputs is not None and example.decoder_inputs.tolist() == [V.decoder_start, hole, 25]


def test_glm_as_its_objective_writes_a_suffix() -> None:
    objective = GLM("prefix", V, gmask=1.0, axes=1)
    text = np.concatenate([PROMPT, ANSWER])
    drawn = (objective.example(text, Key(0, 0, document)) for document in range(200))
    trained = next(found for found in drawn if found.prefix == len(PROMPT) + 2)  # cut where this continuation begins
    example = formatted(PROMPT, ANSWER, "prefix", V, ObjectiveKind.glm)
    n = len(example.inputs)
    assert trained.inputs[:n].tolist() == example.inputs.tolist() and trained.prefix == example.prefix
    asked = example.weights > 0
    assert trained.targets[:n][asked].tolist() == example.targets[asked].tolist() == [25, 26]
    assert np.array_equal(trained.weights[:n], example.weights)


def test_whole_texts_have_one_format() -> None:
    text = np.concatenate([PROMPT, ANSWER])
    plain = formatted(PROMPT, ANSWER, "causal", V)
    trained = CausalLM("causal", V).example(text, Key(0), ends=False)
    assert trained.inputs.tolist() == plain.inputs.tolist() and trained.targets.tolist() == plain.targets.tolist()
    prefix = PrefixLM("prefix", V, split=0.6).example(text, Key(0), ends=False)
    used = formatted(PROMPT, ANSWER, "prefix", V)
    assert prefix.inputs.tolist() == used.inputs.tolist() and prefix.prefix == used.prefix
    assert np.array_equal(prefix.weights, used.weights)


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_plain_is_the_continuation_measure(family: str) -> None:
    rng = np.random.default_rng(0)
    windows = [
        Window(rng.integers(11, 33, p), rng.integers(11, 33, c), 8, np.arange(c)) for p, c in ((3, 4), (5, 2), (4, 4))
    ]
    model = made(small(family=family))
    found = nats_in_format(model, windows, V, batch_size=2)
    assert found == pytest.approx(continuation(model, windows, V).nats, rel=1e-4)
    first = nats_in_format(model, windows, V, most=1)
    assert (first < found).all()
    other = nats_in_format(model, windows, V, ObjectiveKind.span_corruption)
    assert (np.abs(other - found) > 1e-3).all()


def test_a_format_that_is_not_defined() -> None:
    with pytest.raises(UserError, match="bart"):
        formatted(PROMPT, ANSWER, "causal", V, ObjectiveKind.bart)
    with pytest.raises(UserError, match="glm"):
        formatted(PROMPT, ANSWER, "encoder_decoder", V, ObjectiveKind.glm)
