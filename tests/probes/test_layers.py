"""The joined table: each number is the instrument's own, for every placement and family."""

import pytest
import torch
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.probes import gradient_norms, observe, stability
from assay.spec.axes import Placement


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("family", ["causal", "encoder_decoder"])
def test_rows_hold_what_the_instruments_say(placement: str, family: str) -> None:
    model, batch = made(spec_of(placement=placement, family=family)), batch_of(family, room=8)
    before = state(model)

    def step() -> None:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.01)

    found = stability(model, batch, step)
    assert_untouched(model, before)
    norms, seen = gradient_norms(model, batch), observe(model, batch)
    assert [(row.stack, row.layer) for row in found.layers] == [(s, n + 1) for s in model.spec.stacks for n in (0, 1)]
    for row in found.layers:
        prefix = f"{row.stack}.blocks.{row.layer - 1}."
        assert row.gradient == norms.norm_of_mean(lambda name, p=prefix: name.startswith(p))
        assert row.signal == seen.points[f"{prefix}out"].mean_square
        assert row.maximum == max(
            p.maximum for n, p in seen.points.items() if n.startswith(prefix) and not n.endswith(".in")
        )
        assert 0 < row.entropy <= row.uniform
        assert row.headroom <= 65504 / row.maximum
        assert row.update is not None and row.update > 0
    assert {row.name for row in found.matrices} == {name for name, _ in model.named_parameters()}
    assert found.step_norm == pytest.approx(0.01 * int(model.spec.parameters()) ** 0.5, rel=1e-9)


def test_without_a_step_there_is_no_update() -> None:
    found = stability(made(spec_of()), batch_of())
    assert found.output_update is None and found.layers[0].update is None
    assert found.ratio() > 0 and found.spread() >= 1


def test_the_package_names_what_it_offers() -> None:
    import assay.probes as probes

    for name in probes.__all__:
        assert callable(getattr(probes, name)), name
    with pytest.raises(AttributeError):
        _ = probes.nothing
