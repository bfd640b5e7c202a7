"""The native step against the modules it stands for, for every kind; and when it steps aside."""

from typing import Any

import pytest
import torch
from tests.generation.common import FAMILIES, KINDS, described, model
from tests.nn.common import close, tokens

from assay.generation.cache import Cache
from assay.generation.decoding import Decoding
from assay.generation.model import Model
from assay.generation.native.library import STEP
from assay.generation.plan import Plan, plan_answer, plan_prompt
from assay.generation.visibility import memory_mask
from assay.spec.masks import Causal, Mask

needs_compiler = pytest.mark.skipif(STEP.load() is None, reason=f"no native step: {STEP.reason}")
NEW = 12


def prepared(m: Model, *, native: bool, new: int = NEW) -> Decoding:
    if m.spec.family == "encoder_decoder":
        row = tokens(1, 6, seed=1)
        memory = m.transformer.encode(row, Mask(Causal())).hidden
        plan = plan_answer(m.spec, tokens(1, 2, seed=2), None, new)
        plan = Plan(plan.ids, plan.mask, plan.positions, memory, memory_mask(None, row))
    else:
        plan = plan_prompt(m.spec, tokens(1, 5, seed=1), None, None, None, new)
    run = Decoding(m.transformer, plan, new, cache=None)
    if not native:
        run.eager_because = "the test asks for the modules"
    return run


@torch.inference_mode()
def logits(run: Decoding, steps: int, vocab: int = 37, threads: int | None = None) -> torch.Tensor:
    answer, before = tokens(1, steps, vocab=vocab, seed=3), torch.get_num_threads()
    out = [run.begin().clone()]
    torch.set_num_threads(threads or before)  # for the steps alone: the library's products differ by threads
    try:
        out += [run.step(answer[:, i]).clone() for i in range(steps)]
    finally:
        torch.set_num_threads(before)
    run.finish()
    return torch.cat(out)


MORE: dict[str, dict[str, Any]] = {
    "dyt": {"norm": "dyt"},
    "no norm": {"norm": {"kind": "none"}, "init": {"std": 0.1}},
    "partial rms": {"norm": {"kind": "rmsnorm", "fraction": 0.25}},
    "cogview": {"norm": {"kind": "layernorm", "max_scale": 8.0}, "placement": "sandwich"},
    "plus one, scaled, capped": {
        "norm": {"plus_one": True}, "embedding": {"scale": 5.0}, "head": {"softcap": 2.0, "scale": 0.5}
    },
    "normalised head": {"head": {"normalised": True, "tied": False}},
    "full q/k norm, clip": {"attention": {"qk_norm": "full", "clip_qkv": 0.5}},
    "glm130b": {"placement": "glm130b", "norm": "layernorm"},
    "parallel, two norms": {"parallel": "two_norms"},
    "parallel, no norm before": {"parallel": "one_norm", "placement": "post"},
    "mix": {"placement": "mix", "layers": 4},
    "scaled": {"placement": "scaled"},
    "two axes": {"positions": {"kind": "rope", "axes": 2}},
    "two learned tables": {"positions": {"kind": "learned", "axes": 2}},
    "token types": {"embedding": {"token_types": 2}},
    "relu2": {"feedforward": {"activation": "relu2", "gated": False}},
    "gelu tanh": {"feedforward": {"activation": "gelu_tanh", "gated": True, "bias": True}},
    "relu": {"feedforward": {"activation": "relu", "gated": True}},
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_native_logits_are_the_modules(family: str, kind: str) -> None:
    if kind in MORE:
        m = model(family=family, **MORE[kind])
    else:
        m = model(**described(family, kind))
    run = prepared(m, native=True)
    fast = logits(run, NEW - 1)
    if kind in ("experts", "dynamic scaling"):
        assert run.native is None and run.eager_because
        return
    assert run.eager_because is None, run.eager_because
    assert run.native is not None
    # Without norms sums of hundreds cancel.
    close(fast, logits(prepared(m, native=False), NEW - 1), 0.05 if kind == "no norm" else 2e-5)


@needs_compiler
def test_several_threads_compute_the_same() -> None:
    """Wide enough that every kind of operation is shared out, odd enough that chunks have ends."""
    m = model(
        vocab_size=4001, width=328, attention={"heads": 4, "kv_heads": 2}, feedforward={"width": 1003}, context=256
    )
    results = [logits(prepared(m, native=True, new=120), 119, vocab=4001, threads=n) for n in (1, 2, 5)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    close(results[0], logits(prepared(m, native=False, new=120), 119, vocab=4001), 1e-4)


@needs_compiler
def test_a_wrong_weight_shows() -> None:
    m = model()
    right = logits(prepared(m, native=False), NEW - 1)
    with torch.no_grad():
        m.transformer.get_submodule("decoder.blocks.1.feedforward.gate").weight[0, 0] += 1
    assert not torch.allclose(logits(prepared(m, native=True), NEW - 1), right, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("few", "fewer"), ("hook", "hook"), ("class", "not known"), ("dtype", "bfloat16"), ("cache", "without a cache"),
        ("table", "does not see"),
    ],
)  # fmt: skip
def test_it_steps_aside(change: str, reason: str) -> None:
    m = model(dtype="bfloat16" if change == "dtype" else "float32")
    row, mask = tokens(1, 5), None
    new = 3 if change == "few" else NEW
    up = m.transformer.get_submodule("decoder.blocks.0.feedforward")
    if change == "hook":
        up.up.register_forward_hook(lambda *_: None)
    if change == "class":
        up.up = type("Adapter", (torch.nn.Linear,), {})(32, 48, bias=False)
    if change == "table":
        mask = torch.ones(1, 5, 5)
    plan = plan_prompt(m.spec, row, mask, None, None, new)
    with torch.inference_mode():
        run = Decoding(m.transformer, plan, new, cache=Cache(), use_cache=change != "cache")
        run.begin()
        run.step(row[:, 0])
    assert run.native is None and reason in (run.eager_because or "")
