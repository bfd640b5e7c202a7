"""Valid small files to begin from, made with the library; golden checkpoints join where ASSAY_GOLDEN names them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tools.fuzz.cases import Case, case_of
from tools.fuzz.containers import Gguf

LINES = [
    "the quick brown fox jumps over the lazy dog 0123456789",
    "it's the model's own words; don't count them: 1, 2, 3, 44, 555",
    "def f(x): return x ** 2 + 1  # a comment, and ünïcödé 漢字 🙂",
] * 12
VOCABULARY = 400
MODEL: dict[str, Any] = {"vocab_size": VOCABULARY, "width": 8, "layers": 1, "attention": {"heads": 2}, "context": 32}
META = {"dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 64, "multiple_of": 8, "norm_eps": 1e-5}


@cache
def configs() -> tuple[dict[str, Any], ...]:
    """A configuration of every family that can be exported, from the presets; and Meta's."""
    from assay.errors import UserError
    from assay.published.compare import written
    from assay.published.registry import families
    from assay.published.save import _named
    from assay.spec.published import preset, presets

    found: list[dict[str, Any]] = []
    for family in families():
        if family.from_spec is None:
            continue
        for name in presets():
            try:
                config, odd = written(family, preset(name))
            except (UserError, KeyError, AttributeError, TypeError):
                continue
            if not odd:
                found.append(_named(family, config))
                break
    found += [json.loads(case["config.json"]) for case in golden() if "config.json" in case]
    return (*found, META)


@cache
def golden() -> tuple[Case, ...]:
    """Configurations and weights of the golden folders."""
    place = os.environ.get("ASSAY_GOLDEN")
    if not place:
        return ()
    folders = [folder for folder in sorted(Path(place).iterdir()) if folder.is_dir()]
    cases = [case_of(folder) for folder in folders if not (folder / "fixture_hint.json").is_file()]
    return tuple({n: c for n, c in case.items() if not n.startswith(("expected", "fixture"))} for case in cases)


@cache
def folders() -> tuple[Case, ...]:
    """Published folders with safetensors: two small models made here, one of them in two files, and golden ones."""
    import torch

    from assay import ModelSpec, build

    found = []
    for family in ("causal", "encoder_decoder"):
        torch.manual_seed(0)
        spec = ModelSpec.from_dict(MODEL if family == "causal" else _t5())
        with tempfile.TemporaryDirectory() as place:
            build(spec).save(place, format="hf")
            found.append(case_of(Path(place)))
    found.append(_cut(found[0]))
    # Golden weights are hundreds of kilobytes: three of them say as much as all.
    return (*found, *[case for case in golden() if sum(map(len, case.values())) < 170_000][:3])


def _t5() -> dict[str, Any]:
    return {
        "family": "encoder_decoder",
        "vocab_size": 64,
        "width": 8,
        "layers": 1,
        "norm": {"cast": "before_weight"},
        "attention": {"heads": 2, "scale": 1.0},
        "positions": {"kind": "relative"},
        "head": {"tied": True, "scale": 8**-0.5},
    }


def _cut(case: Case) -> Case:
    """The tensors in two files with an index."""
    from safetensors.torch import load, save

    state = load(case["model.safetensors"])
    names = list(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    index = {"metadata": {"total_size": 1}, "weight_map": {n: file for file, held in parts.items() for n in held}}
    files = {file: save({n: state[n] for n in held}) for file, held in parts.items()}
    return {"config.json": case["config.json"], "model.safetensors.index.json": json.dumps(index).encode(), **files}


@cache
def pickles() -> tuple[tuple[str, Case], ...]:
    """Folders with pickled weights, by the file's name: in torch's two forms, plain pickles, Meta's and Megatron's."""
    import torch
    from safetensors.torch import load
    from tools.fuzz.pickling import forms

    case = folders()[0]
    state = load(case["model.safetensors"])
    made = [("pytorch_model.bin", {"config.json": case["config.json"], "pytorch_model.bin": c}) for c in forms(state)]
    small = {"tok_embeddings.weight": torch.zeros(64, 16), "layers.0.feed_forward.w1.weight": torch.zeros(24, 16)}
    params = json.dumps(META | {"vocab_size": -1}).encode()
    made.append(("consolidated.00.pth", {"params.json": params, "consolidated.00.pth": forms(small)[0]}))
    return tuple(made)


def tiny_spec(size: int = VOCABULARY) -> Any:
    """The description that tokenizers are held against."""
    from assay import ModelSpec

    return ModelSpec.from_dict(MODEL | {"vocab_size": size})


@cache
def fast() -> tuple[dict[str, Any], ...]:
    """tokenizer.json of every model that the tokenizers package has."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    kinds = {
        "BPE": (models.BPE(), trainers.BpeTrainer),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer),
        "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
        "WordLevel": (models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer),
    }
    found = []
    for name, (model, trainer) in kinds.items():
        made = Tokenizer(model)
        if name == "BPE":
            made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            made.decoder = decoders.ByteLevel()
        else:
            made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
            made.pre_tokenizer = pre_tokenizers.Metaspace() if name == "Unigram" else pre_tokenizers.Whitespace()
        more = {"unk_token": "[UNK]"} if name == "Unigram" else {}
        specials = ["[UNK]", "<s>", "</s>"]
        made.train_from_iterator(LINES, trainer(vocab_size=300, special_tokens=specials, show_progress=False, **more))
        begin, end = made.token_to_id("<s>"), made.token_to_id("</s>")
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", begin), ("</s>", end)]
        )
        made.enable_padding(length=8)
        found.append(json.loads(made.to_str()))
    return tuple(found)


@cache
def sentencepieces() -> tuple[bytes, ...]:
    """SentencePiece models: byte-pair encoding with bytes, and unigram with normalisation."""
    import sentencepiece

    found = []
    for kind, more in (("bpe", {"byte_fallback": True}), ("unigram", {"hard_vocab_limit": False})):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(LINES),
            model_writer=out,
            vocab_size=360,
            model_type=kind,
            character_coverage=1.0,
            minloglevel=2,
            normalization_rule_name="nmt_nfkc" if kind == "unigram" else "identity",
            **more,
        )
        found.append(out.getvalue())
    return tuple(found)


@cache
def ranked() -> bytes:
    """A file of ranked tokens as tiktoken's."""
    import base64

    tokens = [bytes([i]) for i in range(256)] + [b"th", b"he", b"the", b" the", b"qu", b"in", b"ing"]
    return b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens))


@cache
def own_tokenizer() -> dict[str, Any]:
    """Assay's own tokenizer file."""
    from assay.data.tokenizer import BPETokenizer
    from assay.spec.data import TokenizerSpec

    spec = TokenizerSpec(vocab_size=800)
    model = next(m for m in fast() if m["model"]["type"] == "BPE")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(LINES, trainer)
    assert model
    found: dict[str, Any] = json.loads(BPETokenizer(spec, json.loads(made.to_str()))._content())
    return found


@cache
def ggufs() -> tuple[Gguf, ...]:
    """A small model of several architectures, with tokenizers of both kinds."""
    import numpy as np

    found = []
    for arch, kind in (
        ("llama", "llama"),
        ("gemma2", "llama"),
        ("qwen3", "gpt2"),
        ("llama", "none"),
        ("olmo2", "gpt2"),
    ):
        rng = np.random.default_rng(0)
        tokens = [
            "<unk>",
            "<s>",
            "</s>",
            *(f"<0x{i:02X}>" for i in range(256)),
            "▁",
            "t",
            "h",
            "e",
            "th",
            "the",
            "▁the",
        ]
        if kind == "gpt2":
            from assay.published.ranked import _letters

            tokens = ["<s>", "</s>", *_letters().values(), "th", "the"]
        made = Gguf()
        made.say("general.architecture", arch)
        made.say("general.name", "tiny")
        sizes = {
            "block_count": 2,
            "context_length": 64,
            "embedding_length": 32,
            "feed_forward_length": 48,
            "attention.head_count": 4,
            "attention.head_count_kv": 2,
            "attention.key_length": 8,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 10000.0,
        }
        if arch == "gemma2":
            sizes |= {"attention.sliding_window": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
        for key, value in sizes.items():
            made.say(f"{arch}.{key}", value)
        if kind != "none":
            made.say("tokenizer.ggml.model", kind)
            made.say("tokenizer.ggml.tokens", tokens)
            made.say("tokenizer.ggml.bos_token_id", 1)
            made.say("tokenizer.ggml.eos_token_id", 2)
            made.say("tokenizer.ggml.token_type", [3, 3, 3, *([1] * (len(tokens) - 3))])
            made.say("tokenizer.chat_template", "{{ messages[0]['content'] }}")
        if kind == "llama":
            made.say("tokenizer.ggml.scores", [float(-i) for i in range(len(tokens))])
        elif kind == "gpt2":
            made.say("tokenizer.ggml.pre", "qwen2")
            made.say("tokenizer.ggml.merges", ["t h", "th e"])
        for name, dimensions in _tensors(arch, len(tokens)).items():
            made.add(name, dimensions, rng.standard_normal(dimensions[::-1]).astype(np.float32).tobytes())
        found.append(made)
    return tuple(found)


def _tensors(arch: str, vocabulary: int) -> dict[str, list[int]]:
    tensors = {"token_embd.weight": [32, vocabulary], "output_norm.weight": [32]}
    for i in range(2):
        block = {
            "attn_q": [32, 32],
            "attn_k": [32, 16],
            "attn_v": [32, 16],
            "attn_output": [32, 32],
            "ffn_gate": [32, 48],
            "ffn_up": [32, 48],
            "ffn_down": [48, 32],
        }
        if arch != "olmo2":
            block |= {"attn_norm": [32], "ffn_norm": [32]}
        if arch in ("gemma2", "olmo2"):
            block |= {"post_attention_norm": [32], "post_ffw_norm": [32]}
        if arch == "qwen3":
            block |= {"attn_q_norm": [8], "attn_k_norm": [8]}
        if arch == "olmo2":
            block |= {"attn_q_norm": [32], "attn_k_norm": [16]}
        tensors |= {f"blk.{i}.{name}.weight": dimensions for name, dimensions in block.items()}
    return tensors if arch in ("gemma2",) else tensors | {"output.weight": [32, vocabulary]}


@cache
def shards() -> Case:
    """A folder of token shards."""
    import numpy as np

    from assay.data.shards import write_shards

    rng = np.random.default_rng(0)
    documents = [(rng.integers(0, 300, n), rng.integers(0, 4, n)) for n in (5, 1, 40, 0, 12)]
    with tempfile.TemporaryDirectory() as place:
        write_shards(Path(place) / "x", documents, vocab_size=300, boundaries=("words", "sentences"), text_sha256="ab")
        return case_of(Path(place) / "x")


@cache
def parquet() -> bytes:
    """A table of texts and labels; written elsewhere, since threads of a writer do not survive a fork."""
    code = (
        "import sys, io, polars; b = io.BytesIO();"
        "polars.DataFrame({'text': ['a b', 'c', 'd e f'], 'label': ['x', 'y', 'x']}).write_parquet(b);"
        "sys.stdout.buffer.write(b.getvalue())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
