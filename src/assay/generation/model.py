"""`Model`: a transformer with its tokenizer, as a user holds it. Names at this border are Hugging Face's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.generation.cache import Cache
from assay.generation.output import Output
from assay.generation.visibility import memory_mask, padding, self_context
from assay.nn.hooks import Tap
from assay.nn.transformer import Transformer
from assay.spec.axes import Family, HeadKind
from assay.spec.masks import Causal, Mask, MaskFacts, Padding
from assay.spec.model import ModelSpec


class Model(nn.Module):
    """A transformer, its description and its tokenizer."""

    def __init__(self, transformer: Transformer, tokenizer: Any = None) -> None:
        """Args: transformer: what computes; tokenizer: encodes and decodes text, or None."""
        super().__init__()
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.published_as: str | None = None
        """The published family that it was loaded from; exports prefer it."""
        self.states_before_norm = False
        """Whether the last of `hidden_states` is the one before the final norm, as some families' own code gives."""

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
        self.check_ids(input_ids, "input_ids")
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
                hidden_states=(*out.states[:-1], out.raw)
                if self.states_before_norm and out.states and out.raw is not None
                else out.states,
                seq_relationship_logits=net.head.sentence_pair(out.hidden),
            )
        encoded = net.encode(input_ids, context.mask, position_ids=context.position_ids, **kwargs)
        ids = self.start(input_ids) if decoder_input_ids is None else decoder_input_ids
        self.check_ids(ids, "decoder_input_ids")
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

    def generate(
        self,
        input_ids: Tensor,
        *,
        max_new_tokens: int,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool = False,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        ignore_eos: bool = False,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        stream: Callable[[Tensor], object] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        prefix_length: int | Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        use_cache: bool = True,
        cache: Cache | None = None,
    ) -> Tensor:
        """Continue every row; rows do not depend on each other, nor on padding.

        Args:
            input_ids: [B, S] prompts (an encoder-decoder's input).
            max_new_tokens: at most so many a row.
            do_sample: draw each token; False: the most likely one (with `num_beams` > 1: beam search).
            temperature: divides the logits, above 0.
            top_k: draw from the k most likely tokens.
            top_p: draw from the fewest tokens whose probabilities add up to this.
            min_p: draw from tokens at least this share as likely as the most likely one.
            repetition_penalty: above 1: tokens that the text holds become less likely.
            num_beams: hypotheses kept.
            length_penalty: beams are ranked by log-probability / length^this.
            early_stopping: end the beam search once `num_beams` hypotheses have ended.
            stop: texts that end a row, kept in its ids; needs a tokenizer.
            seed: of the draws; a row's draws depend on it and the row's own prompt alone. None: from torch's
                global generator.
            ignore_eos: an end token may be produced and does not stop.
            eos_token_id: instead of the model's own end tokens.
            pad_token_id: fills rows that have ended; None: the model's own, else its end token.
            stream: called with every step's new tokens [B].
            attention_mask: [B, S], 1 for real tokens, padding on either side; or a whole table as in `forward`.
            position_ids: the prompt's positions; the answer's count on as the family's rule says.
            prefix_length: as in `forward`, but None means the whole prompt in a prefix decoder without a rule.
            decoder_input_ids: [B, T] the answer's beginning, in an encoder-decoder; None: the start token.
            decoder_attention_mask: [B, T] its padding, on the left.
            use_cache: False: compute the whole text anew at every step.
            cache: an `assay.generation.cache.Cache` to carry from call to call: tokens that two calls share from
                the beginning are computed once.

        Returns:
            [B, S + new] prompts with answers (an encoder-decoder: the decoder's tokens, the start token included).
            Shorter than asked for where every row has ended.

        Raises:
            UserError: naming the argument, its value and what would work.
        """
        from assay.generation.generate import generate

        return generate(
            self, input_ids, max_new_tokens=max_new_tokens, do_sample=do_sample, temperature=temperature, top_k=top_k,
            top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty, num_beams=num_beams,
            length_penalty=length_penalty, early_stopping=early_stopping, stop=stop, seed=seed, ignore_eos=ignore_eos,
            eos_token_id=eos_token_id, pad_token_id=pad_token_id, stream=stream, attention_mask=attention_mask,
            position_ids=position_ids, prefix_length=prefix_length, decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask, use_cache=use_cache, cache=cache,
        )  # fmt: skip

    def generate_text(
        self,
        prompt: str | Sequence[str],
        *,
        max_new_tokens: int,
        stream: Callable[[str], object] | None = None,
        stop: str | Sequence[str] | None = None,
        **how: Any,
    ) -> str | list[str]:
        """The answer's text alone, without special tokens, up to a stop text.

        Args:
            prompt: one text, or several for a list of answers.
            max_new_tokens, stop, how: as in `generate`.
            stream: called with every piece of text as it becomes certain (one prompt only).

        Raises:
            UserError: no tokenizer, or as `generate`.
        """
        from assay.generation.generate import generate_text

        return generate_text(self, prompt, max_new_tokens=max_new_tokens, stream=stream, stop=stop, **how)

    def chat(
        self,
        messages: Sequence[dict[str, str]],
        *,
        max_new_tokens: int,
        template: dict[str, Any] | None = None,
        **how: Any,
    ) -> str:
        """The answer to messages [{"role": "user", "content": "..."}, ...] by the tokenizer's chat template.

        Args:
            messages: the conversation so far.
            max_new_tokens, how: as in `generate_text`.
            template: further variables for the template.

        Raises:
            UserError: no chat template, or as `generate_text`.
        """
        from assay.generation.generate import chat

        return chat(self, messages, template=template, max_new_tokens=max_new_tokens, **how)

    def save(self, folder: str | Path, format: str = "assay") -> None:
        """Write the model into a folder, whole or not at all.

        Args:
            folder: made where it does not exist.
            format: "assay", or another that `assay.generation.saving.exporters` knows ("hf").

        Raises:
            UserError: an unknown format, a folder that holds something else, a model that the format cannot say.
        """
        from assay.generation.saving import save

        save(self, folder, format)

    def _logits(self, hidden: Tensor, tap: Tap | None) -> Tensor | None:
        return None if self.spec.head.kind is HeadKind.none else self.transformer.logits(hidden, tap)

    def start(self, input_ids: Tensor) -> Tensor:
        """The decoder's first token for every input, [B, 1], in an encoder-decoder.

        Raises:
            UserError: the model names none.
        """
        start = self.spec.tokens.decoder_start
        if start is None:
            raise UserError("decoder_input_ids: this model names no start token (tokens.decoder_start); give them.")
        return torch.full_like(input_ids[:, :1], start)

    def check_ids(self, ids: Tensor, name: str) -> None:
        """Refuse what is no [batch, length] of the vocabulary's tokens.

        Raises:
            UserError: naming the argument.
        """
        if ids.dim() != 2:
            raise UserError(f"{name}: shape {list(ids.shape)}; tokens come as [batch, length].")
        if ids.numel() and (int(ids.max()) >= self.spec.vocab_size or int(ids.min()) < 0):
            worst = int(ids.max()) if int(ids.max()) >= self.spec.vocab_size else int(ids.min())
            raise UserError(f"{name}: token {worst} is outside the vocabulary of {self.spec.vocab_size}.")
