"""Tokenizers that assay trained, in the published form: tokenizer.json and its settings, which transformers reads.

Ids are assay's own for every text. Here no text is ever read as a special token, and `split_special_tokens` asks the
same of transformers; the tokenizers package alone has no setting in the file for it.
"""

from __future__ import annotations

import json
from typing import Any

from assay.data.specials import FIRST, NAMES, special_name
from assay.data.tokenizer import BPETokenizer, ByteTokenizer, byte_alphabet
from assay.errors import UserError
from assay.published.token_files import FAST
from assay.published.tokens import Fast, PublishedTokenizer
from assay.spec.model import ModelSpec

__all__ = ["OWN", "published_form", "token_names"]

OWN = (BPETokenizer, ByteTokenizer)
"""The kinds of tokenizers that assay makes itself."""


def published_form(tokenizer: BPETokenizer | ByteTokenizer, spec: ModelSpec) -> PublishedTokenizer:
    """The same tokenizer as published ones are held; `save` writes it.

    Args:
        tokenizer: one that assay trained, or plain bytes.
        spec: the model that it goes with.

    Raises:
        UserError: it has ids that the model has no embedding for.
    """
    size = tokenizer.spec.vocab_size
    if size > spec.vocab_size:
        raise UserError(
            f"tokenizer: it has {size} ids, and the model's vocab_size = {spec.vocab_size}.",
            "Give the model the tokenizer that it was trained with.",
        )
    from tokenizers import Tokenizer, decoders

    names = token_names(tokenizer)
    special = [token for token in range(size) if not FIRST <= token < FIRST + len(tokenizer.pieces)]
    whole = tokenizer.bpe() or _plain_bytes()
    whole = {
        **whole,
        "model": {**whole["model"], "vocab": {name: token for token, name in enumerate(names)}},
        "added_tokens": [
            {
                "id": token, "content": names[token], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True,
            }
            for token in special
        ],
    }  # fmt: skip
    inner = Tokenizer.from_str(json.dumps(whole))
    inner.decoder = decoders.ByteLevel()
    inner.encode_special_tokens = True
    ids = tokenizer.vocabulary
    plain = {"bos_token": ids.bos, "eos_token": ids.eos, "pad_token": ids.pad, "mask_token": ids.mask}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    settings = {
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "model_input_names": inputs if spec.embedding.token_types else [inputs[0], inputs[2]],
        "additional_special_tokens": [names[token] for token in (*ids.named.values(), *ids.sentinels)],
    }
    specials = {name: NAMES[token] for name, token in plain.items() if token is not None}
    return PublishedTokenizer(Fast(inner, FAST), FAST, specials, settings=settings)


def token_names(tokenizer: BPETokenizer | ByteTokenizer) -> list[str]:
    """What each id is called in tokenizer.json: a letter a byte, or a special token's name.

    Names of special tokens mix letters and punctuation, which the cut before the merges keeps apart: no piece of text
    has such a name.
    """
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    say = tokenizer.spec
    names = []
    for token in range(say.vocab_size):
        name = special_name(token, say.vocab_size, say.sentinels)
        if name is None and token - FIRST < len(tokenizer.pieces):
            name = "".join(letters[byte] for byte in tokenizer.pieces[token - FIRST])
        names.append(name or f"<unused_{token}>")
    assert len(set(names)) == len(names), "two ids of one name"
    return names


def _plain_bytes() -> dict[str, Any]:
    """A byte-pair encoding without merges, over whole texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found: dict[str, Any] = json.loads(inner.to_str())
    return found
