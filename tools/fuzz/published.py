"""Targets that hold models: configurations, weights in every container, tokenizers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tools.fuzz import pickling, seeds
from tools.fuzz.cases import Case
from tools.fuzz.containers import protobuf, safetensors
from tools.fuzz.mutate import TEXTS, blind, dumped, text_damage, tree
from tools.fuzz.targets import target

KNOWN = (
    "llama",
    "gemma2",
    "t5",
    "chatglm",
    "falcon",
    "bloom",
    "gelu_new",
    "swish",
    "relu2",
    "gated-gelu",
    "full_attention",
    ["sliding_attention"],
    {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
    {"type": "linear", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0},
    {"type": []},
    {"rope_type": {}, "factor": 2},
    [["LlamaForCausalLM"]],
    ["MixtralForCausalLM"],
    {"quant_method": "gptq"},
    -1,
    [0, 1, 2],
    4096,
    1e-5,
    "bfloat16",
)
HOW_MANY = 20
"""One input in so many goes through `assay.load` where the reader alone would do."""


def _config(rng: random.Random) -> Case:
    config = rng.choice(seeds.configs())
    name = "params.json" if config is seeds.META else "config.json"
    content = dumped(rng, tree(rng, config, known=KNOWN), indent=rng.choice((None, 2)))
    return {name: text_damage(rng, content)}


def _configs() -> list[Case]:
    return [
        {"params.json" if config is seeds.META else "config.json": json.dumps(config).encode()}
        for config in seeds.configs()
    ]


@target("config", "config.json and params.json of every family", _config, _configs)
def read_config(folder: Path) -> None:
    """Described, counted, hashed, written and read again, as `assay inspect` does."""
    from assay import ModelSpec, resolve

    spec = resolve(folder)
    assert spec.parameters() > 0 and len(spec.hash) == 16
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec, "does not round-trip"


def _weights(rng: random.Random) -> Case:
    case = dict(rng.choice(seeds.folders()))
    names = [name for name in case if name.endswith(".safetensors")]
    index = "model.safetensors.index.json"
    if index in case and rng.random() < 0.5:
        said = json.loads(case[index])
        where = said["weight_map"]
        for _ in range(rng.choice((1, 2))):
            where[rng.choice((*where, "new"))] = rng.choice(
                (
                    *TEXTS,
                    "../outside.safetensors",
                    "../outside/x.safetensors",
                    "./model-00001-of-00002.safetensors",
                    ".",
                    "model-00001-of-00002.safetensors",
                    "a/../../outside.safetensors",
                    "config.json",
                    3,
                    None,
                    "x" * 5000,
                )
            )
        case[index] = text_damage(rng, dumped(rng, tree(rng, said) if rng.random() < 0.4 else said))
    else:
        name = rng.choice(names)
        case[name] = safetensors(rng, case[name])
    if rng.random() < 0.1:
        case["config.json"] = dumped(rng, tree(rng, json.loads(case["config.json"]), known=KNOWN, changes=1))
    return case


@target("safetensors", "safetensors and their index", _weights, lambda: list(seeds.folders()))
def read_weights(folder: Path) -> None:
    """Loaded whole, and used once."""
    from assay import load

    _used(load(folder))


def _pickled(rng: random.Random) -> Case:
    name, case = rng.choice(seeds.pickles())
    return {**case, name: pickling.changed(rng, case[name])}


def _good_pickles() -> list[Case]:
    return [case for name, case in seeds.pickles()[:2] if name == "pytorch_model.bin"]


@target("pickle", ".bin, .pt and .pth in every form", _pickled, _good_pickles)
def read_pickle(folder: Path) -> None:
    """Loaded whole; nothing may be executed."""
    from assay import load

    try:
        _used(load(folder))
    finally:
        assert not (folder / "executed").exists() and not Path("executed").exists(), "executed"


def _gguf(rng: random.Random) -> Case:
    return {"model.gguf": rng.choice(seeds.ggufs()).changed(rng)}


@target("gguf", "GGUF files", _gguf, lambda: [{"model.gguf": made.bytes()} for made in seeds.ggufs()])
def read_gguf(folder: Path) -> None:
    """Described, then loaded with its tokenizer, and used once."""
    from assay import load, resolve

    resolve(folder / "model.gguf")
    _used(load(folder / "model.gguf"))


def _used(model: Any) -> None:
    """A forward pass of two tokens, and some text there and back, where sizes allow."""
    import torch

    if model.spec.width * model.spec.vocab_size > 1 << 20:
        return
    ids = torch.tensor([[1, 0]]) % model.spec.vocab_size
    with torch.inference_mode():
        model(ids)
    if model.tokenizer is not None:
        _spoken(model.tokenizer)


SPOKEN = ("the quick brown fox, it's 1,234", "ünïcödé 漢字 🙂\n\n  x", "<s>a</s><extra_id_0>", "")


def _spoken(tokenizer: Any) -> None:
    from assay.generation.text import decode, encode

    for text in SPOKEN:
        decode(tokenizer, encode(tokenizer, text))


SETTINGS: dict[str, Any] = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "add_bos_token": True,
    "add_eos_token": False,
    "extra_ids": 10,
    "model_max_length": 1000000000000000019884624838656,
    "chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}",
    "added_tokens_decoder": {
        "0": {"content": "<unk>", "special": True},
        "390": {"content": "<extra>", "special": True},
    },
}
TEMPLATES = (
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__ }}",
    "{% if %}",
    "{{ raise_exception('no') }}",
    "{{ 'a' * 10**9 }}",
    "{{ strftime_now('%Y' * 1000) }}",
    "{{ 1/0 }}",
    "{{ x.y.z }}",
    "{{ cycler.__init__.__globals__.os.system('touch executed') }}",
    "{% include '/etc/passwd' %}",
    "{{ 10**10**8 }}",
    "{% for a in range(9**5) %}{% for b in range(9**5) %}{% endfor %}{% endfor %}",
    "{{ messages|tojson(indent='x') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ '%999999999s' % 1 }}",
    "{{ lipsum(n=999999999) }}",
    "{{ messages|map('x')|list }}",
    "{{ [1,'a']|sort }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ messages[99].content }}",
)


def _tokens(rng: random.Random) -> Case:
    how = rng.randrange(12)
    settings = dict(SETTINGS)
    case: Case = {}
    if how < 5:
        made = rng.choice(seeds.fast())
        if rng.random() < 0.5:  # a vocabulary's entries are many: change what is beside them
            made = {**made, "model": {**made["model"]}}
            vocabulary = made["model"].pop("vocab")
            made = tree(rng, made, known=_parts())
            if isinstance(made, dict) and isinstance(made.get("model"), dict):
                made["model"]["vocab"] = vocabulary
        else:
            made = tree(rng, made, known=_parts())
        case["tokenizer.json"] = text_damage(rng, dumped(rng, made))
    elif how < 8:
        case["tokenizer.model"] = protobuf(rng, rng.choice(seeds.sentencepieces()))
    elif how < 9:
        lines = seeds.ranked().split(b"\n")
        lines[rng.randrange(len(lines))] = rng.choice(
            (
                b"",
                b"dGhl 0",
                b"dGhl 999",
                b"!!! 3",
                b"dGhl",
                b"dGhl " + b"9" * 5000,
                b"dGhl -1",
                b"QUFB" * 30_000 + b" 263",
            )
        )
        case["tokenizer.model"] = blind(rng, b"\n".join(lines)) if rng.random() < 0.3 else b"\n".join(lines)
    elif how < 10:
        case["assay_tokenizer.json"] = text_damage(rng, dumped(rng, tree(rng, seeds.own_tokenizer())))
    else:
        case["tokenizer.model"] = rng.choice(seeds.sentencepieces())
        settings = tree(rng, settings, known=({"content": "x"}, "<0x0A>", *TEMPLATES))
        if isinstance(settings, dict) and rng.random() < 0.5:
            settings["chat_template"] = rng.choice(
                (*TEMPLATES, [{"name": "default", "template": rng.choice(TEMPLATES)}])
            )
        if rng.random() < 0.1:
            case["chat_template.jinja"] = blind(rng, rng.choice(TEMPLATES).encode())
    case["tokenizer_config.json"] = (
        text_damage(rng, dumped(rng, settings)) if how >= 10 else json.dumps(settings).encode()
    )
    case["model_type"] = rng.choice((b"llama", b"t5", b"mbart", b"chatglm", b""))
    return case


def _parts() -> tuple[Any, ...]:
    return (
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        {"type": "ByteLevel", "add_prefix_space": True},
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"},
        {"type": "Split", "pattern": {"Regex": "("}},
        {"type": "BertNormalizer"},
        {"type": "Sequence", "normalizers": []},
        {"type": "Metaspace", "replacement": "▁"},
        {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAAAAAAAAAA"},
        {"type": "Prepend", "prepend": ""},
        {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": False},
        {"type": "ByteFallback"},
        {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 100},
        {"type": "Strip", "content": "x", "start": 9},
        {"id": 2**32 - 1, "content": "z", "special": True},
        {"id": 390, "content": "", "special": True},
        "##",
        "Ġ",
        {"strategy": {"Fixed": 2**40}, "direction": "Left", "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
        {"type": "FixedLength", "length": 0},
        {"type": "CTC"},
        {"type": "BPEDecoder", "suffix": ""},
        [["a", 0.0]],
    )


def _good_tokens() -> list[Case]:
    beside = {"tokenizer_config.json": json.dumps(SETTINGS).encode(), "model_type": b"llama"}
    cases: list[Case] = [{"tokenizer.json": json.dumps(made).encode(), **beside} for made in seeds.fast()]
    cases += [{"tokenizer.model": model, **beside} for model in seeds.sentencepieces()]
    plain = {"tokenizer_config.json": b"{}", "model_type": b""}
    cases.append({"tokenizer.model": seeds.ranked(), **plain})
    return [*cases, {"assay_tokenizer.json": json.dumps(seeds.own_tokenizer()).encode(), **plain}]


@target("tokenizer", "tokenizer.json, SentencePiece, ranked tokens, settings, chat templates", _tokens, _good_tokens)
def read_tokens(folder: Path) -> None:
    """Read, then text there and back, and a conversation through the chat template."""
    from assay.data.tokenizer import FILE, load_tokenizer
    from assay.generation.text import chat_text
    from assay.published.tokens import folder_tokenizer

    kind = (folder / "model_type").read_text()
    if (folder / FILE).is_file():
        own = load_tokenizer(folder)
        assert len(own.hash) == 16
        for text in SPOKEN:
            own.decode(own.encode(text))
        return
    found = folder_tokenizer(folder, seeds.tiny_spec(600), kind)
    if found is None:
        return
    _spoken(found)
    if found.chat_template:
        from assay.errors import UserError

        try:
            chat_text(found, [{"role": "user", "content": "hello"}])
        except UserError as error:
            raise UserError(f"{folder}: {error}") from error
