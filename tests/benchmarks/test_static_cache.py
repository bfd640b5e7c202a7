"""transformers' static cache in a loop of ours: the tokens that assay makes, call after call."""

import pytest
import torch

from assay.generation.build import build
from assay.spec.model import ModelSpec
from benchmarks import decode, static_cache

SHAPE = {
    "vocab_size": 64, "width": 32, "layers": 2, "context": 64, "attention": {"heads": 4, "kv_heads": 2},
    "feedforward": {"width": 48},
}  # fmt: skip


def test_the_loop_makes_assays_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(torch, "compile", lambda step, **how: asked.append(how) or step)
    model = build(ModelSpec.from_dict(SHAPE))
    loop = static_cache.StaticCacheLoop(decode.reference(model), 40)
    assert asked == [{"fullgraph": True, "dynamic": False}]  # else parts of it would run outside of the graph, untold
    # Short calls after long ones: nothing is left over.
    for seed, length, new in ((0, 5, 12), (1, 9, 30), (2, 1, 1)):
        ids = torch.randint(0, 64, (1, length), generator=torch.Generator().manual_seed(seed))
        want = model.generate(ids, max_new_tokens=new, ignore_eos=True)
        assert torch.equal(loop.generate(ids, new), want)
    with pytest.raises(AssertionError, match="too small"):
        loop.generate(ids, 60)


def test_what_is_not_written_yet_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask is what keeps the cache's empty places out: without it other tokens come out."""
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)
    model = build(ModelSpec.from_dict(SHAPE))
    loop = static_cache.StaticCacheLoop(decode.reference(model), 40)
    ids = torch.arange(6)[None]
    want = loop.generate(ids, 24)
    loop.seen = torch.ones_like(loop.seen)
    assert not torch.equal(loop.generate(ids, 24), want)
