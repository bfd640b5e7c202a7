"""`Model`: a transformer with its tokenizer, as a user holds it. Names at this border are Hugging Face's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.generation.output import Output
from assay.generation.visibility import padding, self_context
from assay.nn.hooks import Tap
from assay.nn.transformer import Transformer
from assay.spec.axes import Family, HeadKind
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding
from assay.spec.model import ModelSpec


class Model(nn.Module):
    """A transformer, its description and its tokenizer."""

    def __init__(self, transformer: Transformer, tokenizer: Any = None) -> None:
        """Args: transformer: what computes; tokenizer: encodes and decodes text, or None."""
        super().__init__()
        self.transformer = transformer
        self.tokenizer = tokenizer

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self.transformer.spec

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.transformer.embedding.weight.device

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        prefix_length: int | Tensor | None = None,
        output_hidden_states: bool = False,
        tap: Tap | None = None,
    ) -> Output:
        """Logits at every position of the output stack.

        Args:
            input_ids: [B, S] tokens (of the encoder, in an encoder-decoder).
            attention_mask: [B, S], 1 for real tokens, 0 for padding on either side; or a table [B, 1, S, S],
                nonzero = visible.
            position_ids: [B, S] (two rows, [B, 2, S], where the model has two); None: the family's own.
            token_type_ids: [B, S] segments.
            decoder_input_ids: [B, T], in an encoder-decoder; None: its start token.
            decoder_attention_mask: [B, T] as `attention_mask`.
            prefix_length: leading positions visible to every row, one number or [B]; None: the family's own rule
                (from the prompt's tokens where there is one, else causal); 0: causal.
            output_hidden_states: also return every layer's output.
            tap: instruments at the hook points (`nn/hooks.py`).

        Raises:
            UserError: a token outside the vocabulary, a shape that does not fit, an argument the family lacks.
        """
        spec, net = self.spec, self.transformer
        self._check_ids(input_ids, "input_ids")
        if token_type_ids is not None and not spec.embedding.token_types:
            raise UserError("token_type_ids: this model has no segment embeddings; leave the argument out.")
        context = self_context(spec, input_ids, attention_mask, position_ids, prefix_length)
        kwargs: dict[str, Any] = {"token_type_ids": token_type_ids, "states": output_hidden_states, "tap": tap}
        if spec.family is not Family.encoder_decoder:
            if decoder_input_ids is not None:
                raise UserError(f"decoder_input_ids: family {spec.family} has one stack; leave the argument out.")
            run = net.encode if spec.family is Family.encoder else net.decode
            out = run(input_ids, context.mask, position_ids=context.position_ids, **kwargs)
            return Output(
                logits=self._logits(out.hidden, tap),
                last_hidden_state=out.hidden,
                hidden_states=out.states,
                seq_relationship_logits=net.head.sentence_pair(out.hidden),
            )
        encoded = net.encode(input_ids, context.mask, position_ids=context.position_ids, **kwargs)
        ids = self._start(input_ids) if decoder_input_ids is None else decoder_input_ids
        self._check_ids(ids, "decoder_input_ids")
        real = padding(decoder_attention_mask, ids, "decoder_attention_mask")
        own = Mask(Causal()) if real is None else Mask(Causal() & Padding(), MaskFacts(key_mask=real))
        out = net.decode(
            ids,
            own,
            memory=encoded.hidden,
            memory_mask=memory_mask(attention_mask, input_ids),
            states=output_hidden_states,
            tap=tap,
        )
        return Output(
            logits=self._logits(out.hidden, tap),
            last_hidden_state=out.hidden,
            encoder_last_hidden_state=encoded.hidden,
            encoder_hidden_states=encoded.states,
            decoder_hidden_states=out.states,
        )

    def _logits(self, hidden: Tensor, tap: Tap | None) -> Tensor | None:
        return None if self.spec.head.kind is HeadKind.none else self.transformer.logits(hidden, tap)

    def _start(self, input_ids: Tensor) -> Tensor:
        start = self.spec.tokens.decoder_start
        if start is None:
            raise UserError("decoder_input_ids: this model names no start token (tokens.decoder_start); give them.")
        return torch.full_like(input_ids[:, :1], start)

    def _check_ids(self, ids: Tensor, name: str) -> None:
        if ids.dim() != 2:
            raise UserError(f"{name}: shape {list(ids.shape)}; tokens come as [batch, length].")
        if ids.numel() and (int(ids.max()) >= self.spec.vocab_size or int(ids.min()) < 0):
            worst = int(ids.max()) if int(ids.max()) >= self.spec.vocab_size else int(ids.min())
            raise UserError(f"{name}: token {worst} is outside the vocabulary of {self.spec.vocab_size}.")


def memory_mask(attention_mask: Tensor | None, input_ids: Tensor) -> Mask:
    """Who sees the encoder's output: everyone, but padding is seen by no one."""
    real = padding(attention_mask, input_ids, "attention_mask")
    return Mask(Bidirectional()) if real is None else Mask(Bidirectional() & Padding(), MaskFacts(key_mask=real))
