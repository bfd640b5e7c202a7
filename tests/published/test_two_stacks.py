"""T5, UMT5, BART, mBART, BERT and GLM against transformers on random tiny models, exports and negative controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.published.common import TOLERANCE, hold, randomise, reference, saved
from torch import Tensor, nn

from assay.generation.model import Model
from assay.published.load import load

T5: dict[str, Any] = {
    "vocab_size": 91, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 91, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 40,
}  # fmt: skip
ODD = {
    "encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 6,
    "encoder_ffn_dim": 20, "decoder_ffn_dim": 56, "scale_embedding": True, "activation_function": "relu",
}  # fmt: skip
BERT: dict[str, Any] = {
    "vocab_size": 91, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": 40,
}  # fmt: skip
GLM: dict[str, Any] = {
    "vocab_size": 91, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "eos_token_id": [1, 2], "max_position_embeddings": 64,
}  # fmt: skip

TWO: dict[str, tuple[str, str, dict[str, Any]]] = {
    "t5-v1.0": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5-v1.1": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
    ),
    "t5-silu": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gated-silu", "d_kv": 5}),
    "t5-gelu": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gelu", "layer_norm_epsilon": 1e-3, "num_decoder_layers": 1},
    ),
    "t5-gelu-new": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gelu_new"}),
    "t5-gated-exact": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gated-gelu_python"}),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5Config", T5 | {"num_decoder_layers": 3}),
    "umt5-untied": (
        "UMT5ForConditionalGeneration",
        "UMT5Config",
        T5 | {"tie_word_embeddings": False, "feed_forward_proj": "relu", "d_kv": 6},
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
    "bart-odd": ("BartForConditionalGeneration", "BartConfig", BART | ODD),
    "bart-untied": (
        "BartForConditionalGeneration",
        "BartConfig",
        BART | {"tie_word_embeddings": False, "activation_function": "gelu_new"},
    ),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", BART | {"scale_embedding": True}),
    "mbart-odd": ("MBartForConditionalGeneration", "MBartConfig", BART | ODD | {"scale_embedding": False}),
}

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-mlm": ("BertForMaskedLM", BERT),
    "bert-both": ("BertForPreTraining", BERT | {"type_vocab_size": 3, "hidden_act": "relu"}),
    "bert-pair": ("BertForNextSentencePrediction", BERT | {"layer_norm_eps": 1e-3}),
    "bert-bare": ("BertModel", BERT | {"hidden_act": "gelu_new"}),
    "bert-untied": ("BertForMaskedLM", BERT | {"tie_word_embeddings": False}),
}

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "glm": ("GlmConfig", GLM),
    "glm-open": ("GlmConfig", GLM | {"attention_bias": False, "partial_rotary_factor": 0.25, "head_dim": 16}),
    "glm-tied": ("GlmConfig", GLM | {"tie_word_embeddings": True, "rope_theta": 500.0, "num_key_value_heads": 4}),
    "glm4": ("Glm4Config", GLM),
    "glm4-whole": ("Glm4Config", GLM | {"partial_rotary_factor": 1.0, "rms_norm_eps": 1e-3}),
}


def made(kind: str, config: str, fields: dict[str, Any], seed: int = 0) -> Any:
    """A transformers model, everything at random, buffers that are stored included."""
    import transformers

    settings = getattr(transformers, config)(**fields)
    settings._attn_implementation = "eager"
    model = getattr(transformers, kind)(settings)
    randomise(model, seed)
    _spread_biases(model)
    return model.float().eval()


@torch.no_grad()
def _spread_biases(model: nn.Module) -> None:
    if "final_logits_bias" in dict(model.named_buffers()):
        model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By case: (reference, its folder), made once."""
    kept: dict[str, tuple[Any, Path]] = {}

    def make(case: str) -> tuple[Any, Path]:
        if case not in kept:
            if case in TWO:
                model = made(*TWO[case])
            elif case in HEADS:
                model = made(HEADS[case][0], "BertConfig", HEADS[case][1])
            else:
                model = reference(*DECODERS[case])
            kept[case] = model, saved(model, tmp_path_factory.mktemp(case))
        return kept[case]

    return make


@torch.no_grad()
def differences(ours: Model, theirs: Any) -> dict[str, float]:
    """Largest differences by case, with padding on the right of inputs and of what the decoder reads."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 91, (2, 17), generator=generator)
    answer = torch.randint(3, 91, (2, 11), generator=generator)
    mask, answer_mask = torch.ones_like(ids), torch.ones_like(answer)
    mask[1, 12:], answer_mask[1, 8:] = 0, 0
    found = {}
    for case, given in {
        "plain": {},
        "right": {"attention_mask": mask},
        "both": {"attention_mask": mask, "decoder_attention_mask": answer_mask},
    }.items():
        mine = ours(ids, decoder_input_ids=answer, output_hidden_states=True, **given)
        other = theirs(ids, decoder_input_ids=answer, output_hidden_states=True, use_cache=False, **given)
        found[f"{case} logits"] = _gap(mine.logits, other.logits, answer_mask if case == "both" else None)
        found[f"{case} encoder"] = _gap(mine.encoder_last_hidden_state, other.encoder_last_hidden_state)
        if case == "plain":
            for name in ("encoder_hidden_states", "decoder_hidden_states"):
                states, wanted = getattr(mine, name), getattr(other, name)
                assert len(states) == len(wanted)
                for layer, (a, b) in enumerate(zip(states, wanted, strict=True)):
                    found[f"{name} {layer}"] = _gap(a, b)
    return found


def _gap(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    gap = (a - b).abs()
    return float((gap if mask is None else gap[mask.bool()]).max() / max(1.0, float(b.abs().max())))


def within(found: dict[str, float]) -> None:
    """All of them small."""
    wrong = {case: gap for case, gap in found.items() if not gap < TOLERANCE}
    assert not wrong, wrong


@pytest.mark.parametrize("case", TWO)
def test_encoder_decoder(case: str, pairs: Any) -> None:
    theirs, folder = pairs(case)
    within(differences(load(folder), theirs))


@torch.no_grad()
def _bert_differences(ours: Model, theirs: Any) -> dict[str, float]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 91, (2, 17), generator=generator)
    types = torch.randint(0, ours.spec.embedding.token_types, (2, 17), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    found = {}
    for case, given in {"plain": {}, "types": {"token_type_ids": types}, "right": {"attention_mask": mask}}.items():
        mine = ours(ids, output_hidden_states=True, **given)
        other = theirs(ids, output_hidden_states=True, **given)
        for layer, (a, b) in enumerate(zip(mine.hidden_states, other.hidden_states, strict=True)):
            found[f"{case} {layer}"] = _gap(a, b)
        logits = getattr(other, "prediction_logits", getattr(other, "logits", None))
        pair = getattr(other, "seq_relationship_logits", None)
        if type(theirs).__name__ == "BertForNextSentencePrediction":
            logits, pair = None, other.logits
        for name, a, b in (("logits", mine.logits, logits), ("pair", mine.seq_relationship_logits, pair)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                found[f"{case} {name}"] = _gap(a, b)
    return found


@pytest.mark.parametrize("case", HEADS)
def test_bert(case: str, pairs: Any) -> None:
    theirs, folder = pairs(case)
    within(_bert_differences(load(folder), theirs))


@pytest.mark.parametrize("case", DECODERS)
def test_glm(case: str, pairs: Any) -> None:
    theirs, folder = pairs(case)
    hold(load(folder), theirs)


@pytest.mark.parametrize("case", [*TWO, *HEADS, *DECODERS])
def test_export_is_what_came_in(case: str, pairs: Any, tmp_path: Path) -> None:
    """Load, export, load: equal; and transformers finds every tensor that it had, except poolers nobody reads."""
    theirs, folder = pairs(case)
    ours = load(folder)
    ours.save(tmp_path, format="hf")
    again = load(tmp_path)
    assert again.spec == ours.spec and again.published_as == ours.published_as
    for (name, a), (_, b) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    there = type(theirs).from_pretrained(tmp_path, attn_implementation="eager").eval()
    kept = there.state_dict()
    for name, tensor in theirs.state_dict().items():
        assert "pooler" in name or torch.equal(kept[name], tensor), name
    assert {n: v for n, v in there.config.to_dict().items() if n in ("d_kv", "head_dim", "feed_forward_proj")} == {
        n: v for n, v in theirs.config.to_dict().items() if n in ("d_kv", "head_dim")
    } | ({"feed_forward_proj": there.config.feed_forward_proj} if "t5" in case else {})
    if case in TWO:
        within(differences(again, there))


@pytest.mark.parametrize("case", ["t5-v1.1", "umt5", "bart", "mbart", "bert-mlm", "glm4"])
def test_controls_fail(case: str, pairs: Any) -> None:
    """One matrix permuted, or two norms swapped, must show."""
    from tests.published.common import differences as decoder_differences

    theirs, folder = pairs(case)
    compare = differences if case in TWO else _bert_differences if case in HEADS else decoder_differences
    for spoil in (_permute_rows, _swap_norms):
        ours = load(folder)
        spoil(ours)
        assert max(compare(ours, theirs).values()) > 1e-2, spoil.__name__


@torch.no_grad()
def _permute_rows(model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    weight = parameters[next(n for n in parameters if n.endswith("blocks.1.attention.q.weight"))]
    weight.copy_(weight.flip(0).clone())


@torch.no_grad()
def _swap_norms(model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    norms = [n for n in parameters if "blocks.1." in n and n.endswith(("_before.weight", "_after.weight"))]
    first, second = parameters[norms[0]], parameters[norms[1]]
    kept = first.clone()
    first.copy_(second)
    second.copy_(kept)
