"""Tokenizers that models come with: tokenizer.json, SentencePiece, GGUF's own; templates; ones that do not fit."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.published.common import BASE, reference, saved
from tests.published.gguf_files import write_gguf

from assay.errors import UserError
from assay.published.load import load

TEXTS = (
    "Hello world, it's 1,234 o'clock.",
    "  two  spaces\n\n\tand a tab ",
    "ünïcödé 漢字 🙂 — done",
    "x = [i**2 for i in range(10)]  # don't",
    "<s>begun</s> and <unk>",
)
LINES = [
    "the quick brown fox jumps over the lazy dog 0123456789",
    "a transformer reads tokens and writes tokens, one after another",
    "it's the model's own words; don't count them: 1, 2, 3, 44, 555",
    "def f(x): return x ** 2 + 1  # a comment",
    "many words, many merges, many pieces of many words",
] * 20


@pytest.fixture(scope="module")
def pieces() -> bytes:
    """A SentencePiece model (byte-pair encoding, with bytes), trained here."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(LINES), model_writer=out, vocab_size=420, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, pad_id=3, minloglevel=2, remove_extra_whitespaces=False,
        normalization_rule_name="identity",
    )  # fmt: skip
    return out.getvalue()


def byte_level(size: int = 400) -> Any:
    """A byte-level tokenizer, trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|begin|>", "<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inner.train_from_iterator(LINES, trainer)
    return inner


def llama(folder: Path, vocabulary: int) -> Path:
    """A folder of a random LLaMA with that vocabulary."""
    return saved(reference("LlamaConfig", BASE | {"vocab_size": vocabulary}), folder)


def test_tokenizer_json(tmp_path: Path) -> None:
    inner = byte_level()
    folder = llama(tmp_path / "in", inner.get_vocab_size())
    inner.enable_padding(length=64)
    inner.enable_truncation(4)
    inner.save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}<|begin|>{{ m.content }}{{ eos_token }}{% endfor %}"
    settings = {
        "eos_token": {"content": "<|end|>", "lstrip": False},
        "bos_token": "<|begin|>",
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = load(folder)
    inner.no_padding()
    inner.no_truncation()
    for text in TEXTS:
        assert model.tokenizer.encode(text) == inner.encode(text).ids
        assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert model.tokenizer.eos_token == "<|end|>" and model.tokenizer.chat_template == template
    begun = model.tokenizer.encode("<|begin|>hi<|end|>")
    assert begun[0] == 0 and begun[-1] == 1 and model.tokenizer.decode(begun) == "hi"
    assert isinstance(model.chat([{"role": "user", "content": "hi"}], max_new_tokens=3, ignore_eos=True), str)
    for form in ("hf", "assay"):  # goes along with the model, and transformers opens it
        model.save(tmp_path / form, format=form)
        again = load(tmp_path / form).tokenizer
        assert again.encode(TEXTS[2]) == model.tokenizer.encode(TEXTS[2])
        assert again.chat_template == template and again.eos_token == "<|end|>"
    from transformers import AutoTokenizer

    there = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert there(TEXTS[0])["input_ids"] == model.tokenizer.encode(TEXTS[0]) and there.eos_token == "<|end|>"


def test_template_with_its_own_begin_token(tmp_path: Path) -> None:
    """A tokenizer that adds the begin token does not add a second one before a template's."""
    from tokenizers.processors import TemplateProcessing

    inner = byte_level()
    inner.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    folder = llama(tmp_path, inner.get_vocab_size())
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin|>"}))
    tokenizer = load(folder).tokenizer
    assert tokenizer.encode("hi") == tokenizer.encode("<|begin|>hi")
    assert tokenizer.encode("hi", add_special_tokens=False) == tokenizer.encode("hi")[1:]


def test_sentence_pieces(pieces: bytes, tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    plain = SentencePieceProcessor(model_proto=pieces)
    folder = llama(tmp_path / "in", 420)
    (folder / "tokenizer.model").write_bytes(pieces)
    tokenizer = load(folder).tokenizer
    for text in TEXTS:
        assert tokenizer.encode(text) == [plain.bos_id(), *plain.encode(text)]
        assert tokenizer.decode(tokenizer.encode(text)) == plain.decode(plain.encode(text))
    assert tokenizer.decode([1, *plain.encode("hi"), 2], specials=True) == "<s>hi</s>"
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "add_eos_token": True}))
    model = load(folder)
    assert model.tokenizer.encode("hi") == [*plain.encode("hi"), plain.eos_id()]
    model.save(tmp_path / "out", format="hf")
    assert load(tmp_path / "out").tokenizer.encode("hi") == model.tokenizer.encode("hi")


def test_t5_sentinels(pieces: bytes, tmp_path: Path) -> None:
    """spiece.model ends in eos; sentinels lie above it, the first one last."""
    from tests.published.test_two_stacks import T5, made

    theirs = made("T5ForConditionalGeneration", "T5Config", T5 | {"vocab_size": 528})
    folder = saved(theirs, tmp_path)
    (folder / "spiece.model").write_bytes(pieces)
    tokenizer = load(folder).tokenizer
    ids = tokenizer.encode("the <extra_id_0> fox <extra_id_1>")
    assert ids[-1] == 2 and 519 in ids and 518 in ids
    assert tokenizer.decode(ids, specials=True) == "the <extra_id_0> fox <extra_id_1></s>"


def test_mbart_numbers_as_fairseq(pieces: bytes, tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor
    from tests.published.test_two_stacks import BART, made

    theirs = made("MBartForConditionalGeneration", "MBartConfig", BART | {"vocab_size": 430})
    folder = saved(theirs, tmp_path)
    (folder / "sentencepiece.bpe.model").write_bytes(pieces)
    plain = SentencePieceProcessor(model_proto=pieces)
    tokenizer = load(folder).tokenizer
    assert tokenizer.encode("the fox") == [*(i + 1 for i in plain.encode("the fox")), 2]
    assert tokenizer.decode(tokenizer.encode("the fox")) == "the fox"


def test_gguf_pieces_are_sentencepiece_s(pieces: bytes, tmp_path: Path) -> None:
    """The merges that follow from scores cut every text as SentencePiece does."""
    from sentencepiece import SentencePieceProcessor

    plain = SentencePieceProcessor(model_proto=pieces)
    size = plain.get_piece_size()
    kinds = [
        2 if plain.is_unknown(i) else 3 if plain.is_control(i) else 6 if plain.is_byte(i) else 1 for i in range(size)
    ]
    extra = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [plain.id_to_piece(i) for i in range(size)],
        "tokenizer.ggml.scores": [plain.get_score(i) for i in range(size)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    theirs = reference("LlamaConfig", BASE | {"vocab_size": size})
    tokenizer = load(write_gguf(tmp_path / "model.gguf", "llama", theirs, extra=extra)).tokenizer
    for text in TEXTS[:4]:
        assert tokenizer.encode(text) == [1, *plain.encode(text)], text
        assert tokenizer.decode(tokenizer.encode(text)) == plain.decode(plain.encode(text))
    assert tokenizer.chat_template and tokenizer.bos_token == "<s>"


def test_gguf_byte_level(tmp_path: Path) -> None:
    inner = byte_level()
    size = inner.get_vocab_size()
    model = json.loads(inner.to_str())["model"]
    extra = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [inner.id_to_token(i) for i in range(size)],
        "tokenizer.ggml.token_type": [3, 3, *[1] * (size - 2)],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    theirs = reference("LlamaConfig", BASE | {"vocab_size": size})
    path = tmp_path / "model.gguf"
    tokenizer = load(write_gguf(path, "llama", theirs, extra=extra)).tokenizer
    for text in TEXTS:
        assert tokenizer.encode(text) == inner.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    begun = extra | {"tokenizer.ggml.add_bos_token": True}
    assert load(write_gguf(path, "llama", theirs, extra=begun)).tokenizer.encode("hi")[0] == 0
    unknown = extra | {"tokenizer.ggml.pre": "martian"}
    with pytest.warns(UserWarning, match="martian"):
        assert load(write_gguf(path, "llama", theirs, extra=unknown)).tokenizer is None


def test_one_that_does_not_fit(pieces: bytes, tmp_path: Path) -> None:
    inner = byte_level()
    folder = llama(tmp_path, 300)
    inner.save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.json: its token \d+ .* outside the model's vocabulary of 300"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(pieces)
    with pytest.raises(UserError, match=r"tokenizer\.model: its token 419 .* vocabulary of 300"):
        load(folder)


def test_damaged(tmp_path: Path) -> None:
    folder = llama(tmp_path, 97)
    for name, content in (("tokenizer.json", "{"), ("tokenizer.model", "no model"), ("tokenizer_config.json", "[")):
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            load(folder)
        (folder / name).unlink()


def test_sentencepiece_missing(pieces: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = llama(tmp_path, 420)
    (folder / "tokenizer.model").write_bytes(pieces)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"assay\[sentencepiece\]"):
        load(folder)


def ranked(path: Path) -> Any:
    """A byte-level tokenizer, and the same as tiktoken keeps it."""
    import base64

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from assay.published.ranked import PATTERN, _letters

    inner = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    )
    bytes_of = {letter: byte for byte, letter in _letters().items()}
    lines = []
    for token, rank in sorted(inner.get_vocab().items(), key=lambda entry: entry[1]):
        raw = bytes(bytes_of[letter] for letter in token)
        lines.append(f"{base64.b64encode(raw).decode()} {rank}\n")
    path.write_text("".join(lines))
    return inner


def test_ranked_tokens(tmp_path: Path) -> None:
    """Llama 3's and glm-4-9b's files: merges are found again, special tokens follow."""
    from tests.published.test_own_formats import TWO, chatglm2_weights, folder_of

    folder = llama(tmp_path / "llama", 420 + 256)
    plain = ranked(folder / "tokenizer.model")
    own = plain.get_vocab_size()
    tokenizer = load(folder).tokenizer
    for text in (*TEXTS, *LINES[:5]):
        assert tokenizer.encode(text) == [own, *plain.encode(text).ids]
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("<|start_header_id|>", add_special_tokens=False) == [own + 6]
    config = TWO | {"padded_vocab_size": 440}
    folder = folder_of(tmp_path / "glm", config, chatglm2_weights(config))
    plain = ranked(folder / "tokenizer.model")
    assert load(folder).tokenizer.encode("hi<|user|>") == [own + 2, own + 4, *plain.encode("hi").ids, own + 7]
    whole = (folder / "tokenizer.model").read_text()
    for spoiled in (whole[:-30], whole + "!!! 7\n", whole.replace(" 300\n", " 9999\n")):
        (folder / "tokenizer.model").write_text(spoiled)
        with pytest.raises(UserError, match=r"tokenizer\.model"):
            load(folder)
