"""llama.cpp, through llama-cpp-python, as a peer in decoding: the same weights in a float32 GGUF file."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.generation.model import Model
from benchmarks.equal import interleaved

__all__ = ["LlamaCpp", "write_gguf"]

HOW = "pip install llama-cpp-python (it compiles llama.cpp: several minutes of every core)"
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
"""Kinds of tokens in a GGUF file."""
BLOCK = {
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.o": "attn_output",
    "feedforward.gate": "ffn_gate", "feedforward.up": "ffn_up", "feedforward.down": "ffn_down",
    "attention_before": "attn_norm", "feedforward_before": "ffn_norm",
}  # fmt: skip
"""From assay's names in a block to GGUF's."""


def write_gguf(model: Model, path: Path) -> Path:
    """A LLaMA-like model with a tied head as llama.cpp's converter writes it; the vocabulary says nothing."""
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
    writer.add_token_list(["<unk>", "<s>", "</s>", "\n", *(f"<t{i}>" for i in range(4, spec.vocab_size))])
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
    """The same model in llama.cpp. Raises RuntimeError where the package is not installed."""

    def __init__(self, model: Model, threads: int, context: int = 512) -> None:
        """Args: threads: of its own pool; context: positions of its cache."""
        try:
            import llama_cpp
        except ImportError as error:
            raise RuntimeError(f"llama-cpp-python is not installed ({error}): {HOW}") from None
        self.module: Any = llama_cpp
        self.vocabulary = model.spec.vocab_size
        with tempfile.TemporaryDirectory() as folder:
            path = write_gguf(model, Path(folder) / "model.gguf")
            self.llm = llama_cpp.Llama(
                str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, use_mmap=False, verbose=False,
                type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
            )  # fmt: skip

    def generate(self, ids: Tensor, new: int) -> Tensor:
        """Greedy [1, prompt + new]: its own evaluation, the largest logit taken by NumPy."""
        tokens = ids[0].tolist()
        self.llm.reset()
        self.llm.eval(tokens)
        for _ in range(new):
            tokens.append(self._best())
            if len(tokens) < ids.shape[1] + new:
                self.llm.eval(tokens[-1:])
        return torch.tensor([tokens])

    def _best(self) -> int:
        pointer = self.module.llama_get_logits_ith(self.llm._ctx.ctx, -1)
        address = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(address, shape=(self.vocabulary,)).argmax())
