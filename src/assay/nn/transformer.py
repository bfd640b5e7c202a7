"""One `Transformer` for all four families: embedding, stacks, head. Tensors in, tensors out; no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.nn.feedforward import ACTIVATIONS
from assay.nn.hooks import Tap, touch
from assay.nn.norms import Norm
from assay.nn.stack import BlockCache, Stack, StackOutput
from assay.spec.axes import HeadKind
from assay.spec.masks import Mask
from assay.spec.model import ModelSpec


class Hidden(NamedTuple):
    """What the stacks give; `out` is the one that the head reads."""

    out: StackOutput
    encoder: StackOutput | None


class Head(nn.Module):
    """From the stream to logits over the vocabulary; the matrix is the embedding's where the two are tied."""

    def __init__(self, spec: ModelSpec) -> None:
        """Args: spec: the model."""
        super().__init__()
        say, width = spec.head, spec.width
        self.say = say
        self.chunk: Callable[..., Any] | None = None
        """A compiled form of `loss.chunk_loss`, where there is one."""
        mlm = say.kind is HeadKind.mlm
        self.dense = nn.Linear(width, width) if mlm else None
        self.norm = Norm(spec.norm, width) if mlm else None
        own = say.kind is not HeadKind.none and not say.tied
        self.weight = nn.Parameter(torch.empty(spec.vocab_size, width)) if own else None
        biased = say.kind is not HeadKind.none and say.bias
        self.bias = nn.Parameter(torch.empty(spec.vocab_size)) if biased else None
        self.pooler = nn.Linear(width, width) if say.sentence_pair else None
        self.sentence = nn.Linear(width, 2) if say.sentence_pair else None

    def features(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        """What the output matrix multiplies."""
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(ACTIVATIONS[self.say.activation](self.dense(hidden)))
        return hidden if self.say.scale is None else hidden * self.say.scale

    def matrix(self, embedding: Tensor) -> Float[Tensor, "vocabulary width"]:
        """The output matrix."""
        weight = embedding if self.weight is None else self.weight
        return F.normalize(weight, dim=-1) if self.say.normalised else weight

    def cap(self, logits: Tensor) -> Tensor:
        """Soft-capped logits where the description says so."""
        cap = self.say.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def sentence_pair(self, hidden: Float[Tensor, "b s width"]) -> Float[Tensor, "b 2"] | None:
        """BERT's next-sentence logits, from the first token."""
        if self.pooler is None or self.sentence is None:
            return None
        return self.sentence(torch.tanh(self.pooler(hidden[:, 0])))


class Transformer(nn.Module):
    """A transformer as its `ModelSpec` says; parameters are named as `spec.parameters.layout` lists them."""

    def __init__(self, spec: ModelSpec) -> None:
        """Args: spec: the model. Weights are uninitialised; `nn.build` fills them."""
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.width)
        self.encoder = Stack(spec, "encoder") if "encoder" in spec.stacks else None
        self.decoder = Stack(spec, "decoder") if "decoder" in spec.stacks else None
        self.head = Head(spec)

    @property
    def two_stacks(self) -> bool:
        """Whether this is an encoder-decoder."""
        return self.encoder is not None and self.decoder is not None

    def embed(self, ids: Int[Tensor, "b s"]) -> Float[Tensor, "b s width"]:
        """Token embeddings, scaled; their gradient shrunk where the description says so."""
        say, x = self.spec.embedding, self.embedding(ids)
        if say.gradient_shrink != 1:
            x = x * say.gradient_shrink + x.detach() * (1 - say.gradient_shrink)
        return x if say.scale is None else x * torch.tensor(say.scale, dtype=x.dtype)

    def encode(
        self,
        ids: Int[Tensor, "b s"],
        mask: Mask,
        *,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        states: bool = False,
        tap: Tap | None = None,
    ) -> StackOutput:
        """The encoder's output (encoder and encoder-decoder families)."""
        assert self.encoder is not None, f"family {self.spec.family} has no encoder"
        return self.encoder(
            self.embed(ids),
            mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            states=states,
            tap=tap,
        )

    def decode(
        self,
        ids: Int[Tensor, "b s"],
        mask: Mask,
        *,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        memory: Float[Tensor, "b m width"] | None = None,
        memory_mask: Mask | None = None,
        cache: list[BlockCache] | None = None,
        past: int = 0,
        states: bool = False,
        tap: Tap | None = None,
    ) -> StackOutput:
        """The decoder's output (causal, prefix and encoder-decoder families)."""
        assert self.decoder is not None, f"family {self.spec.family} has no decoder"
        return self.decoder(
            self.embed(ids), mask, position_ids=position_ids, token_type_ids=token_type_ids, memory=memory,
            memory_mask=memory_mask, cache=cache, past=past, states=states, tap=tap,
        )  # fmt: skip

    def logits(self, hidden: Float[Tensor, "... width"], tap: Tap | None = None) -> Float[Tensor, "... vocabulary"]:
        """Logits of the positions given; hand in only those that are wanted."""
        matrix = self.head.matrix(self.embedding.weight)
        out = F.linear(self.head.features(hidden), matrix, self.head.bias)
        return touch(tap, "logits", self.head.cap(out))
