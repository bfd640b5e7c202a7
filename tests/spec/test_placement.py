"""Every placement is data for one equation, and the constants are those of the papers."""

import math

import pytest

from assay.spec.axes import Family, Parallel, Placement, Skip
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.spec.placement import (
    NORM,
    NOTHING,
    Slot,
    SublayerKind,
    block_plan,
    has_embedding_norm,
    has_final_norm,
    residual_scale,
    weight_scale,
)

#: placement: (before, inner, out, after), embedding norm, final norm, what the residual carries
PLANS = {
    "post": ("   a", False, False, Skip.stream),
    "pre": ("b   ", False, True, Skip.stream),
    "sandwich": ("b o ", False, True, Skip.stream),
    "peri": ("b o ", True, True, Skip.stream),
    "reordered": ("  o ", False, True, Skip.stream),
    "deepnet": ("   a", False, False, Skip.stream),
    "glm130b": ("b   ", False, True, Skip.normed),
    "subln": ("bi  ", False, True, Skip.stream),
    "scaled": ("b   ", False, True, Skip.stream),
    "residual": ("   a", False, True, Skip.stream),
}


@pytest.mark.parametrize(("kind", "plan"), PLANS.items())
@pytest.mark.parametrize("family", Family)
def test_slots_of_every_placement(kind: str, plan: tuple[str, bool, bool, Skip], family: Family) -> None:
    slots, embedding, final, skip = plan
    spec = ModelSpec.from_dict({"family": family, "placement": kind})
    assert has_embedding_norm(spec) is embedding
    assert has_final_norm(spec) is final
    for stack in spec.stacks:
        block = block_plan(spec, stack, 0)
        kinds = [sublayer.kind for step in block.steps for sublayer in step.sublayers]
        crossed = [SublayerKind.cross_attention] if len(spec.stacks) == 2 and stack == "decoder" else []
        assert kinds == [SublayerKind.attention, *crossed, SublayerKind.feedforward]
        assert block.dual is (kind == "residual")
        for step in block.steps:
            (sublayer,) = step.sublayers
            found = "".join(
                letter if slot.norm else " "
                for letter, slot in zip("bioa", (step.before, sublayer.inner, sublayer.out, step.after), strict=True)
            )
            assert found == slots
            assert step.skip is skip
            assert sublayer.before == NOTHING, "a serial step norms before the sum branches"
            assert step.alpha == residual_scale(spec, stack)


def test_every_placement_is_held_here() -> None:
    assert PLANS.keys() | {"mix"} == {str(kind) for kind in Placement}


def test_mix_is_post_in_the_first_quarter_and_pre_after() -> None:
    spec = ModelSpec(layers=8).with_(placement="mix")
    after = [block_plan(spec, "decoder", layer).steps[0].after.norm for layer in range(8)]
    assert after == [True, True, False, False, False, False, False, False]
    before = [block_plan(spec, "decoder", layer).steps[0].before.norm for layer in range(8)]
    assert before == [not there for there in after]


def test_layernorm_scaling_divides_by_the_root_of_the_layer() -> None:
    spec = ModelSpec().with_(placement="scaled")
    for layer in range(4):
        assert block_plan(spec, "decoder", layer).steps[0].before == Slot(norm=True, scale=(layer + 1) ** -0.5)


@pytest.mark.parametrize(
    ("depths", "alpha", "beta"),
    [
        ({"family": "encoder", "layers": 6}, 12**0.25, 48**-0.25),
        ({"family": "causal", "layers": 12}, 24**0.25, 96**-0.25),
        ({"family": "prefix", "layers": 12}, 24**0.25, 96**-0.25),
        ({"family": "causal", "layers": 1000}, 2000**0.25, 8000**-0.25),
    ],
)
def test_deepnet_constants_of_one_stack(depths: dict[str, object], alpha: float, beta: float) -> None:
    spec = ModelSpec.from_dict({**depths, "placement": "deepnet"})
    assert residual_scale(spec, spec.output_stack) == pytest.approx(alpha)
    assert weight_scale(spec, spec.output_stack) == pytest.approx(beta)


def test_deepnet_constants_of_two_stacks() -> None:
    n, m = 18, 6
    spec = ModelSpec.from_dict(
        {"family": "encoder_decoder", "layers": m, "encoder": {"layers": n}, "placement": "deepnet"}
    )
    assert residual_scale(spec, "encoder") == pytest.approx(0.81 * (n**4 * m) ** (1 / 16))
    assert weight_scale(spec, "encoder") == pytest.approx(0.87 * (n**4 * m) ** (-1 / 16))
    assert residual_scale(spec, "decoder") == pytest.approx((3 * m) ** 0.25)
    assert weight_scale(spec, "decoder") == pytest.approx((12 * m) ** -0.25)


def test_glm130b_constants() -> None:
    spec = ModelSpec(layers=70).with_(placement="glm130b")
    assert residual_scale(spec, "decoder") == pytest.approx(math.sqrt(140)) == pytest.approx(11.83, abs=0.005)
    assert weight_scale(spec, "decoder") == pytest.approx(140**-0.5)


def test_constants_that_are_said_win() -> None:
    spec = ModelSpec().with_(placement={"kind": "deepnet", "alpha": 2.0, "beta": 0.5})
    assert (residual_scale(spec, "decoder"), weight_scale(spec, "decoder")) == (2.0, 0.5)
    assert residual_scale(ModelSpec(), "decoder") == weight_scale(ModelSpec(), "decoder") == 1.0


def test_parallel_blocks_share_one_step() -> None:
    shared = ModelSpec(parallel=Parallel.one_norm)
    (step,) = block_plan(shared, "decoder", 0).steps
    assert step.before == NORM
    assert [s.before for s in step.sublayers] == [NOTHING, NOTHING]
    apart = ModelSpec(parallel=Parallel.two_norms)
    (step,) = block_plan(apart, "decoder", 0).steps
    assert step.before == NOTHING
    assert [s.before for s in step.sublayers] == [NORM, NORM]
    norms = {spec.parallel: spec.parameters().parts["norm"] for spec in (shared, apart)}
    assert norms[Parallel.two_norms] - norms[Parallel.one_norm] == apart.layers * apart.width


@pytest.mark.parametrize("kind", Placement)
def test_norms_in_the_layout_are_those_of_the_plan(kind: Placement) -> None:
    spec = ModelSpec(layers=8).with_(placement=kind)
    slots = sum(
        slot.norm
        for layer in range(8)
        for step in block_plan(spec, "decoder", layer).steps
        for slot in (step.before, step.after, *(s for sub in step.sublayers for s in (sub.before, sub.inner, sub.out)))
    )
    expected = slots + has_embedding_norm(spec) + has_final_norm(spec)
    names = [p.name for p in layout(spec) if p.part == "norm"]
    assert len(names) == len(set(names)) == expected
