"""A model to tune or evaluate from a SOURCE: weights where there are any, else a fresh model with a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.data.corpus import Corpus
from assay.data.tokenizer import train_tokenizer
from assay.errors import UserError
from assay.generation.build import build
from assay.generation.model import Model
from assay.published.load import load
from assay.published.source import resolve
from assay.spec.data import TokenizerSpec
from assay.spec.model import ModelSpec

__all__ = ["fresh", "has_weights", "open_model", "with_tokens"]


def has_weights(source: str | Path) -> bool:
    """Whether a SOURCE brings weights: a folder, a .gguf file or a hub id, and no preset or spec file."""
    from assay.spec.published import canonical

    path = Path(source).expanduser()
    if path.is_dir() or path.suffix.lower() == ".gguf":
        return True
    if path.is_file() or path.suffix.lower() in (".toml", ".json") or canonical(str(source)) is not None:
        return False
    return "/" in str(source)


def open_model(
    source: str | Path,
    texts: Sequence[str],
    *,
    tokenizer: TokenizerSpec | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Model:
    """The model of a SOURCE, its weights float32.

    Args:
        source: a folder with weights, a .gguf file, a hub id; or a preset or spec file, built from scratch.
        texts: what a fresh model's tokenizer is trained on.
        tokenizer: of a fresh model; None: 2,048 pieces of byte-pair encoding.
        seed: of a fresh model's weights.
        device: where it goes.

    Raises:
        UserError: there is nothing of that name, or it brings no tokenizer.
    """
    if not has_weights(source):
        return fresh(resolve(source), texts, tokenizer=tokenizer, seed=seed, device=device)
    if tokenizer is not None:
        raise UserError(f"tokenizer: {source} brings its own.", "Leave --tokenizer and --vocab-size out.")
    model = load(source, device=device)
    for parameter in model.parameters():  # weights that are mapped from a file are not to be written to
        parameter.data = parameter.data.clone()
    return model


def fresh(
    spec: ModelSpec,
    texts: Sequence[str],
    *,
    tokenizer: TokenizerSpec | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Model:
    """A model from scratch, with a tokenizer trained on texts; its vocabulary is the tokenizer's."""
    made = train_tokenizer(tokenizer or TokenizerSpec(), Corpus(list(texts), "labels", "labels"))
    return build(with_tokens(spec, made.vocabulary), seed=seed, device=device, tokenizer=made)


def with_tokens(spec: ModelSpec, ids: object) -> ModelSpec:
    """The model with a vocabulary's size and special tokens."""
    from assay.objectives.base import Vocabulary

    assert isinstance(ids, Vocabulary)
    return spec.with_(
        vocab_size=ids.size,
        tokens={
            "pad": ids.pad, "bos": ids.bos, "eos": [] if ids.eos is None else [ids.eos],
            "decoder_start": ids.decoder_start, "mask": ids.mask,
        },
    )  # fmt: skip
