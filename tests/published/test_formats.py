"""Safetensors single and sharded, pickles, types, and that opening costs neither copies nor the files' safety."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.published.common import hold

import assay
from assay.generation.model import Model
from assay.published.describe import spec_of
from assay.published.load import load

Copy = Callable[[], Path]


def equal(a: Model, b: Model) -> bool:
    """The same description and the same weights."""
    pairs = zip(a.named_parameters(), b.named_parameters(), strict=True)
    return a.spec == b.spec and all(n == m and torch.equal(x, y) for (n, x), (m, y) in pairs)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "sharded.bin", "sharded.safetensors", "legacy.bin", "nested.pt"]
)
def test_every_format_gives_the_same_model(name: str, copy: Copy, theirs: Any) -> None:
    folder = copy()
    whole = load(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if name == "sharded.safetensors":
        theirs.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
    elif name == "sharded.bin":
        theirs.save_pretrained(folder, max_shard_size="20KB", safe_serialization=False)
        assert (folder / "pytorch_model.bin.index.json").is_file()
    else:
        content = {"module": state, "iteration": 3} if name == "nested.pt" else state
        torch.save(content, folder / name.replace("legacy", "pytorch_model"),
                   _use_new_zipfile_serialization=name != "legacy.bin")  # fmt: skip
    # The copy has other files' addresses: read everything before the first model's files are gone.
    assert equal(load(folder), whole)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("asked", ["float32", "float16", "bfloat16"])
def test_types_convert(stored: torch.dtype, asked: str, copy: Copy) -> None:
    folder = copy()
    path = folder / "model.safetensors"
    state = {name: tensor.to(stored) for name, tensor in load_file(path).items()}
    save_file(state, path)
    model = load(folder, dtype=asked)
    wanted = getattr(torch, asked)
    assert {p.dtype for p in model.parameters()} == {wanted}
    q = model.get_parameter("transformer.decoder.blocks.0.attention.q.weight")
    assert torch.equal(q, state["model.layers.0.self_attn.q_proj.weight"].to(wanted))
    assert model(torch.arange(5)[None]).logits.dtype == wanted


def test_other_types_are_refused(copy: Copy) -> None:
    with pytest.raises(assay.UserError, match="dtype: 'int8'.*float32"):
        load(copy(), dtype="int8")


def test_weights_are_trainable_and_the_file_stays_as_it_was(copy: Copy) -> None:
    folder = copy()
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model = load(folder)
    assert not model.training
    loss = model(torch.arange(6)[None]).logits.square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= parameter.grad
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == before


def test_saving_over_the_files_that_a_model_maps(copy: Copy) -> None:
    folder = copy()
    model = load(folder)
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.save(folder, format="hf")
    assert all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())
    assert equal(load(folder), model)


def test_opening_maps_instead_of_copying(tmp_path: Path) -> None:
    """Resident memory grows by the file at most (each page once), and hardly at all before it is used."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        pytest.skip("resident memory is read from /proc")

    def resident() -> int:
        return int(statm.read_text().split()[1]) * 4096

    spec = assay.ModelSpec.from_dict({"width": 512, "layers": 8, "vocab_size": 8000, "attention": {"heads": 8}})
    assay.build(spec).save(tmp_path, format="hf")
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 100_000_000
    load(tmp_path)  # what loads once, loads here
    start = resident()
    model = load(tmp_path)
    assert resident() - start < 0.1 * size
    sum(float(p.detach().sum()) for p in model.parameters())
    assert resident() - start < 1.1 * size


def test_own_format_and_run_folders_load(tmp_path: Path, copy: Copy) -> None:
    model = load(copy())
    model.save(tmp_path / "own")
    again = assay.load(tmp_path / "own")
    assert equal(again, model)
    run = tmp_path / "run"
    step = run / "checkpoints" / "step-7"
    step.mkdir(parents=True)
    (tmp_path / "own" / "model.safetensors").rename(step / "model.safetensors")
    (step / "state.json").write_text("{}")
    (tmp_path / "own" / "spec.json").rename(run / "spec.json")
    assert equal(assay.load(run), model)


def test_hub_ids_offline_say_so() -> None:
    with pytest.raises(assay.UserError, match=r"nobody/nothing.*hub.*HF_HUB_OFFLINE"):
        load("nobody/nothing")


def test_raw_and_older_names(copy: Copy, theirs: Any) -> None:
    """Rotary buffers, a missing prefix, absent fields: first LLaMA files."""
    folder = copy()
    path = folder / "model.safetensors"
    state = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
    state["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(state, path)
    config = json.loads((folder / "config.json").read_text())
    for name in ("head_dim", "rope_theta", "attention_bias", "mlp_bias", "rope_scaling", "model_type"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    hold(load(folder), theirs)


def test_a_hub_id_is_fetched(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's client downloads is loaded; the description alone asks for no weights."""
    import huggingface_hub

    folder, asked = copy(), []

    def snapshot_download(repo: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert equal(load("someone/tiny"), load(folder))
    assert asked[-1][0] == "someone/tiny" and "*.safetensors" in asked[-1][1] and "*.bin" not in asked[-1][1]
    assert spec_of("someone/tiny") == load(folder).spec
    assert "*.safetensors" not in asked[-1][1]
