"""The plan against arithmetic by hand, published runs, and what it must refuse."""

import dataclasses
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import UserError
from assay.spec.activations import activation_bytes
from assay.spec.memory import state_bytes
from assay.spec.model import ModelSpec
from assay.spec.parameters import ParameterInfo
from assay.spec.parameters import layout as parameters_of
from assay.spec.plan import Assumed, Fixed, Layout, plan, sweep, workload
from assay.spec.plan.estimate import estimate, held, messages
from assay.spec.plan.fabric import FABRICS
from assay.spec.plan.layout import layouts
from assay.spec.plan.limits import critical_batch, reliability
from assay.spec.plan.memory import stages
from assay.spec.plan.published import compare
from assay.spec.plan.traffic import Group, group
from assay.spec.plan.units import model_units, shard_shape, tensor_shape
from assay.spec.published import preset

TINY = ModelSpec.from_dict({"width": 64, "layers": 6, "vocab_size": 1000, "context": 128, "attention": {"heads": 8}})
SEVEN = preset("llama-7b")
PLAIN: dict[str, float | None] = {
    "peak": 1e12, "bandwidth": 1e11, "memory": 1e10, "node": 4, "inside": 1e10, "outside": 1e9, "inside_latency": 1e-5,
    "outside_latency": 1e-4, "matmul_share": 0.5, "attention_share": 0.25, "element_share": 1.0, "element_passes": 6,
    "network_share": 1.0, "overlap": 1.0,
}  # fmt: skip


def assumed(**changes: float | None) -> Assumed:
    return Assumed("a100", {**PLAIN, **changes})


# What ranks hold


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 5))
def test_shards_of_all_ranks_are_the_tensor(rows: int, ranks: int, rest: int) -> None:
    shapes = [shard_shape((rows, rest), ranks, rank) for rank in range(ranks)]
    assert sum(shape[0] for shape in shapes) == rows and {shape[1] for shape in shapes} == {rest}
    assert shapes[0] == max(shapes) and shapes == sorted(shapes, reverse=True)


@pytest.mark.parametrize("name", ["llama2-70b", "gpt3", "palm-8b"])
def test_tensor_parallel_ranks_hold_all_of_every_matrix(name: str) -> None:
    spec, ways = preset(name), 8
    for parameter in parameters_of(spec):
        kept = math.prod(tensor_shape(parameter, spec, ways))
        letter = parameter.name.split(".")[-2]
        if letter in ("k", "v"):  # no more pieces than heads: PaLM's one head of keys is on every rank
            assert kept == parameter.size // min(ways, spec.kv_heads("decoder"))
        elif len(parameter.shape) == 2 and letter not in ("positions", "router"):
            assert kept == math.ceil(parameter.shape[0] / ways) * parameter.shape[1] or kept == parameter.size // ways
        elif parameter.part == "norm":
            assert kept == parameter.size
    down = ParameterInfo("decoder.blocks.0.feedforward.down.weight", (64, 256), "feedforward")
    assert tensor_shape(down, TINY, 4) == (64, 64)


def test_one_gpu_holds_what_cost_counts() -> None:
    work = workload(TINY, length=32, dtype="float32")
    memory, state = held(work, Layout(micro=3), 3), state_bytes(TINY, "float32")
    assert (memory.weights, memory.gradients, memory.optimizer) == (state.weights, state.gradients, state.optimizer)
    assert memory.activations == activation_bytes(TINY, 32, 3, "float32") and memory.buffers == 0
    spare = held(work, Layout(micro=3, checkpointing=True), 3)
    assert spare.activations == pytest.approx(activation_bytes(TINY, 32, 3, "float32", checkpointing=True))


def test_state_under_zero_1_is_sixteen_bytes_a_parameter_with_bfloat16_gradients() -> None:
    """Rajbhandari et al. 2020, section 3.1: 2 + 2 + 12 bytes, the 12 cut over the ranks."""
    work = workload(SEVEN, reduce_dtype="bfloat16")
    n = int(SEVEN.parameters())
    memory = held(work, Layout(shard=8, tensor=1, full=False), 8)
    assert memory.weights == memory.gradients == 2 * n
    assert memory.optimizer == pytest.approx(12 * n / 8, rel=1e-3)


@pytest.mark.parametrize("pipeline", [2, 3, 6])
def test_stages_share_out_all_blocks(pipeline: int) -> None:
    work = workload(TINY, length=32)
    first, last = stages(work, pipeline)
    assert first.blocks * (pipeline - 1) + last.blocks >= 6 and last.head and not first.head
    # The head is a heavy one here (1,000 words of width 64): the last stage gets fewer blocks.
    assert last.blocks <= first.blocks


# Time


def test_a_step_on_one_gpu_is_the_arithmetic_stated() -> None:
    work, given_ = workload(TINY, length=32, dtype="float32"), assumed()
    found = estimate(work, Layout(micro=2), 8, given_)
    parts = TINY.flops(32).parts
    linear, pairs = sum(v for k, v in parts.items() if k != "pairs"), parts["pairs"]
    assert found.time.products == pytest.approx(8 * 3 * (linear / 0.5e12 + pairs / 0.25e12))
    elements = 8 * (6 * work.block_saved * 6 + 6 * 4 * 32 * 1000) / 1e11
    assert found.time.elements == pytest.approx(elements)
    assert found.time.optimizer == pytest.approx(7 * 4 * int(TINY.parameters()) / 1e11)
    assert found.seconds == pytest.approx(found.time.products + found.time.elements + found.time.optimizer)
    assert found.mfu == pytest.approx(8 * float(TINY.flops(32, training=True)) / found.seconds / 1e12)
    assert found.tokens_per_second == pytest.approx(8 * 32 / found.seconds) and found.hfu == found.mfu
    again = estimate(work, Layout(micro=2, checkpointing=True), 8, given_)
    assert again.time.recomputation == pytest.approx((again.time.products + again.time.elements) / 3, rel=0.3)
    assert again.hfu > again.mfu


def test_a_ring_is_the_arithmetic_stated() -> None:
    given_ = assumed()
    assert Group(1, 4).seconds("all-gather", 1e9, given_) == 0
    assert Group(4, 4).seconds("all-gather", 1e9, given_) == pytest.approx(0.75e9 / 1e10 + 3e-5)
    # Four ranks a node on three nodes: 2/3 of the tensor enters each node through four networks.
    outside = 1e9 * 2 / 3 / 4e9
    assert Group(12, 4).seconds("reduce-scatter", 1e9, given_) == pytest.approx(outside + 9e-5 + 2e-4)
    assert Group(12, 4).seconds("all-reduce", 1e9, given_) == pytest.approx(2 * (outside + 9e-5 + 2e-4))
    assert Group(3, 1).seconds("all-gather", 1e9, given_) == pytest.approx(2e9 / 3 / 1e9 + 2e-4)


def test_groups_fill_nodes_in_order() -> None:
    layout = Layout(replicate=8, shard=2, tensor=2)
    assert [group(layout, over, 8).near for over in ("tensor", "shard", "replicate")] == [8, 4, 2]
    assert group(Layout(replicate=8, shard=8), "replicate", 8).near == 1


def test_traffic_hides_behind_compute_until_it_is_longer() -> None:
    work, layout = workload(TINY, length=32), Layout(shard=8, micro=8)

    def at(rate: float, overlap: float = 1.0) -> Assumed:
        return assumed(outside=rate, inside=rate, inside_latency=1e-12, outside_latency=1e-12, overlap=overlap)

    fast, slow, bare = (estimate(work, layout, 64, at(*said)).time for said in ((1e14,), (1e6,), (1e6, 1e-9)))
    everything = sum(one.count * one.seconds for one in messages(work, layout, 64, at(1e6)))
    assert fast.data_traffic < 1e-3 * fast.total and slow.data_traffic > 0.9 * slow.total
    assert slow.data_traffic < everything
    assert bare.data_traffic == pytest.approx(everything, rel=1e-6)


def test_a_pipeline_idles_as_long_as_its_other_stages_take() -> None:
    work = workload(SEVEN)
    made = [
        estimate(work, Layout(pipeline=4, interleave=v, full=False), 12, Assumed("a100", {"overlap": 1.0}))
        for v in (1, 2)
    ]
    working = made[0].seconds - made[0].time.idle - made[0].time.optimizer
    assert made[0].time.idle == pytest.approx(3 / 12 * working)
    assert made[1].time.idle == pytest.approx(made[0].time.idle / 2)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["inside", "outside", "peak", "bandwidth", "matmul_share", "overlap"]), st.floats(1.01, 1.3))
def test_a_better_machine_is_never_slower(name: str, times: float) -> None:
    work, layout = workload(SEVEN), Layout(replicate=2, shard=32, tensor=2, micro=2)
    before = Assumed("a100", {name: Assumed("a100").values[name] / 1.3})
    after = Assumed("a100", {name: before(name) * times})
    assert estimate(work, layout, 256, after).seconds <= estimate(work, layout, 256, before).seconds


# Published runs

PRESSED = ("mpt-70b", 64, 276)
"""One turn of two sequences on nearly full 40 GB: half as many GPUs as the row beside it, and a third slower."""


def test_published_runs_lie_where_they_are_said_to() -> None:
    rows = compare()
    assert {row.run.model for row in rows} >= {"palm-540b", "llama-65b", "bloom-176b", "glm-130b", "mt-nlg-530b"}
    for row in rows:
        run = row.run
        if (run.model, run.layout.gpus, run.published) == PRESSED:
            assert row.deviation > 0.3
        elif run.model in ("bloom-176b", "glm-130b", "mt-nlg-530b", "llama-65b"):
            # Before fused attention: the plan is too fast, and by how much is written in docs/scale.md.
            assert 0.15 < row.deviation < 0.4, (run.model, row.deviation)
        else:
            assert abs(row.deviation) < 0.17, (run.model, row.deviation)
    palm = next(row for row in rows if row.run.model == "palm-540b")
    assert palm.published_mfu == pytest.approx(0.462, abs=0.005)


# The choice


def test_the_choice_is_the_fastest_that_fits_and_assay_trains() -> None:
    found = plan(SEVEN, 16, machine="h100")
    assert found.chosen.fits and found.chosen.layout.trainable and found.chosen.layout.gpus == 16
    for option in found.options:
        if option.best.fits and option.best.layout.trainable:
            assert found.chosen.seconds <= option.best.seconds * 1.021
    assert found.batch_tokens == found.sequences * 2048 and found.reasons and found.collectives
    assert found.chosen.memory.total <= found.room
    assert found.to_dict()["chosen"]["time"]["total"] == pytest.approx(found.chosen.seconds)


def test_what_is_fixed_stays() -> None:
    fixed = Fixed(replicate=2, shard=4, micro=2, checkpointing=True)
    assert plan(SEVEN, 8, machine="h100", fixed=fixed).chosen.layout == Layout(2, 4, micro=2, checkpointing=True)
    cut = plan(SEVEN, 8, machine="h100", fixed=Fixed(tensor=2, pipeline=4)).chosen.layout
    assert (cut.tensor, cut.pipeline, cut.data) == (2, 4, 1)


def test_every_layout_uses_every_gpu_and_every_sequence() -> None:
    seen = list(layouts(TINY, 24, 96, 8, Fixed()))
    assert seen and len(set(seen)) == len(seen)
    for layout in seen:
        assert layout.gpus == 24 and 96 % (layout.data * layout.micro) == 0 and layout.tensor <= 8


def test_more_gpus_than_sequences_need_other_cuts() -> None:
    found = plan(SEVEN, 64, machine="h100", batch_tokens=32 * 2048)
    assert found.chosen.layout.data <= 32 and not found.chosen.layout.trainable
    assert any("32 sequences" in reason for reason in found.reasons)


def test_a_sweep_says_what_does_not_work_and_why() -> None:
    points = sweep(SEVEN, [1, 8, 64], machine="h100")
    assert isinstance(points[0], UserError) and "does not fit" in str(points[0])
    speeds = [point.chosen.tokens_per_second for point in points[1:] if not isinstance(point, UserError)]
    assert len(speeds) == 2 and 7 * speeds[0] < speeds[1] < 8.5 * speeds[0]


def test_assumptions_are_listed_with_sources_and_those_given_are_marked() -> None:
    found = plan(SEVEN, 8, machine="h100", outside=1e10)
    by_name = {a.name: a for a in found.assumptions}
    assert by_name["outside"].given and by_name["outside"].value == 1e10 and not by_name["inside"].given
    assert all(a.source and a.unit for a in found.assumptions) and "batch_tokens" in by_name
    for fabric in FABRICS.values():
        for figure in vars(fabric).values():
            assert figure.value > 0 and figure.source


@pytest.mark.parametrize(
    ("gpus", "settings_", "words"),
    [
        (0, {}, "--gpus 0"),
        (8, {"batch_tokens": 1000}, "--batch-tokens 1000.*Give 2048"),
        (48, {"batch_tokens": 2**22}, "cannot be shared out evenly among 48"),
        (8, {"machine": "abacus"}, "--hardware abacus"),
        (8, {"fixed": Fixed(tensor=3)}, "--tensor 3: does not divide 8"),
        (64, {"fixed": Fixed(tensor=16)}, "one node, which join 8"),
        (6, {"fixed": Fixed(tensor=6)}, "--tensor 6: does not divide the heads of 32"),
        (64, {"fixed": Fixed(pipeline=64)}, "--pipeline 64: the model has 32 layers"),
        (8, {"fixed": Fixed(replicate=4, shard=4)}, "does not divide 8 GPUs"),
        (8, {"fixed": Fixed(micro=0)}, "--micro 0"),
        (8, {"overlap": 1.5}, "--overlap = 1.5"),
        (8, {"node": 2.5}, "--node = 2.5"),
        (8, {"dtype": "int3"}, "--dtype int3"),
        (8, {"length": 0}, "--length 0"),
        (8, {"decoder_length": 3}, "--decoder-length 3"),
    ],
)
def test_what_cannot_be_is_refused(gpus: int, settings_: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(SEVEN, gpus, **{"machine": "h100", **settings_})


def test_a_pipeline_of_an_encoder_decoder_is_refused_and_the_rest_is_planned() -> None:
    with pytest.raises(UserError, match="--pipeline 2"):
        plan(preset("t5-base"), 8, fixed=Fixed(pipeline=2))
    found = plan(preset("t5-base"), 8)
    assert found.decoder_length == found.length // 4 and found.chosen.fits


def test_what_does_not_fit_says_what_would_and_it_does() -> None:
    with pytest.raises(UserError, match="does not fit on 4 x .* GB a GPU") as error:
        plan(preset("llama-65b"), 4, machine="h100")
    enough = int(re.search(r"--gpus (\d+)", str(error.value)).group(1))  # type: ignore[union-attr]
    assert plan(preset("llama-65b"), enough, machine="h100").chosen.fits
    with pytest.raises(UserError, match="No number of GPUs .* shorter --length"):
        plan(SEVEN, 8, machine="v100", length=2**23)


# Limits


def test_the_interval_between_checkpoints_is_the_best_one() -> None:
    given_ = Assumed("h100")
    found = reliability(16384, 16e12, given_)
    assert found.hours_between == pytest.approx(54 * 24 / 419)
    mean = 3600 * found.hours_between

    def lost(interval: float) -> float:
        return found.checkpoint_seconds / interval + interval / 2 / mean

    assert lost(found.interval_seconds) < min(lost(found.interval_seconds * f) for f in (0.8, 1.25))
    assert 0.8 < found.useful < 1 and reliability(64, 1e12, given_).useful > found.useful


def test_critical_batch_is_kaplans() -> None:
    """Kaplan et al. 2020: about 1 to 2 million tokens for the largest models of the paper (1.5e9 parameters)."""
    tokens, loss = critical_batch(1.5e9)
    assert loss == pytest.approx((8.8e13 / 1.5e9) ** 0.076) and 1e6 < tokens < 5e6
    assert critical_batch(1e11)[0] > tokens


def test_a_mixtures_experts_are_gathered_whole() -> None:
    spec = preset("mixtral")
    units = model_units(spec)
    whole = units.root.elements + sum(unit.elements * number for unit, number in units.blocks)
    assert whole == int(spec.parameters())
    assert dataclasses.asdict(units)["blocks"][0][1] == spec.depth("decoder")
