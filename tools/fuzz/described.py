"""Targets that assay itself writes: specs, studies, token shards, folders of runs."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

from tools.fuzz import seeds
from tools.fuzz.cases import Case
from tools.fuzz.mutate import HOSTILE, NUMBERS, TEXTS, blind, dumped, odd, text_damage, tree
from tools.fuzz.tables import lines_of
from tools.fuzz.targets import target

KNOWN = (
    "causal",
    "prefix",
    "encoder",
    "encoder_decoder",
    "rmsnorm",
    "layernorm",
    "deepnorm",
    "sandwich",
    "residual",
    "rope",
    "alibi",
    "relative",
    "t5",
    {"kind": "llama3", "factor": 8.0},
    {"count": 4, "top": 2},
    "mlm",
    "ul2",
    "none",
    0.1,
    64,
    {"kind": "rope", "fraction": 0.5},
    [0, 1],
    "two_norms",
    "normed",
    "wsd",
    "cosine",
    "stdlib",
    "made:addition",
    True,
)


def _toml(rng: random.Random, fields: Any) -> bytes:
    """A tree as TOML, as far as TOML has words for it; else what is near."""
    import tomli_w

    try:
        text = tomli_w.dumps(_plain(fields if isinstance(fields, dict) else {"x": fields}))
        content = text.encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        content = dumped(rng, fields)
    if rng.random() < 0.1:
        lines = content.split(b"\n")
        lines.insert(
            rng.randrange(len(lines) + 1),
            rng.choice(
                (
                    b"x = " + b"9" * 5000,
                    b"x = " + b"[" * 5000,
                    b"[a]\n[a]",
                    b"a.b.c.d = 1",
                    b"x = 1979-13-45",
                    b"x = 07:32:99",
                    b"x = 1e99999",
                    b"[[x]]",
                    b"x = {a=1,a=2}",
                    b'"\\ud800" = 1',
                    b"x = nan",
                    b".".join([b"a"] * 3000) + b" = 1",
                    b"layers = 0x" + b"f" * 5000,
                )
            ),
        )
        content = b"\n".join(lines)
    return text_damage(rng, content)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value if item is not None]
    return value


@cache
def _specs() -> tuple[dict[str, Any], ...]:
    from assay.spec.published import preset

    names = ("gpt2", "llama3.1-8b", "t5-xl", "bert", "mixtral", "glm-4-9b", "cogview", "gemma2-9b", "bart")
    found = []
    for name in names:
        try:
            found += [preset(name).to_dict(full=True), preset(name).to_dict()]
        except ValueError:  # a preset of that name may go
            continue
    return tuple(found)


def _spec(rng: random.Random) -> Case:
    fields = tree(rng, rng.choice(_specs()), known=KNOWN)
    if rng.random() < 0.5:
        return {"model.json": text_damage(rng, dumped(rng, fields))}
    return {"model.toml": _toml(rng, fields)}


@target(
    "spec",
    "spec files, TOML and JSON",
    _spec,
    lambda: [{"model.json": json.dumps(fields).encode()} for fields in _specs()],
)
def read_spec(folder: Path) -> None:
    """Resolved, counted, written and read again."""
    from assay import ModelSpec, resolve

    path = next(folder.glob("model.*"))
    spec = resolve(path)
    assert spec.parameters() > 0 and spec.flops(8) > 0
    assert ModelSpec.from_toml(spec.to_toml()) == spec, "does not round-trip"


STUDY: dict[str, Any] = {
    "name": "norms",
    "seeds": 2,
    "model": {"layers": 2, "width": 32, "attention": {"heads": 2}},
    "train": {"budget": 1e9, "batch_size": 4, "optimizer": {"learning_rate": 0.001}},
    "data": {"source": "stdlib"},
    "vary": {"norm": ["layernorm", "rmsnorm"], "train.batch_size": [4, 8]},
}
AXES = (
    "family",
    "layers",
    "width",
    "train.budget",
    "train.optimizer.learning_rate",
    "objective",
    "data.source",
    "placement",
    "x.y",
    "encoder.layers",
    "attention.heads",
    "positions",
    "",
    ".",
    "train.",
    "name",
    "train.schedule.warmup",
    "data.x",
)


def _study(rng: random.Random) -> Case:
    fields: dict[str, Any] = json.loads(json.dumps(STUDY))
    if rng.random() < 0.6:
        known = [*KNOWN, 1, 2, 8, "1", HOSTILE, *NUMBERS[:12], *TEXTS[:12]]
        for _ in range(rng.choice((1, 2, 3, 12))):
            fields["vary"][rng.choice(AXES)] = [rng.choice(known) for _ in range(rng.randrange(4))]
    if rng.random() < 0.7:
        fields = tree(rng, fields, known=KNOWN)
    if rng.random() < 0.1 and isinstance(fields, dict):
        fields["seeds"] = rng.choice((10**6, 10**9, 10**18, -1, 0))
    return {"study.toml": _toml(rng, fields)} if rng.random() < 0.7 else {"study.json": dumped(rng, fields)}


@target("study", "study files", _study, lambda: [{"study.json": json.dumps(STUDY).encode()}])
def read_study(folder: Path) -> None:
    """Resolved, and every run of it made and hashed, as `assay compare --dry-run` does."""
    from assay.errors import UserError
    from assay.published.source import resolve_study
    from assay.spec.study import MOST_RUNS

    study = resolve_study(next(folder.glob("study.*")))
    number = study.seeds * math.prod(map(len, study.vary.values()))
    if 12 < number <= MOST_RUNS:
        return  # a run takes milliseconds to make: thousands are slow, and no defect
    try:
        runs = study.runs()
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    for run in itertools.islice(runs, 20):
        assert len(run.hash) == 16


def _shards(rng: random.Random) -> Case:
    """Hashes are mended after most changes: a wrong one is told before anything else is looked at."""
    import hashlib

    case = dict(seeds.shards())
    meta = json.loads(case["meta.json"])
    how = rng.randrange(6)
    if how == 0:
        meta = tree(
            rng, meta, known=("<u2", "<u4", "O", "V8", "<f8", "i1", "S0", "M8[ns]", "2f,3i", "(2,3)i4", ["words"])
        )
    elif how in (1, 2):
        case["offsets.npy"] = _npy(rng, case["offsets.npy"])
    elif how == 3:
        case[rng.choice(("tokens.bin", "flags.bin"))] = rng.randbytes(rng.choice((0, 1, 58, 116, 200)))
        meta["tokens"] = rng.choice((meta["tokens"], len(case["tokens.bin"]) // 2, len(case["tokens.bin"])))
    elif how == 4:
        name = rng.choice(("tokens.bin", "flags.bin", "offsets.npy"))
        case[name] = blind(rng, case[name])
    else:
        meta[rng.choice(tuple(meta))] = odd(rng)
    if isinstance(meta, dict) and rng.random() < 0.9:
        for name, key in (
            ("tokens.bin", "tokens_sha256"),
            ("flags.bin", "flags_sha256"),
            ("offsets.npy", "offsets_sha256"),
        ):
            meta[key] = hashlib.sha256(case[name]).hexdigest()
    case["meta.json"] = text_damage(rng, dumped(rng, meta))
    if rng.random() < 0.03:
        del case[rng.choice(tuple(case))]
    return case


def _npy(rng: random.Random, content: bytes) -> bytes:
    import numpy as np

    def saved(array: Any, **how: Any) -> bytes:
        out = io.BytesIO()
        np.save(out, array, **how)
        return out.getvalue()

    how = rng.randrange(8)
    offsets = np.load(io.BytesIO(content))
    if how < 3:
        offsets = offsets.copy()
        offsets[rng.randrange(len(offsets))] = rng.choice((-1, 0, 3, 57, 58, 59, 2**40, -(2**63), 2**63 - 1))
        return saved(offsets)
    if how == 3:
        return saved(
            rng.choice((offsets.astype(float), offsets[:, None], offsets[:0], offsets.astype("u1"), offsets[0]))
        )
    if how == 4:
        return saved(np.array([{"x": 1}], dtype=object), allow_pickle=True)
    if how == 5:
        out = io.BytesIO()
        np.savez_compressed(out, offsets=np.zeros(1 << rng.choice((4, 20))))
        return out.getvalue()
    if how == 6:
        text = rng.choice(
            (
                "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }",
                "{'descr': 'O', 'fortran_order': False, 'shape': (6,), }",
                "[" * 5000,
                "{'descr': '<i8', 'fortran_order': False, 'shape': (-6,), }",
                "f()",
                "{'descr': [('a', '<i8', (1000000,1000000))], 'fortran_order': True, 'shape': (6,), }",
            )
        )
        head = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + (len(head) & 0xFFFF).to_bytes(2, "little") + head + content[128:]
    return blind(rng, content)


@target("shards", "folders of token shards", _shards, lambda: [seeds.shards()])
def read_shards(folder: Path) -> None:
    """Opened, and every document looked at."""
    from assay.data.shards import TokenDocuments

    found = TokenDocuments.open(folder)
    assert found.total == sum(len(document) for document in found) == found.lengths.sum()
    assert all(int(document.max(initial=0)) < found.meta["vocab_size"] for document in found)
    assert found.flags is None or len(found.flags) == found.total


@cache
def _run() -> Case:
    """A finished run's folder, inside a study's."""
    import tempfile

    from tests.report.synthetic import write_study
    from tools.fuzz.cases import case_of

    from assay.spec.study import StudySpec

    with tempfile.TemporaryDirectory() as place:
        fields = STUDY | {"seeds": 1, "vary": {"norm": ["layernorm", "rmsnorm"]}}
        write_study(Path(place), StudySpec.from_dict(fields), levels=lambda run: 2.0)
        return case_of(Path(place))


def _folder(rng: random.Random) -> Case:
    case = dict(_run())
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(tuple(case))
        try:
            if name.endswith((".json", "DONE")):
                case[name] = text_damage(rng, dumped(rng, tree(rng, json.loads(case[name]), known=KNOWN)))
            elif name.endswith(".jsonl"):
                case[name] = lines_of(rng, [json.loads(line) for line in case[name].splitlines()])
            else:
                case[name] = blind(rng, case[name])
        except (ValueError, IndexError, RecursionError):  # changed before: no JSON any more
            case[name] = blind(rng, case[name])
    if rng.random() < 0.03:
        del case[rng.choice(tuple(case))]
    return case


@target("runs", "folders of studies and runs", _folder, lambda: [dict(_run())])
def read_runs(folder: Path) -> None:
    """Every file of every run, and the rows that reports stand on."""
    from assay import RunFolder, StudyFolder, resolve
    from assay.report.study import load as report_data

    study = StudyFolder.open(folder)
    for run in study.runs():
        RunFolder.open(run.path)
        run.metrics()
        resolve(run.path)
        assert not run.done or run.result is not run
    report_data(folder)
