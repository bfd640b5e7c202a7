"""Golden checkpoints of encoder-decoders, encoders, prefix decoders, CogView and PaLM: all cases of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.published.test_golden import near, opened

from assay.published.load import load

TWO_STACKS = (
    "t5_v10_relu_tied",
    "t5_v11_gated_gelu_untied",
    "ul2_gated_silu_untied",
    "bart_base_raw_names",
    "mbart_large_cc25",
)
PROMPTED = {
    "chatglm_6b_28layers": ("", "left.", "mask.", "prompt."),
    "glm_130b": ("", "mask.", "unidirectional."),
}
GENERATING = (*TWO_STACKS, *PROMPTED, "chatglm2_6b", "cogview", "palm_rope")


@pytest.mark.parametrize("name", TWO_STACKS)
@torch.no_grad()
def test_encoder_decoder(name: str, golden: Path) -> None:
    model, expected, tolerance = opened(golden, name)
    for case in ("", "right."):
        out = model(
            expected[f"{case}input_ids"],
            attention_mask=expected[f"{case}attention_mask"],
            decoder_input_ids=expected[f"{case}decoder_input_ids"],
            output_hidden_states=True,
        )
        near(out.logits, expected[f"{case}logits"], tolerance)
        near(out.encoder_last_hidden_state, expected[f"{case}encoder_last_hidden_state"], tolerance)
        if not case:
            _states(out.encoder_hidden_states, expected, "encoder_hidden_states", tolerance)
            _states(out.decoder_hidden_states, expected, "decoder_hidden_states", tolerance)


@torch.no_grad()
def test_bert(golden: Path) -> None:
    model, expected, tolerance = opened(golden, "bert_mlm")
    for case in ("", "right."):
        out = model(
            expected[f"{case}input_ids"],
            attention_mask=expected[f"{case}attention_mask"],
            token_type_ids=expected[f"{case}token_type_ids"],
            output_hidden_states=True,
        )
        near(out.logits, expected[f"{case}logits"], tolerance)
        if not case:
            _states(out.hidden_states, expected, "hidden_states", tolerance)


@pytest.mark.parametrize("name", PROMPTED)
@torch.no_grad()
def test_prompt_rules(name: str, golden: Path) -> None:
    """Mask and positions from the tokens alone, and given as the reference was given them: the same."""
    model, expected, tolerance = opened(golden, name)
    for case in PROMPTED[name]:
        ids = expected[f"{case}input_ids"]
        padding = expected.get(f"{case}attention_mask")
        where = None if padding is None else padding.bool()
        causal = {"prefix_length": 0} if case == "unidirectional." else {}
        out = model(ids, attention_mask=padding, output_hidden_states=True, **causal)
        near(out.logits, expected[f"{case}logits"], tolerance, where)
        if not case:
            first = 1 if name == "glm_130b" else 0
            _states(out.hidden_states[first:], expected, "hidden_states", tolerance, first)
        positions = expected[f"{case}position_ids"]
        given = model(ids, attention_mask=padding, position_ids=positions, **causal)
        near(given.logits, expected[f"{case}logits"], tolerance, where)
        table = expected[f"{case}attention_mask_true_is_blocked"] == 0
        given = model(ids, attention_mask=table, position_ids=positions)
        near(given.logits, expected[f"{case}logits"], tolerance, where)


@torch.no_grad()
def test_chatglm2(golden: Path) -> None:
    model, expected, tolerance = opened(golden, "chatglm2_6b")
    out = model(expected["input_ids"], attention_mask=expected["attention_mask"], output_hidden_states=True)
    near(out.logits, expected["logits"], tolerance)
    _states(out.hidden_states, expected, "hidden_states", tolerance)  # its last one is before the final norm
    mask = expected["left.attention_mask"]
    out = model(expected["left.input_ids"], attention_mask=mask)
    near(out.logits, expected["left.logits"], tolerance, mask.bool())


@torch.no_grad()
def test_cogview(golden: Path) -> None:
    model, expected, tolerance = opened(golden, "cogview")
    near(model(expected["input_ids"]).logits, expected["logits"], tolerance)
    prefix = int(expected["sep.value"])
    out = model(expected["sep.input_ids"], prefix_length=prefix)
    near(out.logits, expected["sep.logits"], tolerance)
    assert float((model(expected["sep.input_ids"]).logits - expected["sep.logits"]).abs().max()) > 100 * tolerance


@torch.no_grad()
def test_palm(golden: Path) -> None:
    model, expected, tolerance = opened(golden, "palm_rope")
    near(model(expected["input_ids"]).logits, expected["logits"], tolerance)


@pytest.mark.parametrize("name", GENERATING)
@pytest.mark.parametrize("cached", [True, False])
def test_greedy(name: str, cached: bool, golden: Path) -> None:
    model, expected, _ = opened(golden, name)
    ids, wanted = expected["gen.input_ids"], expected["gen.output_ids"]
    begun = 1 if name in TWO_STACKS else ids.shape[1]
    made = model.generate(ids, max_new_tokens=wanted.shape[1] - begun, ignore_eos=True, use_cache=cached)
    assert torch.equal(made, wanted)


def test_alpha_layers(golden: Path) -> None:
    """The published code's 28 layers equal the file's own depth here; any other number must show."""
    folder = golden / "chatglm_6b_28layers"
    expected = load_file(folder / "expected.safetensors")
    for layers, fits in ((28, True), (6, False)):
        model = load(folder, hint={"alpha_layers": layers})
        with torch.no_grad():
            gap = (model(expected["input_ids"]).logits - expected["logits"]).abs().max()
        assert (float(gap) < 1e-4) is fits


def _states(found: Any, expected: dict[str, torch.Tensor], name: str, tolerance: float, first: int = 0) -> None:
    for layer, state in enumerate(found, first):
        near(state, expected[f"{name}.{layer}"], tolerance)
    assert f"{name}.{first + len(found)}" not in expected and len(found) > 1


@pytest.mark.parametrize("name", [n for n in GENERATING if n != "cogview"])  # its whole-tensor maximum couples rows
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_greedy_in_a_padded_batch(name: str, side: str, golden: Path) -> None:
    """Prompt by prompt, or two of different length together, padded on either side: the same ids."""
    model, expected, _ = opened(golden, name)
    long = expected["gen.input_ids"]
    short, pad = long[:, 3:], torch.full((1, 3), model.spec.tokens.pad or 0)
    mask = torch.ones(2, long.shape[1], dtype=torch.long)
    if side == "left":
        batch, mask[1, :3] = torch.cat([long, torch.cat([pad, short], 1)]), 0
    else:
        batch, mask[1, -3:] = torch.cat([long, torch.cat([short, pad], 1)]), 0
    made = model.generate(batch, attention_mask=mask, max_new_tokens=10, ignore_eos=True)
    for row, prompt in enumerate((long, short)):
        alone = model.generate(prompt, max_new_tokens=10, ignore_eos=True)
        assert torch.equal(made[row, -10:], alone[0, -10:])


@torch.no_grad()
def test_padding_is_read_off_the_tokens(golden: Path) -> None:
    """ChatGLM-6B without any mask: leading pad tokens are padding, in who is seen as in positions."""
    model, expected, tolerance = opened(golden, "chatglm_6b_28layers")
    mask = expected["left.attention_mask"].bool()
    assert int((expected["left.input_ids"] == model.spec.tokens.pad).sum()) == int((~mask).sum()) > 0
    near(model(expected["left.input_ids"]).logits, expected["left.logits"], tolerance, mask)
