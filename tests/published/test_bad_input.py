"""Damaged, contradictory and hostile input: one message with file, tensor and remedy; nothing executed."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from assay.errors import UserError
from assay.published.describe import spec_of
from assay.published.load import load

Copy = Callable[[], Path]
Q = "model.layers.1.self_attn.q_proj.weight"


def refused(folder: Path, *parts: str) -> str:
    """The message, which must hold all of the parts."""
    with pytest.raises(UserError) as caught:
        load(folder)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message.strip()
    return message


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the weights of a folder."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def configure(folder: Path, **fields: Any) -> None:
    """Change the configuration of a folder."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_missing_tensor(copy: Copy) -> None:
    folder = copy()
    rewrite(folder, lambda state: state.__delitem__(Q))
    refused(folder, str(folder), Q, "missing", "configuration")


def test_several_missing_are_counted(copy: Copy) -> None:
    folder = copy()
    rewrite(folder, lambda state: [state.pop(name) for name in list(state) if "layers.2" in name])
    refused(folder, "and 8 more", "layers.2")


def test_unexpected_tensor(copy: Copy) -> None:
    folder = copy()
    rewrite(folder, lambda state: state.update({"model.layers.9.self_attn.q_proj.weight": torch.ones(3, 3)}))
    refused(folder, "model.safetensors", "model.layers.9.self_attn.q_proj.weight", "no place")


def test_misshapen_tensor(copy: Copy) -> None:
    folder = copy()
    rewrite(folder, lambda state: state.update({Q: torch.ones(32, 31)}))
    refused(folder, "model.safetensors", Q, "[32, 31]", "[32, 32]", "configuration")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"num_hidden_layers": 4}, ("model.layers.3", "missing")),
        ({"num_hidden_layers": 2}, ("model.layers.2", "no place")),
        ({"intermediate_size": 60}, ("mlp.", "shape", "60")),
        ({"num_key_value_heads": 4}, ("k_proj", "shape")),
        ({"attention_bias": True}, ("q_proj.bias", "missing")),
        ({"vocab_size": 98}, ("embed_tokens", "98")),
        ({"hidden_size": "32"}, ("config.json", "hidden_size", "whole number")),
        ({"hidden_size": 33, "head_dim": None}, ("heads", "33")),
        ({"hidden_act": "mish"}, ("hidden_act", "mish", "silu")),
        ({"rope_scaling": {"type": "longrope", "factor": 2}}, ("rope_scaling", "longrope", "yarn")),
        ({"rope_scaling": {"rope_type": "linear"}}, ("rope_scaling", "factor")),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, ("original_max_position_embeddings",)),
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, ("mamba", "not supported", "llama")),
        ({"num_attention_heads": None}, ("num_attention_heads", "missing")),
        ({"quantization_config": {"bits": 4}}, ("quantization_config", "original")),
    ],
)
def test_configuration_that_contradicts_the_weights(copy: Copy, change: dict[str, Any], parts: tuple[str, ...]) -> None:
    folder = copy()
    configure(folder, **change)
    refused(folder, *parts)


@pytest.mark.parametrize("kept", [0, 4, 8, 500, -1, -1000])
def test_truncated_safetensors(copy: Copy, kept: int) -> None:
    path = copy() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(path.parent, "model.safetensors", "Download the file again")


@pytest.mark.parametrize("where", [0, 7, 9, 30])
def test_corrupt_safetensors_header(copy: Copy, where: int) -> None:
    path = copy() / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[where] ^= 0xFF
    path.write_bytes(content)
    refused(path.parent, "model.safetensors")


def test_no_weights_no_configuration_no_folder(copy: Copy, tmp_path: Path) -> None:
    folder = copy()
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "JSON")
    (folder / "config.json").unlink()
    refused(folder, "config.json", "params.json")
    refused(tmp_path / "nowhere", "nowhere", "no such folder")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../../x.safetensors", "C:\\x", "..\\x"])
def test_index_may_not_leave_its_folder(copy: Copy, name: str) -> None:
    folder = copy()
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {Q: name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "index.json", repr(name), "outside")


def test_index_that_lies(copy: Copy) -> None:
    folder = copy()
    names = load_file(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "part.safetensors")}))
    refused(folder, "part.safetensors", "not there")
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    load(folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*names, "ghost"], "part.safetensors")}))
    refused(folder, "ghost", "missing")
    index.write_text("[]")
    refused(folder, "index.json", "no index")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickle_that_would_execute(copy: Copy, tmp_path: Path, name: str, legacy: bool) -> None:
    folder, mark = copy(), tmp_path / "executed"
    state: dict[str, Any] = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state | {"x": Evil(mark)}, folder / name, _use_new_zipfile_serialization=not legacy)
    refused(folder, name, "posix.system", "Nothing was executed", "safetensors")
    assert not mark.exists()


def test_plain_pickle_is_refused(copy: Copy, tmp_path: Path) -> None:
    folder, mark = copy(), tmp_path / "executed"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(mark)}, protocol=2))
    refused(folder, "pytorch_model.bin")
    assert not mark.exists()


def test_other_global_is_named(copy: Copy) -> None:
    folder = copy()
    (folder / "model.safetensors").unlink()
    torch.save({"x": re.compile("a")}, folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "re._compile")


def test_truncated_and_empty_pickles(copy: Copy) -> None:
    folder = copy()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(state, path)
    whole = path.read_bytes()
    for kept in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:kept])
        refused(folder, "pytorch_model.bin", "truncated or corrupt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    refused(folder, "pytorch_model.bin")
    torch.save({"step": 3}, path)
    refused(folder, "pytorch_model.bin", "no named tensors")


def test_quantised_weights_are_refused(copy: Copy) -> None:
    folder = copy()
    rewrite(folder, lambda state: state.update({Q: torch.ones(32, 32, dtype=torch.int8)}))
    refused(folder, Q, "quantised", "float32")


def test_hints_are_checked(copy: Copy) -> None:
    with pytest.raises(UserError, match="hint: 'position' means nothing to LLaMA"):
        load(copy(), hint={"position": "rope"})


def test_a_gguf_or_a_file_is_told_apart(copy: Copy) -> None:
    refused(copy() / "config.json", "is a file", "folder")


def test_two_loose_files_are_ambiguous(copy: Copy) -> None:
    folder = copy()
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    load(folder)
    save_file({"x": torch.ones(1)}, folder / "b.safetensors")
    refused(folder, "a.safetensors", "b.safetensors", "index")


def test_description_needs_no_weights(copy: Copy) -> None:
    folder = copy()
    whole = load(folder).spec
    (folder / "model.safetensors").unlink()
    assert spec_of(folder) == whole


WRONG = ("x", -1, 0, 1.5, True, None, [], {}, ["a"], {"type": "x"}, 5000)


@pytest.mark.parametrize("name", ["gemma2", "falcon", "gpt2", "mixtral"])
def test_any_wrong_field_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    """Each field of a configuration in turn takes values of every kind: it loads, or is refused in one message."""
    from tests.published.common import reference, saved
    from tests.published.test_transformers import CASES

    case = next(case for case in CASES if case.startswith(name))
    folder = saved(reference(*CASES[case]), tmp_path)
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    refusals = 0
    for field in fields:
        for value in WRONG:
            path.write_text(json.dumps(fields | {field: value}))
            try:
                spec_of(folder)
            except UserError:
                refusals += 1
    assert refusals > len(fields)


def test_any_flipped_byte_of_a_header(copy: Copy) -> None:
    path = copy() / "model.safetensors"
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    generator = torch.Generator().manual_seed(0)
    refusals = 0
    for _ in range(200):
        content = bytearray(whole)
        where, value = (int(torch.randint(0, top, (), generator=generator)) for top in (length, 256))
        content[where] = value
        path.write_bytes(content)
        try:
            load(path.parent)
        except UserError:
            refusals += 1
    assert refusals > 150


@pytest.mark.parametrize(
    "text",
    [b"[]", b"null", b'{"a": []}', b"[" * 100_000, b'{"a": {"dtype": "F32", "shape": [-1]}}'],
    ids=["list", "null", "entry", "deep", "negative"],
)
def test_headers_of_another_kind(copy: Copy, text: bytes) -> None:
    path = copy() / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path.parent, "model.safetensors", "corrupt", "Download")
