"""llama.cpp, through xllamacpp, as a peer in decoding: the same weights in a float32 GGUF file.

xllamacpp brings llama.cpp compiled. llama-cpp-python would compile it here, which took longer than the whole suite may.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.generation.model import Model
from benchmarks.equal import interleaved

__all__ = ["LlamaCpp", "write_gguf"]

HOW = "pip install --no-deps -r benchmarks/requirements.lock"
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
"""Kinds of tokens in a GGUF file."""
PIECE = 512
"""Tokens of all rows that are read at once at most."""
NAME = "<t{}>"
"""A token's text: what is decoded says by itself which ids it was."""
BLOCK = {
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.o": "attn_output",
    "feedforward.gate": "ffn_gate", "feedforward.up": "ffn_up", "feedforward.down": "ffn_down",
    "attention_before": "attn_norm", "feedforward_before": "ffn_norm",
}  # fmt: skip
"""From assay's names in a block to GGUF's."""


def write_gguf(model: Model, path: Path) -> Path:
    """A LLaMA-like model with a tied head as llama.cpp's converter writes it; a token's text is its number."""
    import gguf

    spec = model.spec
    heads, shared = spec.heads("decoder"), spec.kv_heads("decoder")
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(spec.layers)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.width)
    writer.add_feed_forward_length(spec.feedforward_width("decoder"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(spec.norm.eps)
    writer.add_rope_freq_base(spec.positions.theta)
    writer.add_rope_dimension_count(spec.width // heads)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([NAME.format(i) for i in range(spec.vocab_size)])
    writer.add_token_scores([0.0] * spec.vocab_size)
    writer.add_token_types([UNKNOWN, CONTROL, CONTROL, *[NORMAL] * (spec.vocab_size - 3)])
    ours = {name: tensor.detach().float() for name, tensor in model.transformer.named_parameters()}

    def add(name: str, tensor: Tensor) -> None:
        writer.add_tensor(name, tensor.contiguous().numpy())

    add("token_embd.weight", ours["embedding.weight"])
    add("output_norm.weight", ours["decoder.final_norm.weight"])
    for layer in range(spec.layers):
        for mine, theirs in BLOCK.items():
            tensor = ours[f"decoder.blocks.{layer}.{mine}.weight"]
            if theirs in ("attn_q", "attn_k"):  # rotary positions turn neighbours there
                tensor = interleaved(tensor, heads if theirs == "attn_q" else shared)
            add(f"blk.{layer}.{theirs}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class LlamaCpp:
    """The same model in llama.cpp, its cache in float32, rows decoded together by its continuous batching.

    Raises:
        RuntimeError: the package is not installed.
    """

    def __init__(self, model: Model, threads: int, rows: int = 1, context: int = 512, *, causal: bool = True) -> None:
        """Load it.

        Args:
            model: LLaMA-like, its head tied.
            threads: of llama.cpp's own pool.
            rows: decoded at once.
            context: positions of each row's cache.
            causal: False: every token sees all that the cache holds of its row, so a prompt that is read in one piece
                sees itself whole, and what follows, one token at a time, sees what is before it: a prefix decoder.
        """
        try:
            import xllamacpp
        except ImportError as error:
            raise RuntimeError(f"xllamacpp is not installed ({error}): {HOW}") from None
        params = xllamacpp.CommonParams()
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context * rows, rows, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        if not causal:
            params.attention_type = xllamacpp.llama_attention_type.LLAMA_ATTENTION_TYPE_NON_CAUSAL
            params.n_batch = params.n_ubatch = PIECE  # llama.cpp refuses a batch in several pieces then
        params.cache_prompt, params.special = False, True
        params.cache_ram_mib = 0  # nor are old prompts kept aside, which would be work that nobody asked for
        params.verbosity = -1
        self.pool = ThreadPoolExecutor(rows)
        with tempfile.TemporaryDirectory() as folder:
            params.model.path = str(write_gguf(model, Path(folder) / "model.gguf"))
            self.server: Any = xllamacpp.Server(params)

    def generate(self, ids: Tensor, new: int) -> Tensor:
        """Greedy [rows, prompt + new]: all rows are asked for at the same time."""
        return torch.tensor(list(self.pool.map(lambda row: self._row(row, new), ids.tolist())))

    def _row(self, prompt: list[int], new: int) -> list[int]:
        asked = {"prompt": prompt, "max_tokens": new, "temperature": 0.0, "ignore_eos": True, "cache_prompt": False}
        told: dict[str, Any] = self.server.handle_completions(asked)
        return [*prompt, *(int(number) for number in re.findall(r"<t(\d+)>", told["choices"][0]["text"]))]
