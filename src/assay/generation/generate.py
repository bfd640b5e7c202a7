"""`Model.generate` and its relatives in text: from a caller's arguments to one search and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from assay.errors import UserError
from assay.generation.beams import beam_search
from assay.generation.cache import Cache
from assay.generation.decoding import Decoding
from assay.generation.plan import Plan, plan_answer, plan_prompt, to_right
from assay.generation.sampling import Chooser
from assay.generation.search import Stream, search
from assay.generation.settings import Settings, settings
from assay.generation.text import StopTexts, Teller, chat_text, encode
from assay.generation.visibility import memory_mask, self_context
from assay.spec.axes import Family, HeadKind

if TYPE_CHECKING:
    from assay.generation.model import Model


def generate(
    model: Model,
    input_ids: Tensor,
    *,
    stream: Stream | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    prefix_length: int | Tensor | None,
    decoder_input_ids: Tensor | None,
    decoder_attention_mask: Tensor | None,
    use_cache: bool,
    cache: Cache | None,
    **how: Any,
) -> Tensor:
    """See `Model.generate`."""
    spec, net = model.spec, model.transformer
    two = spec.family is Family.encoder_decoder
    if spec.family is Family.encoder or spec.head.kind is HeadKind.none:
        what = f"family {spec.family}" if spec.family is Family.encoder else "a model without a head"
        raise UserError(f"generate: {what} continues no text. Call the model itself for its hidden states or logits.")
    model.check_ids(input_ids, "input_ids")
    if not input_ids.numel():
        raise UserError(
            f"input_ids: shape {list(input_ids.shape)} holds no token, and generation begins from at least one. "
            "Give a prompt, such as the begin token alone."
        )
    if not two and (decoder_input_ids is not None or decoder_attention_mask is not None):
        raise UserError(f"decoder_input_ids: family {spec.family} has one stack; leave the argument out.")
    if two and prefix_length is not None:
        raise UserError("prefix_length: an encoder sees all of its input anyway; leave the argument out.")
    if cache is not None and (two or not use_cache or how.get("num_beams", 1) > 1):
        raise UserError("cache: carries a decoder's text from call to call, without beams. Leave it out here.")
    if stream is not None and how.get("num_beams", 1) > 1:
        raise UserError(f"stream: with num_beams={how['num_beams']} no token is certain before the end. Use one beam.")
    say = settings(spec, has_tokenizer=model.tokenizer is not None, **how)
    answer = input_ids
    if two:
        answer = model.start(input_ids) if decoder_input_ids is None else decoder_input_ids
        model.check_ids(answer, "decoder_input_ids")
        if answer.shape[0] != input_ids.shape[0] or not answer.shape[1]:
            raise UserError(
                f"decoder_input_ids: shape {list(answer.shape)} for {len(input_ids)} inputs. "
                "Give each input a row of at least one token."
            )
    was_training = net.training
    if was_training:
        net.eval()  # dropout has no place in an answer
    try:
        with torch.inference_mode():
            if two:
                plan = plan_answer(spec, answer, decoder_attention_mask, say.max_new_tokens)
                inputs, real = input_ids, attention_mask
                if position_ids is None:
                    inputs, real = to_right(input_ids, attention_mask)
                context = self_context(spec, inputs, real, position_ids, None)
                memory = net.encode(inputs, context.mask, position_ids=context.position_ids).hidden
                plan = Plan(plan.ids, plan.mask, plan.positions, memory, memory_mask(real, inputs))
                prompts = real_tokens(answer, decoder_attention_mask)
            else:
                plan = plan_prompt(spec, input_ids, attention_mask, position_ids, prefix_length, say.max_new_tokens)
                prompts = real_tokens(input_ids, attention_mask)
            keys = prompts if not two else [
                row + tail for row, tail in zip(real_tokens(input_ids, attention_mask), prompts, strict=True)
            ]  # fmt: skip
            made = _search(model, plan, say, prompts, keys, stream, cache, use_cache)
    finally:
        if was_training:
            net.train()
    return torch.cat((answer, made.clone()), 1)


def _search(
    model: Model,
    plan: Plan,
    say: Settings,
    prompts: list[list[int]],
    keys: list[list[int]],
    stream: Stream | None,
    cache: Cache | None,
    use_cache: bool,
) -> Tensor:
    run = Decoding(model.transformer, plan, say.max_new_tokens, cache=cache, use_cache=use_cache)
    stops = StopTexts(say.stop, model.tokenizer, prompts) if say.stop else None
    if say.num_beams > 1:
        made = beam_search(run, say, prompts, stops)
    else:
        choose = Chooser(say, prompts, model.spec.vocab_size, model.device, keys=keys)
        made = search(run, say, choose, stops, stream)
    run.finish()
    return made


def real_tokens(ids: Tensor, attention_mask: Tensor | None) -> list[list[int]]:
    """Every row's tokens, padding left out."""
    rows = ids.tolist()
    if attention_mask is None or attention_mask.shape != ids.shape:
        return rows
    kept = (attention_mask != 0).tolist()
    return [
        [token for token, real in zip(row, mask, strict=True) if real] for row, mask in zip(rows, kept, strict=True)
    ]


def generate_text(
    model: Model,
    prompt: str | Sequence[str],
    *,
    stream: Callable[[str], object] | None = None,
    stop: str | Sequence[str] | None = None,
    **how: Any,
) -> str | list[str]:
    """See `Model.generate_text`."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UserError("generate_text: this model has no tokenizer. Set model.tokenizer, or use generate with ids.")
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if stream is not None and len(texts) != 1:
        raise UserError(f"stream: tells one text as it grows, and there are {len(texts)} prompts. Give one.")
    encoded = [encode(tokenizer, text) for text in texts]
    for text, row in zip(texts, encoded, strict=True):
        if not row:
            raise UserError(f"prompt: {text!r} gives no token, and generation begins from at least one.")
    width = max(map(len, encoded))
    pad = model.spec.tokens.pad or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in encoded], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded], device=model.device)
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    two = model.spec.family is Family.encoder_decoder
    before: list[list[int]] = [[] for _ in texts] if two else encoded
    tellers = [Teller(tokenizer, row, stops, stream) for row in before]
    begin = model.start(ids).shape[1] if two else width

    def tell(tokens: Tensor) -> None:
        tellers[0](int(tokens[0]))

    out = model.generate(
        ids, attention_mask=None if bool(mask.all()) else mask, stop=stops or None,
        stream=tell if stream is not None else None, **how,
    )  # fmt: skip
    if stream is None:
        for row, teller in zip(out[:, begin:].tolist(), tellers, strict=True):
            for token in row:
                teller(token)
    answers = [teller.finish() for teller in tellers]
    return answers[0] if isinstance(prompt, str) else answers


def chat(model: Model, messages: Sequence[dict[str, str]], *, template: dict[str, Any] | None, **how: Any) -> str:
    """See `Model.chat`."""
    if model.tokenizer is None:
        raise UserError("chat: this model has no tokenizer. Set model.tokenizer.")
    text = generate_text(model, chat_text(model.tokenizer, messages, **(template or {})), **how)
    assert isinstance(text, str)
    return text
