"""From a description of data to what a run reads: training tokens, held-out windows, a tokenizer, and their facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.data.corpus import Corpus
from assay.data.shards import TokenDocuments, tokenize
from assay.data.sources import read
from assay.data.specials import vocabulary
from assay.data.split import split
from assay.data.tokenizer import Tokenizer, train_tokenizer
from assay.data.windows import Window, windows
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.parts import TokenSpec
from assay.spec.study import RunSpec

__all__ = ["Text", "load_text", "resolve"]


@dataclass(frozen=True, eq=False)
class Text:
    """The data of a run, ready."""

    train: TokenDocuments
    """Training tokens, memory-mapped."""
    heldout: Corpus
    """Held-out text."""
    tokenizer: Tokenizer
    """Trained on the training part."""
    facts: dict[str, Any]
    """What `run.json` says about the data."""

    def windows(self, count: int | None = None) -> list[Window]:
        """Held-out windows, at most `count`, chosen by their content: every run gets the same."""
        return windows(self.heldout, self.tokenizer, count=count)


def load_text(data: DataSpec, tokenizer: Tokenizer | None = None) -> Text:
    """Read, split and tokenise; tokenizer and tokens come from the cache where they are known.

    Args:
        data: what is read, and how a tokenizer is trained.
        tokenizer: one to use instead: that of the weights that a run begins from.

    Raises:
        UserError: the source is missing, empty, not text, or too short.
    """
    corpus = read(data.source, text_field=data.text_field)
    train, heldout = split(corpus, data.heldout)
    given, tokenizer = tokenizer is not None, tokenizer or train_tokenizer(data.tokenizer, train)
    facts = {
        "source": data.source,
        "name": corpus.name,
        "hash": corpus.hash,
        "bytes": corpus.bytes,
        "documents": len(corpus),
        "heldout_bytes": heldout.bytes,
        "heldout_documents": len(heldout),
        "tokenizer": data.tokenizer.model_dump(mode="json"),
        "tokenizer_hash": tokenizer.hash,
        "vocab_size": tokenizer.vocabulary.size,
    }
    if given:
        facts["tokenizer_given"] = True
    return Text(tokenize(train, tokenizer), heldout, tokenizer, facts)


def resolve(run: RunSpec) -> RunSpec:
    """The run with the model's vocabulary and special tokens set to those of its tokenizer.

    Sizes of vocabularies follow from the description alone, so no text is read. A run that begins from a published
    model's weights keeps that model's.
    """
    if run.init is not None and run.init.published:
        return run
    ids = vocabulary(run.data.tokenizer.vocab_size, run.data.tokenizer.sentinels)
    tokens = TokenSpec(
        pad=ids.pad,
        bos=ids.bos,
        eos=() if ids.eos is None else (ids.eos,),
        decoder_start=ids.decoder_start,
        mask=ids.mask,
    )
    fields = run.model.model_dump(mode="json")
    fields |= {"vocab_size": ids.size, "tokens": tokens.model_dump(mode="json")}
    return run.model_copy(update={"model": ModelSpec.from_dict(fields)})
