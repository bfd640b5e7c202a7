"""GGUF files (llama.cpp's): metadata as a published configuration, names as another spelling of a family's own.

Each architecture is a family of this room under other names, so a GGUF file and the folder that it was made from
have equal descriptions. Made files differ in layout: LLaMA's queries and keys turn neighbouring features, Gemma's
gains hold the 1 already, experts of a layer stand in one tensor, and stretched frequencies are stored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.published import gemma, llama, mistral, olmo, qwen
from assay.published.base import Family, Fields, Given, Row
from assay.published.config import Config
from assay.published.describe import Described
from assay.published.files import AGAIN
from assay.published.gguf_file import BLOCKS, GGUF
from assay.published.transforms import SAME, Piled, Shifted, Transform, Unpaired
from assay.spec.model import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["ARCHITECTURES", "Quantised", "describe_gguf"]

SPELLED = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "block_sparse_moe.experts.{e}.w1": "ffn_gate_exps",
    "block_sparse_moe.experts.{e}.w3": "ffn_up_exps",
    "block_sparse_moe.experts.{e}.w2": "ffn_down_exps",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""From a family's names, layer prefix left off, to GGUF's."""

OUT_NORM = {"post_attention_layernorm": "post_attention_norm"}
"""Where post_attention_layernorm is a norm on attention's output (Gemma 2, OLMo 2)."""

LAYER = "model.layers.{i}."


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How one `general.architecture` is read."""

    base: Callable[[Given], Family]
    """The family of this room that it is."""
    out_norms: bool = False
    paired: bool = False
    """Queries and keys turn neighbours."""
    added_one: bool = False
    """Norms hold 1 + w."""
    eps: str = "attention.layer_norm_rms_epsilon"


def _llama(given: Given) -> Family:
    if given.config.raw("num_local_experts"):
        return mistral.FAMILIES[1]
    return mistral.FAMILIES[0] if given.config.raw("sliding_window") else llama.FAMILIES[0]


ARCHITECTURES = {
    "llama": Architecture(_llama, paired=True),
    "mistral": Architecture(_llama, paired=True),
    "qwen2": Architecture(lambda given: qwen.FAMILIES[0]),
    "qwen3": Architecture(lambda given: qwen.FAMILIES[1]),
    "gemma": Architecture(lambda given: gemma.FAMILIES[0], added_one=True),
    "gemma2": Architecture(lambda given: gemma.FAMILIES[1], added_one=True, out_norms=True),
    "olmo2": Architecture(lambda given: olmo.FAMILIES[1], out_norms=True),
}
"""By `general.architecture`."""


def describe_gguf(path: Path) -> tuple[Described, GGUF]:
    """Family and description of a GGUF file; of the weights only names and shapes are read.

    Raises:
        UserError: damaged, an architecture that is not supported, or metadata that contradict the weights.
    """
    file = GGUF.read(path)
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UserError(
            f"{path}: the architecture {name!r} is not supported.",
            f"Supported in GGUF: {', '.join(ARCHITECTURES)}. Or use the original's folder.",
        )
    say = ARCHITECTURES[name]
    config = Config(_config(file, name, say), path)
    shapes = {tensor: record.shape for tensor, record in file.tensors.items()}
    given = Given(config, {}, lambda: shapes)
    base = say.base(given)
    spec = ModelSpec.from_dict(base.to_spec(given), source=str(path))
    family = dataclasses.replace(
        base,
        table=lambda spec: _table(base, spec, say),
        prefix="",
        renames=(),
        tied=("output.weight",),
        extras=(r"rope_freqs\.weight", r".*rope_factors_(long|short)\.weight", r".*attn_rot_embd"),
    )
    return Described(path.parent, family, spec, given, None), file


def _table(base: Family, spec: ModelSpec, say: Architecture) -> Iterator[Row]:
    for row in base.table(spec):
        assert isinstance(row.theirs, str) and isinstance(row.ours, str) and row.by is SAME
        yield Row(_every(row.ours, spec), _spelled(row.theirs, say), _transform(row.theirs, spec, say))


def _every(ours: str, spec: ModelSpec) -> str | tuple[str, ...]:
    experts = spec.feedforward.experts
    if "{e}" not in ours or experts is None:
        return ours
    return tuple(ours.replace("{e}", str(number)) for number in range(experts.count))


def _spelled(theirs: str, say: Architecture) -> str:
    inner = theirs.removeprefix(LAYER)
    name = OUT_NORM.get(inner) if say.out_norms else None
    return ("blk.{i}." if inner != theirs else "") + (name or SPELLED[inner])


def _transform(theirs: str, spec: ModelSpec, say: Architecture) -> Transform:
    if "{e}" in theirs:
        return Piled()
    if say.paired and theirs.endswith(("q_proj", "k_proj")):
        return Unpaired(spec.heads("decoder") if theirs.endswith("q_proj") else spec.kv_heads("decoder"))
    return Shifted(-1.0) if say.added_one and theirs.endswith("norm") else SAME


def _config(file: GGUF, name: str, say: Architecture) -> Fields:
    """Metadata under the names of config.json.

    Raises:
        UserError: a size is missing.
    """

    def get(key: str, default: Any = None) -> Any:
        return file.metadata.get(f"{name}.{key}", default)

    def need(key: str, kind: type = int) -> Any:
        value = get(key)
        if isinstance(value, list):  # some files give one value a layer
            value = value[0] if value and all(other == value[0] for other in value) else None
        if value is None:
            raise UserError(f"{file.path}: {name}.{key} is missing, or differs by layer.", "Convert the model again.")
        return _number(file, f"{name}.{key}", value, kind)

    shapes = {tensor: record.shape for tensor, record in file.tensors.items()}
    if "token_embd.weight" not in shapes:
        raise UserError(f"{file.path}: tensor token_embd.weight is missing.", "Convert the model again.")
    heads, width = need("attention.head_count"), need("embedding_length")
    if not 0 < heads <= width:
        raise UserError(f"{file.path}: {name}.attention.head_count = {heads} of width {width}.", "Convert it again.")
    fields: Fields = {
        "model_type": name,
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": width,
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": need("attention.head_count_kv") if get("attention.head_count_kv") else heads,
        "head_dim": get("attention.key_length", width // heads),
        "intermediate_size": need("feed_forward_length"),
        "max_position_embeddings": need("context_length"),
        "rms_norm_eps": _rounded(need(say.eps, float)),
        "rope_theta": get("rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "sliding_window": get("attention.sliding_window"),
        "rope_scaling": _scaling(file, name),
        "attn_logit_softcapping": get("attn_logit_softcapping"),
        "final_logit_softcapping": get("final_logit_softcapping"),
    }
    if get("expert_count"):
        fields |= {"num_local_experts": get("expert_count"), "num_experts_per_tok": get("expert_used_count", 2)}
    if name == "gemma2":
        # llama.cpp's own rule: the 27B scales by width / heads, the others by the head's width.
        fields["query_pre_attn_scalar"] = width // heads if fields["num_hidden_layers"] == 46 else fields["head_dim"]
    for ours, theirs in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
        fields[f"{ours}_token_id"] = file.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
    return fields


def _number(file: GGUF, key: str, value: Any, kind: type) -> Any:
    """A value of the metadata, if it is a number of that kind.

    Raises:
        UserError: it is none.
    """
    number = isinstance(value, int | float) and isinstance(value, int | kind) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise UserError(f"{file.path}: {key} = {value!r}: a number belongs here.", "Convert the model again.")
    return value


def _rounded(value: float) -> float:
    """A float32 as the short decimal that was meant: 9.999999747378752e-06 is 1e-05."""
    return float(f"{value:.6g}")


def _scaling(file: GGUF, name: str) -> Fields | None:
    kind = file.metadata.get(f"{name}.rope.scaling.type")
    factor = file.metadata.get(f"{name}.rope.scaling.factor")
    original = file.metadata.get(f"{name}.rope.scaling.original_context_length")
    if "rope_freqs.weight" in file.tensors:
        return _llama3(file, name)
    if kind in (None, "none") or factor is None:
        return None
    if kind not in ("linear", "yarn"):
        raise UserError(f"{file.path}: {name}.rope.scaling.type = {kind!r} is not supported.", "Use linear or yarn.")
    return {"rope_type": kind, "factor": factor, **({"original_max_position_embeddings": original} if original else {})}


def _llama3(file: GGUF, name: str) -> Fields:
    """Llama 3.1's stretch, of which a file keeps only what each frequency is divided by.

    Raises:
        UserError: divisors of another stretch.
    """
    import numpy as np

    found = np.asarray(read_array(file, "rope_freqs.weight"), np.float64)
    key = f"{name}.rope.freq_base"
    theta = float(_number(file, key, file.metadata.get(key, 10_000.0), float))
    if found.ndim != 1 or not np.isfinite(found).all() or not (found > 0).all() or theta <= 0:
        raise UserError(f"{file.path}: tensor rope_freqs.weight holds no divisors of frequencies.", AGAIN)
    factor, original, low, high = float(found.max()), 8192, 1.0, 4.0
    frequency = theta ** (-np.arange(len(found)) / len(found))
    turns = original * frequency / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(1 / found, (1 - share) / factor + share, rtol=1e-3):
        raise UserError(
            f"{file.path}: tensor rope_freqs.weight stretches positions in a way that is not Llama 3.1's.",
            "Use the original's folder.",
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": original,
        "low_freq_factor": low,
        "high_freq_factor": high,
    }


def read_array(file: GGUF, name: str) -> np.ndarray[Any, Any]:
    """One tensor as an array: floats as they are stored, quantised types as float32.

    Raises:
        UserError: a quantised type without the `gguf` package, or one that it cannot expand.
    """
    import numpy as np

    record = file.tensors[name]
    label, elements, width = BLOCKS[record.kind]
    raw = np.memmap(file.path, np.uint8, "r", record.begin, (record.size,))
    if label in ("F32", "F16", "F64"):
        return raw.view({"F32": np.float32, "F16": np.float16, "F64": np.float64}[label]).reshape(record.shape)
    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise UserError(
            f"{file.path}: tensor {name} is of type {label}, and expanding it needs the gguf package.",
            'Install it: pip install "assay[gguf]".',
        ) from None
    rows = raw.reshape(*record.shape[:-1], record.shape[-1] // elements * width)
    try:
        found = dequantize(rows, GGMLQuantizationType[label])
    except (NotImplementedError, KeyError):
        raise UserError(
            f"{file.path}: tensor {name} is of type {label}, which the installed gguf package cannot expand.",
            "Update gguf, or use a file of another type.",
        ) from None
    return np.asarray(found).reshape(record.shape)


class Quantised:
    """The tensors of a GGUF file, expanded one at a time as they are asked for."""

    def __init__(self, file: GGUF) -> None:
        """Args: file: its header."""
        self._file = file
        self.shapes = {name: record.shape for name, record in file.tensors.items()}

    def get(self, name: str) -> Tensor:
        """The tensor; quantised types as float32."""
        import numpy as np
        import torch

        record = self._file.tensors[name]
        if BLOCKS[record.kind][0] == "BF16":
            raw = np.memmap(self._file.path, np.uint8, "c", record.begin, (record.size,))
            return torch.from_numpy(raw).view(torch.bfloat16).reshape(record.shape)
        array = read_array(self._file, name)
        # Mapped read-only: torch wants its arrays writable, and copying is what expanding does anyway.
        return torch.from_numpy(np.array(array))

    def place(self, name: str) -> str:
        """Its file."""
        return str(self._file.path)
