"""Peers: one LLaMA-like decoder as transformers, litgpt and x-transformers build it, each as a training step.

A training step is forward, mean cross-entropy over every position, backward, AdamW, and clearing the
gradients. All peers get the same shapes, float32, no biases, RMSNorm, rotary positions over the whole head
width, SwiGLU, untied head. `parameters` lets a caller check that the sizes agree before anything is timed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.training.step import precision


@dataclass(frozen=True)
class Size:
    """One model shape with its batch; `vocab_size` makes the total the size that the name says."""

    name: str
    layers: int
    width: int
    heads: int
    hidden: int
    vocab_size: int
    batch: int
    length: int
    threads: int

    @property
    def tokens(self) -> int:
        """Positions in one step."""
        return self.batch * self.length

    def linears(self) -> list[tuple[int, int, int, int]]:
        """(rows, inputs, outputs, how many) of every weight product of a forward pass, head included."""
        m, d, h = self.tokens, self.width, self.hidden
        return [
            (m, d, d, 4 * self.layers),
            (m, d, h, 2 * self.layers),
            (m, h, d, self.layers),
            (m, d, self.vocab_size, 1),
        ]


SIZES = {
    # 6 * (4 * 384^2 + 3 * 384 * 1024) + 2 * 512 * 384 + 13 * 384 = 11.0M
    "11M": Size("11M", 6, 384, 6, 1024, 512, 8, 256, 2),
    # 6 * (4 * 128^2 + 3 * 128 * 344) + 2 * 512 * 128 + 13 * 128 = 1.32M
    "1.3M": Size("1.3M", 6, 128, 4, 344, 512, 16, 128, 1),
    # 12 * (4 * 768^2 + 3 * 768 * 2048) + 2 * 32768 * 768 + 25 * 768 = 135M, for a GPU
    "135M": Size("135M", 12, 768, 12, 2048, 32768, 16, 1024, 2),
}


def build_transformers(size: Size, attention: str = "sdpa") -> nn.Module:
    """The transformers package's LlamaForCausalLM, by default with scaled-dot-product attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.width,
        intermediate_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.length,
        tie_word_embeddings=False,
        attention_bias=False,
        use_cache=False,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config)


def build_litgpt(size: Size) -> nn.Module:
    """The GPT of litgpt (fused query-key-value projection) as its LLaMA configurations set it."""
    from litgpt.model import GPT, Config

    config = Config(
        block_size=size.length,
        n_layer=size.layers,
        n_head=size.heads,
        n_embd=size.width,
        intermediate_size=size.hidden,
        padded_vocab_size=size.vocab_size,
        vocab_size=size.vocab_size,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=1e-6,
        mlp_class_name="LLaMAMLP",
    )
    return GPT(config)


def build_x_transformers(size: Size) -> nn.Module:
    """The x-transformers TransformerWrapper, set to be LLaMA-like, with SDPA (`attn_flash`)."""
    from x_transformers import Decoder, TransformerWrapper

    return TransformerWrapper(
        num_tokens=size.vocab_size,
        max_seq_len=size.length,
        use_abs_pos_emb=False,
        tie_embedding=False,
        attn_layers=Decoder(
            dim=size.width,
            depth=size.layers,
            heads=size.heads,
            attn_dim_head=size.width // size.heads,
            rotary_pos_emb=True,
            rotary_emb_dim=size.width // size.heads,
            use_rmsnorm=True,
            ff_glu=True,
            ff_swish=True,
            ff_no_bias=True,
            ff_mult=size.hidden / size.width,
            attn_flash=True,
        ),
    )


BUILDERS: dict[str, Callable[[Size], nn.Module]] = {
    "transformers": build_transformers,
    "litgpt": build_litgpt,
    "x-transformers": build_x_transformers,
}


def blocks_of(model: nn.Module) -> nn.ModuleList | None:
    """The list of decoder blocks, where there is one (x-transformers loops over pairs instead)."""
    for path in ("model.layers", "transformer.h"):
        node: Any = model
        for part in path.split("."):
            node = getattr(node, part, None)
        if isinstance(node, nn.ModuleList):
            return node
    return None


def parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def batch_of(size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(inputs, targets), both [batch, length], the targets one position ahead."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, size.vocab_size, (size.batch, size.length + 1), generator=generator)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def training_step(
    model: nn.Module, size: Size, compiled: str = "no", *, device: str = "cpu", dtype: str = "float32"
) -> Callable[[], Tensor]:
    """One whole step as a callable that returns the loss; the model is on that device, `dtype` is of its products.

    `compiled`: "no" (eager), "whole" (torch.compile of the model) or "blocks" (torch.compile of each block's
    forward). Raises ValueError for "blocks" where the model has no list of blocks.
    """
    model.train()
    inputs, targets = (ids.to(device) for ids in batch_of(size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    forward: Any = model
    if compiled == "whole":
        forward = torch.compile(model)
    elif compiled == "blocks":
        blocks = blocks_of(model)
        if blocks is None:
            raise ValueError("this peer has no list of blocks to compile one by one; use compiled='whole'")
        for block in blocks:
            block.compile()
    elif compiled != "no":
        raise ValueError(f"compiled={compiled!r}: use 'no', 'whole' or 'blocks'")

    def step() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with precision(dtype, device):
                out = forward(inputs)
                logits = getattr(out, "logits", out)
                loss = F.cross_entropy(logits.reshape(-1, size.vocab_size), targets.reshape(-1))
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
