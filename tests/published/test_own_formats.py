"""Families without a transformers class: their configurations' variants, ranks, and exports back to their own form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.published.common import reference
from tests.published.test_golden import near, opened
from torch import Tensor

from assay.errors import UserError
from assay.published.load import load

ChatGLM2 = dict[str, Any]
TWO: ChatGLM2 = {
    "model_type": "chatglm", "add_bias_linear": False, "add_qkv_bias": True, "ffn_hidden_size": 40,
    "hidden_size": 24, "kv_channels": 8, "layernorm_epsilon": 1e-5, "multi_query_attention": True,
    "multi_query_group_num": 2, "num_attention_heads": 4, "num_layers": 3, "padded_vocab_size": 83, "rmsnorm": True,
    "post_layer_norm": True, "apply_residual_connection_post_layernorm": False, "seq_length": 64,
}  # fmt: skip


def folder_of(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    """A published folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def chatglm2_weights(config: ChatGLM2, seed: int = 0) -> dict[str, Tensor]:
    """Everything at random under the published names."""
    generator = torch.Generator().manual_seed(seed)
    width, inner = config["hidden_size"], config["ffn_hidden_size"]
    heads, head = config["num_attention_heads"], config["kv_channels"]
    groups = config["multi_query_group_num"] if config["multi_query_attention"] else heads
    made: dict[str, Tensor] = {}

    def add(name: str, *shape: int, gain: bool = False) -> None:
        made[name] = 0.3 * torch.randn(shape, generator=generator) + (1.0 if gain else 0.0)

    def norm(name: str) -> None:
        add(f"{name}.weight", width, gain=True)
        if not config["rmsnorm"]:
            add(f"{name}.bias", width)

    add("transformer.embedding.word_embeddings.weight", config["padded_vocab_size"], width)
    for i in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{i}."
        norm(f"{layer}input_layernorm")
        norm(f"{layer}post_attention_layernorm")
        for name, rows, columns, biased in (
            ("self_attention.query_key_value", (heads + 2 * groups) * head, width, config["add_qkv_bias"]),
            ("self_attention.dense", width, heads * head, False),
            ("mlp.dense_h_to_4h", 2 * inner, width, False),
            ("mlp.dense_4h_to_h", width, inner, False),
        ):
            add(f"{layer}{name}.weight", rows, columns)
            if biased or config["add_bias_linear"]:
                add(f"{layer}{name}.bias", rows)
    if config["post_layer_norm"]:
        norm("transformer.encoder.final_layernorm")
    add("transformer.output_layer.weight", config["padded_vocab_size"], width)
    return made


def chatglm2_logits(config: ChatGLM2, weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Written from the published description, with loops over heads and no code of ours."""
    heads, head, length = config["num_attention_heads"], config["kv_channels"], ids.shape[1]
    groups = config["multi_query_group_num"]
    ratio = config.get("rope_ratio", 1)
    frequency = (10_000.0 * ratio) ** (-torch.arange(0, head // 2, 2).float() / (head // 2))
    angle = torch.arange(length)[:, None].float() * frequency

    def norm(x: Tensor, name: str) -> Tensor:
        weight, eps = weights[f"{name}.weight"], config["layernorm_epsilon"]
        if config["rmsnorm"]:
            return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight
        return F.layer_norm(x, x.shape[-1:], weight, weights[f"{name}.bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def turn(x: Tensor) -> Tensor:  # [B, S, head]: neighbours, in the first half
        a, b = x[..., : head // 2 : 2], x[..., 1 : head // 2 : 2]
        turned = torch.stack((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1).flatten(-2)
        return torch.cat((turned, x[..., head // 2 :]), -1)

    x = weights["transformer.embedding.word_embeddings.weight"][ids]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    for i in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{i}."
        h = norm(x, f"{layer}input_layernorm")
        fused = linear(h, f"{layer}self_attention.query_key_value")
        if config["multi_query_attention"]:
            q, k, v = fused.split([heads * head, groups * head, groups * head], -1)
        else:
            q, k, v = (part.flatten(2) for part in fused.unflatten(-1, (heads, 3, head)).unbind(3))
        mixed = []
        for number in range(heads):
            own = number * (k.shape[-1] // head) // heads
            mine, keys, values = (t[..., n * head : (n + 1) * head] for t, n in ((q, number), (k, own), (v, own)))
            scores = turn(mine) @ turn(keys).transpose(1, 2) / head**0.5
            mixed.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values)
        normed = config["apply_residual_connection_post_layernorm"]
        x = (h if normed else x) + linear(torch.cat(mixed, -1), f"{layer}self_attention.dense")
        h = norm(x, f"{layer}post_attention_layernorm")
        gate, up = linear(h, f"{layer}mlp.dense_h_to_4h").chunk(2, -1)
        x = (h if normed else x) + linear(F.silu(gate) * up, f"{layer}mlp.dense_4h_to_h")
    if config["post_layer_norm"]:
        x = norm(x, "transformer.encoder.final_layernorm")
    return linear(x, "transformer.output_layer")


VARIANTS: dict[str, ChatGLM2] = {
    "plain": {},
    "normed-skip": {"apply_residual_connection_post_layernorm": True},
    "by-head": {"multi_query_attention": False},
    "by-head-normed": {"multi_query_attention": False, "apply_residual_connection_post_layernorm": True},
    "groups-of-one": {"multi_query_group_num": 4},
    "layernorm-biases": {"rmsnorm": False, "add_bias_linear": True, "post_layer_norm": False},
    "stretched": {"rope_ratio": 50, "eos_token_id": [7, 9], "add_qkv_bias": False},
}


@pytest.mark.parametrize("case", VARIANTS)
@torch.no_grad()
def test_chatglm2_variants(case: str, tmp_path: Path) -> None:
    config = TWO | VARIANTS[case]
    weights = chatglm2_weights(config)
    model = load(folder_of(tmp_path / "in", config, weights))
    ids = torch.randint(0, 83, (2, 21), generator=torch.Generator().manual_seed(3))
    wanted = chatglm2_logits(config, weights, ids)
    near(model(ids).logits, wanted, 1e-4)
    _comes_back(model, tmp_path / "out", weights)
    cache_changes_nothing(model)
    if case == "plain":
        spoiled = {n: t.flip(0) if n.endswith("1.self_attention.dense.weight") else t for n, t in weights.items()}
        assert float((load(folder_of(tmp_path / "in", config, spoiled))(ids).logits - wanted).abs().max()) > 1e-2


def cache_changes_nothing(model: Any) -> None:
    """Greedy ids with the cache and by plain recomputation."""
    ids = torch.randint(3, 80, (1, 9), generator=torch.Generator().manual_seed(5))
    made = [model.generate(ids, max_new_tokens=20, ignore_eos=True, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*made) and len(set(made[0][0, 9:].tolist())) > 3


def _comes_back(model: Any, folder: Path, weights: dict[str, Tensor]) -> None:
    """Exported, every tensor is as it was published, and it loads again with the same description."""
    model.save(folder, format="hf")
    found = load_file(folder / "model.safetensors")
    assert set(found) == set(weights)
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor), name
    again = load(folder)
    assert again.spec == model.spec and again.published_as == model.published_as


@torch.no_grad()
def test_glm4_in_both_forms(tmp_path: Path) -> None:
    """THUDM's glm-4-9b and transformers' `glm` are the same network under other names."""
    theirs: Any = reference(
        "GlmConfig",
        {
            "vocab_size": 83, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rope_theta": 5_000_000.0,
            "pad_token_id": 0, "eos_token_id": [1, 2], "rms_norm_eps": 1.5625e-7,
        },
    )  # fmt: skip
    state, weights = theirs.state_dict(), {}
    weights["transformer.embedding.word_embeddings.weight"] = state["model.embed_tokens.weight"]
    weights["transformer.output_layer.weight"] = state["lm_head.weight"]
    weights["transformer.encoder.final_layernorm.weight"] = state["model.norm.weight"]
    weights["transformer.rotary_pos_emb.inv_freq"] = torch.ones(2)
    for i in range(2):
        old, new = f"model.layers.{i}.", f"transformer.encoder.layers.{i}."
        for leaf in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            weights[f"{new}self_attention.query_key_value.{leaf}"] = torch.cat(parts)
        for ours, name in {
            "self_attention.dense": "self_attn.o_proj",
            "mlp.dense_h_to_4h": "mlp.gate_up_proj",
            "mlp.dense_4h_to_h": "mlp.down_proj",
            "input_layernorm": "input_layernorm",
            "post_attention_layernorm": "post_attention_layernorm",
        }.items():
            weights[f"{new}{ours}.weight"] = state[f"{old}{name}.weight"]
    config = TWO | {
        "padded_vocab_size": 83, "hidden_size": 32, "ffn_hidden_size": 56, "num_layers": 2, "rope_ratio": 500,
        "layernorm_epsilon": 1.5625e-7, "eos_token_id": [1, 2],
    }  # fmt: skip
    model = load(folder_of(tmp_path, config, weights))
    ids = torch.randint(0, 83, (2, 30), generator=torch.Generator().manual_seed(3))
    near(model(ids).logits, theirs(ids).logits, 1e-4)


def test_chatglm2_rope_ratio_both_ways(tmp_path: Path) -> None:
    """ChatGLM2-32k divides positions, ChatGLM3 multiplies the base; a hint overrules the name."""
    weights = chatglm2_weights(TWO)
    config = TWO | {"rope_ratio": 8}
    base = load(folder_of(tmp_path / "a", config, weights)).spec
    assert base.positions.theta == 80_000 and base.positions.scaling is None
    named = load(folder_of(tmp_path / "b", config | {"_name_or_path": "THUDM/chatglm2-6b-32k"}, weights)).spec
    assert named.positions.scaling is not None and named.positions.scaling.factor == 8
    assert load(tmp_path / "a", hint={"rope_ratio": "positions"}).spec == named
    with pytest.raises(UserError, match=r'rope_ratio.*"base" or "positions"'):
        load(tmp_path / "a", hint={"rope_ratio": "both"})


PALM = {"model_type": "palm", "num_tokens": 83, "dim": 24, "depth": 2, "dim_head": 8, "heads": 5, "ff_mult": 2}


def palm_weights(norm: bool) -> dict[str, Tensor]:
    """Everything at random under palm_rlhf_pytorch's names."""
    generator = torch.Generator().manual_seed(0)
    made = {"token_emb.weight": torch.randn(83, 24, generator=generator)}
    made["norm.gamma"] = 1 + 0.3 * torch.randn(24, generator=generator)
    for i in range(2):
        layer = f"layers.{i}.fn."
        made[f"{layer}norm.gamma"] = 1 + 0.3 * torch.randn(24, generator=generator)
        made[f"{layer}fused_attn_ff_proj.weight"] = 0.3 * torch.randn(40 + 16 + 96, 24, generator=generator)
        made[f"{layer}attn_out.weight"] = 0.3 * torch.randn(24, 40, generator=generator)
        made[f"{layer}ff_out.2.weight"] = 0.3 * torch.randn(24, 48, generator=generator)
        if norm:
            made[f"{layer}q_scale"] = 1 + 0.5 * torch.randn(8, generator=generator)
            made[f"{layer}k_scale"] = 1 + 0.5 * torch.randn(8, generator=generator)
    return made


def palm_logits(weights: dict[str, Tensor], ids: Tensor, *, norm: bool, base: float | None, scale: float) -> Tensor:
    """Written from that package's description: xPos centred on the middle of the row."""
    length = ids.shape[1]
    position = torch.arange(length).float()
    angle = position[:, None] * 10_000.0 ** (-torch.arange(0, 8, 2).float() / 8)
    power = torch.ones(length, 4)
    if base is not None:
        power = ((torch.arange(0, 8, 2) + 3.2) / 11.2) ** ((position - length // 2) / base)[:, None]

    def turn(x: Tensor, stretch: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        cos, sin = angle.cos() * stretch, angle.sin() * stretch
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    x = weights["token_emb.weight"][ids]
    for i in range(2):
        layer = f"layers.{i}.fn."
        h = F.layer_norm(x, (24,), weights[f"{layer}norm.gamma"])
        q, k, v, up, gate = (h @ weights[f"{layer}fused_attn_ff_proj.weight"].T).split([40, 8, 8, 48, 48], -1)
        q = q.unflatten(-1, (5, 8)).transpose(1, 2)
        if norm:
            q = F.normalize(q, dim=-1) * weights[f"{layer}q_scale"]
            k = F.normalize(k, dim=-1) * weights[f"{layer}k_scale"]
        scores = turn(q, power) @ turn(k, 1 / power)[:, None].transpose(-1, -2) * scale
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), float("-inf"))
        mixed = (scores.softmax(-1) @ v[:, None]).transpose(1, 2).flatten(2)
        x = (
            x
            + mixed @ weights[f"{layer}attn_out.weight"].T
            + (up * F.silu(gate)) @ weights[f"{layer}ff_out.2.weight"].T
        )
    return F.layer_norm(x, (24,), weights["norm.gamma"]) @ weights["token_emb.weight"].T


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("base", [None, 16.0, 512.0])
@torch.no_grad()
def test_palm_variants(norm: bool, base: float | None, tmp_path: Path) -> None:
    weights = palm_weights(norm)
    config: dict[str, Any] = PALM | {"qk_rmsnorm": norm, "use_xpos": base is not None, "qk_scale": 8}
    config |= {} if base is None else {"rotary_xpos_scale_base": base}
    model = load(folder_of(tmp_path / "in", config, weights))
    ids = torch.randint(0, 83, (2, 40), generator=torch.Generator().manual_seed(3))
    near(model(ids).logits, palm_logits(weights, ids, norm=norm, base=base, scale=8**-0.5), 1e-4)
    cache_changes_nothing(model)
    if norm:
        older = load(tmp_path / "in", hint={"qk_scale": 8})
        near(older(ids).logits, palm_logits(weights, ids, norm=norm, base=base, scale=8.0), 1e-4)
    model.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out")
    assert again.spec == model.spec
    near(again(ids).logits, model(ids).logits, 1e-6)


def cut(folder: Path, ranks: int, source: Path, halves: str, parts: int, *, config: bool = True) -> Path:
    """A checkpoint as tensor-parallel ranks, the way its training code keeps them."""
    weights = load_file(source / "model.safetensors")
    inner = folder / "49300"
    inner.mkdir(parents=True)
    (folder / "latest").write_text("49300\n")
    shutil.copy(source / "config.json", folder / "config.json")
    for rank in range(ranks):
        piece = {}
        for name, tensor in weights.items():
            if halves in name and parts > 1:
                likes = [part.chunk(ranks)[rank] for part in tensor.chunk(parts)]
                piece[name] = torch.cat(likes)
            elif name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
                piece[name] = tensor.chunk(ranks, 1)[rank]
            elif "query_key_value" in name or "dense_h_to_4h" in name or name.endswith("word_embeddings.weight"):
                piece[name] = tensor.chunk(ranks)[rank]
            else:
                piece[name] = tensor
        piece = {name: tensor.clone() for name, tensor in piece.items()}
        torch.save({"module": piece, "iteration": 49300}, inner / f"mp_rank_{rank:02d}_model_states.pt")
    return folder


@pytest.mark.parametrize("name, fused, parts", [("glm_130b", "dense_h_to_4h", 2), ("cogview", "query_key_value", 3)])
@pytest.mark.parametrize("ranks", [1, 2])
@torch.no_grad()
def test_ranks(name: str, fused: str, parts: int, ranks: int, golden: Path, tmp_path: Path) -> None:
    folder = cut(tmp_path / "cut", ranks, golden / name, fused, parts)
    whole, expected, tolerance = opened(golden, name)
    model = load(folder)
    assert model.spec == whole.spec
    for (label, a), (_, b) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        assert torch.equal(a, b), label
    near(model(expected["input_ids"]).logits, expected["logits"], tolerance)


@pytest.mark.parametrize("name, fused, parts", [("glm_130b", "dense_h_to_4h", 2), ("cogview", "query_key_value", 3)])
def test_known_by_its_tensors(name: str, fused: str, parts: int, golden: Path, tmp_path: Path) -> None:
    """Their training code's model_config.json does not name the family."""
    folder = cut(tmp_path, 2, golden / name, fused, parts)
    config = json.loads((folder / "config.json").read_text())
    config.pop("model_type")
    (folder / "config.json").unlink()
    (folder / "model_config.json").write_text(json.dumps(config))
    assert load(folder).spec == load(golden / name).spec


def test_missing_rank(golden: Path, tmp_path: Path) -> None:
    folder = cut(tmp_path, 2, golden / "glm_130b", "dense_h_to_4h", 2)
    (folder / "49300" / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(UserError, match="rank 0 is missing"):
        load(folder)
    (folder / "latest").write_text("../../etc")
    with pytest.raises(UserError, match="outside of its folder"):
        load(folder)


@pytest.mark.parametrize("name", ["chatglm_6b_28layers", "chatglm2_6b", "glm_130b", "cogview", "palm_rope"])
def test_export_is_what_came_in(name: str, golden: Path, tmp_path: Path) -> None:
    model = load(golden / name)
    model.save(tmp_path, format="hf")
    found, published = load_file(tmp_path / "model.safetensors"), load_file(golden / name / "model.safetensors")
    for key, tensor in found.items():
        assert torch.equal(tensor, published[key]), key
    again = load(tmp_path)
    assert again.spec == model.spec and again.published_as == model.published_as


@torch.no_grad()
def test_alpha_layers_stay_on_export(golden: Path, tmp_path: Path) -> None:
    model = load(golden / "chatglm_6b_28layers", hint={"alpha_layers": 5})
    model.save(tmp_path, format="hf")
    assert load(tmp_path).spec == model.spec


@torch.no_grad()
def test_chatglm_with_one_row_of_positions(golden: Path, tmp_path: Path) -> None:
    """position_encoding_2d false: GLM-130B's rule, on whole heads."""
    source = golden / "chatglm_6b_28layers"
    config = json.loads((source / "config.json").read_text()) | {"position_encoding_2d": False}
    model = load(folder_of(tmp_path, config, load_file(source / "model.safetensors")))
    assert model.spec.positions.axes == 1 and model.spec.prompt.rule == "glm130b"
    ids = load_file(source / "expected.safetensors")["mask.input_ids"]
    start = int((ids == 128).nonzero()[0, 1])
    hole = int((ids == 124).nonzero()[0, 1])
    positions = torch.arange(ids.shape[1])[None].clone()
    positions[:, start:] = hole
    assert torch.equal(model(ids).logits, model(ids, position_ids=positions).logits)
