"""Meta's own form of LLaMA: interleaved rows, ranks cut in two ways, sizes that only the weights tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.published.common import hold
from torch import Tensor

from assay.errors import UserError
from assay.published.describe import spec_of
from assay.published.load import load

Copy = Callable[[], Path]
NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "model.layers": "layers",
}
PARAMS = {"dim": 32, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-6, "multiple_of": 8, "vocab_size": -1}


def paired(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from halves to pairs, one by one: half i of pair j goes to row 2j + i."""
    out, width = torch.empty_like(weight), weight.shape[0] // heads
    for head in range(heads):
        for pair in range(width // 2):
            for half in range(2):
                out[head * width + 2 * pair + half] = weight[head * width + half * (width // 2) + pair]
    return out


def metas(folder: Path) -> dict[str, Tensor]:
    """A Hugging Face LLaMA's tensors under Meta's names."""
    out = {"rope.freqs": torch.ones(4)}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            tensor = paired(tensor, 4 if "q_proj" in name else 2)
        for theirs, metas_name in NAMES.items():
            name = name.replace(theirs, metas_name)
        out[name] = tensor
    return out


def written(folder: Path, state: dict[str, Tensor], ranks: int, embedding_axis: int, **params: Any) -> Path:
    """Meta's files, cut over ranks."""
    folder.mkdir()
    axes = {"wo": 1, "w2": 1, "tok_embeddings": embedding_axis, "norm": None, "freqs": None}
    for rank in range(ranks):
        pieces = {}
        for name, tensor in state.items():
            axis = next((a for part, a in axes.items() if part in name), 0)
            pieces[name] = tensor if axis is None else tensor.chunk(ranks, axis)[rank].clone()
        torch.save(pieces, folder / f"consolidated.{rank:02d}.pth")
    (folder / "params.json").write_text(json.dumps(PARAMS | params))
    return folder


@pytest.mark.parametrize(("ranks", "axis"), [(1, 0), (2, 1), (2, 0)])
def test_equals_the_other_form(ranks: int, axis: int, copy: Copy, theirs: Any, tmp_path: Path) -> None:
    source = copy()
    state = metas(source)
    state["tok_embeddings.weight"] = state["tok_embeddings.weight"][:96]  # even, so that ranks can cut it
    state["output.weight"] = state["output.weight"][:96]
    folder = written(tmp_path / "meta", state, ranks, axis)
    theirs = deepcopy(theirs)
    theirs.resize_token_embeddings(96)
    ours = load(folder)
    hold(ours, theirs)
    ours.save(tmp_path / "hf", format="hf")
    again = load(tmp_path / "hf")
    assert again.published_as == "LLaMA"
    hold(again, theirs)
    assert again.spec.with_(init="normal").hash == ours.spec.hash


def test_unpermuted_rows_show(copy: Copy, theirs: Any, tmp_path: Path) -> None:
    source = copy()
    state = metas(source)
    plain = load_file(source / "model.safetensors")
    state["layers.0.attention.wq.weight"] = plain["model.layers.0.self_attn.q_proj.weight"]
    with pytest.raises(AssertionError):
        hold(load(written(tmp_path / "meta", state, 1, 0)), theirs)


def test_width_without_weights_follows_metas_rule(tmp_path: Path) -> None:
    """LLaMA-7B, LLaMA-2-70B and LLaMA-3-8B by their published params.json."""
    seven = {"dim": 4096, "n_heads": 32, "n_layers": 32, "multiple_of": 256, "norm_eps": 1e-6, "vocab_size": 32000}
    seventy = {"dim": 8192, "multiple_of": 4096, "ffn_dim_multiplier": 1.3, "n_heads": 64, "n_kv_heads": 8}
    eight = {"dim": 4096, "multiple_of": 1024, "ffn_dim_multiplier": 1.3, "n_heads": 32, "n_kv_heads": 8}
    wanted = {11008: seven, 28672: seventy, 14336: eight}
    for width, params in wanted.items():
        common = {"vocab_size": 32000, "n_layers": 80, "norm_eps": 1e-5}
        (tmp_path / "params.json").write_text(json.dumps(common | params))
        assert spec_of(tmp_path).feedforward_width("decoder") == width


def test_scaled_rope(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(
        json.dumps(PARAMS | {"vocab_size": 99, "rope_theta": 5e5, "use_scaled_rope": True})
    )
    scaling = spec_of(tmp_path).positions.scaling
    assert scaling is not None and (scaling.kind, scaling.factor, scaling.original_length) == ("llama3", 8.0, 8192)
    hinted = spec_of(tmp_path, hint={"rope_factor": 32.0}).positions.scaling
    assert hinted is not None and hinted.factor == 32.0


def test_missing_rank(copy: Copy, tmp_path: Path) -> None:
    folder = written(tmp_path / "meta", metas(copy()), 3, 1)
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(UserError, match="rank 1 is missing"):
        load(folder)
