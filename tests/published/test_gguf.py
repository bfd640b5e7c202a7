"""GGUF files against transformers and against the folder they were made from; every common type; damaged files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.published.common import BASE, hold, reference, saved
from tests.published.gguf_files import write_gguf

from assay.errors import UserError
from assay.published.compare import meaning
from assay.published.describe import spec_of
from assay.published.gguf import read_array
from assay.published.gguf_file import BLOCKS, GGUF
from assay.published.load import load

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip

CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", "LlamaConfig", BASE, {}),
    "llama-tied-biases": (
        "llama",
        "LlamaConfig",
        BASE | {"tie_word_embeddings": True, "attention_bias": True, "head_dim": 12, "rms_norm_eps": 1e-5},
        {},
    ),
    "llama-linear": (
        "llama",
        "LlamaConfig",
        BASE | {"rope_scaling": {"type": "linear", "factor": 3.0}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 3.0},
    ),
    "llama-3.1": (
        "llama",
        "LlamaConfig",
        BASE | {"head_dim": 16, "rope_theta": 500_000.0, "rope_scaling": LLAMA3},
        {},
    ),
    "mixtral": (
        "llama",
        "MixtralConfig",
        BASE | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        {},
    ),
    "mistral": ("llama", "MistralConfig", BASE | {"sliding_window": 4}, {"attention.sliding_window": 4}),
    "qwen2": ("qwen2", "Qwen2Config", BASE | {"tie_word_embeddings": True}, {}),
    "qwen3": ("qwen3", "Qwen3Config", BASE | {"head_dim": 12}, {}),
    "gemma": ("gemma", "GemmaConfig", BASE | {"head_dim": 16}, {}),
    "gemma2": (
        "gemma2",
        "Gemma2Config",
        BASE | {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 16},
        {"attention.sliding_window": 4, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "olmo2": ("olmo2", "Olmo2Config", BASE, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers_and_its_folder(case: str, tmp_path: Path) -> None:
    arch, config, fields, extra = CASES[case]
    theirs: Any = reference(config, fields)
    path = write_gguf(tmp_path / "model.gguf", arch, theirs, extra=extra)
    ours, folder = load(path), load(saved(theirs, tmp_path / "hf"))
    hold(ours, theirs)
    assert meaning(ours.spec) == meaning(folder.spec) and ours.published_as == folder.published_as
    assert spec_of(path) == ours.spec
    ours.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out")
    for (name, a), (_, b) in zip(again.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_controls_fail(tmp_path: Path) -> None:
    """Queries that were not brought back to halves must show."""
    theirs: Any = reference("LlamaConfig", BASE)
    ours = load(write_gguf(tmp_path / "model.gguf", "llama", theirs))
    with torch.no_grad():
        query = ours.get_parameter("transformer.decoder.blocks.0.attention.q.weight")
        query.copy_(query.flip(0).clone())
    with pytest.raises(AssertionError):
        hold(ours, theirs)


STEPS = {"F16": 1e-3, "BF16": 1e-2, "Q8_0": 1e-2, "Q5_1": 4e-2, "Q5_0": 6e-2, "Q4_1": 8e-2, "Q4_0": 0.15}
"""By type: the largest error of a weight of size about 1."""


@pytest.mark.parametrize("kind", STEPS)
def test_types(kind: str, tmp_path: Path) -> None:
    sizes = BASE | {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    theirs: Any = reference("LlamaConfig", sizes)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(0.3 / parameter.abs().max())
    ours = load(write_gguf(tmp_path / "model.gguf", "llama", theirs, kind=kind))
    exact = load(saved(theirs, tmp_path / "hf"))
    gaps = [float((a - b).detach().abs().max()) for a, b in zip(ours.parameters(), exact.parameters(), strict=True)]
    assert 0 < max(gaps) <= STEPS[kind] * 0.3
    half = load(tmp_path / "model.gguf", dtype="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_k_types_by_hand(tmp_path: Path) -> None:
    """One block of Q4_K and one of Q6_K, worked out from the format's definition."""
    half = np.frombuffer(np.array([0.5, 0.25], np.float16).tobytes(), np.uint8).tolist()
    four = [*half, *[2] * 4, *[3] * 4, *[0x32] * 4, *[0x71] * 128]  # scales 2, minima 3; nibbles 1 and 7
    six = [*[0] * 128, *[0] * 64, *[2] * 16, *half[:2]]  # every code 0 means -32
    for kind, block in ((12, four), (14, six)):
        path = tmp_path / f"{kind}.gguf"
        path.write_bytes(container([("x", (1, 256), kind, bytes(block))]))
        found = read_array(GGUF.read(path), "x")
        wanted = np.full((1, 256), -32.0)
        if kind == 12:
            wanted = np.tile(np.repeat([0.5 * 2 * 1 - 0.25 * 3, 0.5 * 2 * 7 - 0.25 * 3], 32), 4)[None]
        assert found.dtype == np.float32 and np.array_equal(found, wanted)


def text(value: str) -> bytes:
    """A string as the format writes it."""
    return struct.pack("<Q", len(value)) + value.encode()


def container(tensors: list[tuple[str, tuple[int, ...], int, bytes]], arch: str = "llama") -> bytes:
    """A GGUF file written by hand."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    out += text("general.architecture") + struct.pack("<I", 8) + text(arch)
    at = 0
    for name, shape, kind, data in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1]) + struct.pack("<IQ", kind, at)
        at += -(-len(data) // 32) * 32
    out += b"\0" * (-len(out) % 32)
    for *_, data in tensors:
        out += data + b"\0" * (-len(data) % 32)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small sound file."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    return write_gguf(path, "llama", reference("LlamaConfig", BASE)).read_bytes()


def test_truncated_anywhere(whole: bytes, tmp_path: Path) -> None:
    """Cut at any length, a file is refused in one message that names it."""
    path = tmp_path / "model.gguf"
    for size in (0, 3, 4, 11, 30, 200, 1000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"model\.gguf: (truncated|is no GGUF|cannot be opened|corrupt)"):
            load(path)


def test_damaged(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for spoiled, told in (
        (b"GGML" + whole[4:], "is no GGUF file"),
        (whole[:4] + struct.pack("<I", 1) + whole[8:], "version 1"),
        (whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:], "count"),
        (container([("x", (1, 32), 99, b"")]), "tensor x is of the GGUF type 99"),
        (container([("x", (1, 33), 2, b"\0" * 18)]), "tensor x of type Q4_0"),
        (container([], arch="mamba"), "architecture 'mamba' is not supported"),
        (container([]), "token_embd.weight is missing"),
    ):
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match=told):
            load(path)


def test_contradictions(tmp_path: Path) -> None:
    """Metadata that do not fit the weights: the tensor is named."""
    theirs: Any = reference("LlamaConfig", BASE)
    path = tmp_path / "model.gguf"
    for extra, told in (
        ({"feed_forward_length": 57}, r"blk\.0\.ffn_gate\.weight has shape \[56, 32\].*\[57, 32\]"),
        ({"block_count": 4}, r"blk\.3\.attn_norm\.weight is missing"),
        ({"block_count": 2}, r"blk\.2\..* has no place"),
        ({"embedding_length": None}, r"llama\.embedding_length is missing"),
        ({"attention.head_count": 5}, "attention"),
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "longrope"),
    ):
        write_gguf(path, "llama", theirs, extra=extra)
        with pytest.raises(UserError, match=told):
            load(path)
    with pytest.raises(UserError, match="hint"):
        load(path, hint={"position": "rope"})


def test_sizes_of_types_are_the_packages() -> None:
    import gguf

    for kind, (name, elements, width) in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == (elements, width)
        assert gguf.GGMLQuantizationType[name] == kind


def test_without_the_package(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Floats need no gguf package; quantised types name the extra."""
    import sys

    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    sizes = BASE | {"hidden_size": 64, "intermediate_size": 96}
    quantised = write_gguf(tmp_path / "q.gguf", "llama", reference("LlamaConfig", sizes), kind="Q8_0")
    for name in [n for n in sys.modules if n == "gguf" or n.startswith("gguf.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "gguf", None)
    load(path)
    with pytest.raises(UserError, match=r"assay\[gguf\]"):
        load(quantised)
