"""The same answers in every metric."""

import numpy as np
from tests.evaluation.tasks_common import tiny

from assay.evaluation.generated import generated_task
from assay.evaluation.outcomes import Outcomes, edit_distance, outcomes, together
from assay.evaluation.pairs import Codec, score
from assay.stats.emergence import analyse


def test_levenshtein() -> None:
    assert edit_distance([1, 2, 3], [1, 2, 3]) == 0
    assert edit_distance([], [1, 2]) == 2 and edit_distance([1, 2], []) == 2
    assert edit_distance([1, 2, 3], [2, 3, 4]) == 2 and edit_distance([9, 9], [1, 2, 3]) == 3


def test_outcomes_are_of_the_same_answers() -> None:
    codec = Codec(tiny("causal"))
    task = generated_task("recall", 8, sizes=(5,))
    found = outcomes(codec, task)
    pairs = [codec.pair(item.prompt, item.answer + "\n") for item in task.items]
    assert np.allclose(found.nats, score(codec, pairs).nats, rtol=1e-4)
    assert (found.tokens == [len(pair.answer) for pair in pairs]).all()
    assert found.parts.shape == (8, 5) and (found.exact <= found.parts.min(1)).all()
    assert (found.edits[found.exact == 1] == 0).all() and (found.edits >= 0).all()


def test_a_table_for_the_analysis_of_emergence() -> None:
    """Made-up models whose tokens are right with probability p: the metric makes the jump, and the parts compose."""
    rng = np.random.default_rng(0)

    def model(p: float) -> Outcomes:
        right = (rng.random((400, 5)) < p).astype(float)
        length = np.full(400, 5.0)
        return Outcomes(-np.log(p) * length, length, right.min(1), 5 - right.sum(1), right)

    shares = (0.2, 0.38, 0.55, 0.7, 0.82)
    table = together("made up", [(f"m{i}", 10.0**i, model(p)) for i, p in reversed(list(enumerate(shares)))])
    found = analyse(table, resamples=200)
    assert found.models == [f"m{i}" for i in range(5)]
    exact = next(curve for curve in found.curves if curve.metric == "exact match")
    assert exact.explained_own is not None and exact.explained_own > 0.9
    whole = found.compositions[-1]
    assert whole.possible and abs((whole.whole or 0) - whole.independent) < 0.08
