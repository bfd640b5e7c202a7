"""Runs that begin from weights: another run's, or a published model's; and what is refused."""

import json
from pathlib import Path

import pytest
import torch

import assay
from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import InitFrom, RunSpec
from assay.training import Run, train
from assay.training.api import make_run
from assay.training.borrowed import BorrowedTokenizer
from assay.training.loop import train_run
from assay.training.start import find_start, text_of

SMALL = {"width": 16, "layers": 2, "attention": {"heads": 2}}
SHORT = {"batch_size": 4, "length": 64, "compile": False, "evaluations": 2}
UPALM = {"kind": "ul2", "mixture": "upalm"}


@pytest.fixture(scope="module")
def language(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A causal language model of 40 steps."""
    data = {"source": str(source), "tokenizer": "bytes", "heldout": 0.2}
    out = tmp_path_factory.mktemp("language") / "run"
    return train(SMALL, data, out=out, steps=40, learning_rate=1e-2, **SHORT)


def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.txt"
    path.write_text("another text altogether, with words of its own. " * 400, encoding="utf-8")
    return path


def test_a_causal_decoder_goes_on_with_the_mixture_on_another_text(language: Run, tmp_path: Path) -> None:
    text = other(tmp_path)
    run = train(
        None, text, init=language.folder.path, objective=UPALM, out=tmp_path / "upalm", steps=10, learning_rate=1e-3,
        **SHORT,
    )  # fmt: skip
    rows = run.metrics
    (began,) = [row for row in rows if row.get("event") == "init"]
    hash_ = language.folder.read_json("run.json")["hash"]
    assert began["identity"] == f"run:{hash_}" and began["weights"].startswith("sha256:") and began["changed"] == {}
    about = run.folder.read_json("run.json")
    assert about["init"]["identity"] == f"run:{hash_}" and about["objective"]["mixture"] == "upalm"
    assert about["data"]["tokenizer_hash"] == language.folder.read_json("run.json")["data"]["tokenizer_hash"]
    # Before its first step it is the model that it began from.
    spec = make_run(None, text, init=language.folder.path, objective=UPALM, steps=10, **SHORT)
    stopped = RunFolder(tmp_path / "stopped")
    seen: list[dict] = []
    train_run(spec, stopped, stop=lambda: True, progress=seen.append)
    fresh = train(SMALL, {"source": str(text), "tokenizer": "bytes"}, out=tmp_path / "fresh", steps=1, **SHORT)
    first = next(row for row in seen if row["kind"] == "eval")
    guess = next(row for row in fresh.metrics if row["kind"] == "eval")
    assert first["step"] == 0 and first["bits_per_byte"] < guess["bits_per_byte"] - 1
    assert run.result["bits_per_byte"] < first["bits_per_byte"], "the other text is learned"


def test_its_weights_are_the_starts_until_the_first_step(language: Run, source: Path, tmp_path: Path) -> None:
    run = make_run(None, source, init=language.folder.path, steps=1, learning_rate=1e-30, **SHORT)
    train_run(run, RunFolder(tmp_path / "still"))
    mine, theirs = (assay.load(path).state_dict() for path in (tmp_path / "still", language.folder.path))
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in theirs)


def test_a_resumed_run_is_the_same_to_the_bit(language: Run, tmp_path: Path) -> None:
    how = {"init": language.folder.path, "objective": UPALM, "steps": 6, **SHORT}
    data = {"source": language.folder.read_json("run.json")["data"]["source"], "heldout": 0.2}
    whole = train(None, data, out=tmp_path / "whole", **how)
    count = iter(range(10))
    parts = train(None, data, out=tmp_path / "parts", stop=lambda: next(count) == 2, **how)
    assert parts.status == "unfinished"
    parts = train(None, data, out=tmp_path / "parts", **how)
    assert parts.status == "done" and whole.result["bits_per_byte"] == parts.result["bits_per_byte"]
    a, b = whole.model().state_dict(), parts.model().state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_where_it_began_is_part_of_what_a_run_is(language: Run, tmp_path: Path) -> None:
    plain = make_run(SMALL, {"source": "x", "tokenizer": "bytes"}, steps=3)
    # A fixed number: runs from fresh weights keep the names that they had before there were others.
    assert assay.StudySpec().runs()[0].hash == "3b0177a7aa2f2bfd"
    begun = [plain.model_copy(update={"init": InitFrom(source=s, identity=i)}) for s, i in ("ax", "bx", "ay")]
    assert len({plain.hash, *(run.hash for run in begun)}) == 3
    assert begun[0].hash == begun[1].hash, "where it lies is not"
    assert RunSpec.from_json(begun[0].to_json()) == begun[0]
    path = language.folder.path
    assert make_run(None, init=path, steps=3).hash == make_run(None, init=str(path) + "/", steps=3).hash


def test_a_description_alone_does_the_run(language: Run, source: Path, tmp_path: Path) -> None:
    """What a study's worker gets: a RunSpec that was planned before its start was there."""
    before = RunSpec.from_dict(make_run(None, source, init=language.folder.path, steps=2, **SHORT).to_dict())
    assert train_run(before, RunFolder(tmp_path / "a"))["status"] == "done"
    wrong = before.model_copy(update={"init": before.init.model_copy(update={"identity": "run:0123"})})
    with pytest.raises(UserError, match=r"holds run:.*described as beginning from run:0123"):
        train_run(wrong, RunFolder(tmp_path / "b"))
    tokens = before.data.model_copy(update={"tokenizer": assay.TokenizerSpec()})
    with pytest.raises(UserError, match=r"bpe of 2048 ids.*was trained with bytes of 299 ids"):
        train_run(before.model_copy(update={"data": tokens}), RunFolder(tmp_path / "c"))
    with pytest.raises(UserError, match="cut into other tokens"):
        text = text_of(before.model_copy(update={"init": None, "data": tokens}))
        train_run(before, RunFolder(tmp_path / "d"), text=text)


@pytest.mark.parametrize(
    ("spec", "more", "said"),
    [
        (SMALL | {"width": 32}, {}, r"embedding.weight is 299 x 16 there and 299 x 32 here"),
        (SMALL | {"layers": 3}, {}, r"blocks.2.* is missing there"),
        (SMALL | {"layers": 1}, {}, r"blocks.1.* there and missing here"),
        (SMALL | {"family": "encoder_decoder"}, {}, "do not fit"),
        (None, {"data": {"tokenizer": "bpe"}}, "data.tokenizer = bpe of 2048 ids.*Leave the tokenizer out"),
        (None, {"objective": "bart", "data": {"tokenizer": {"kind": "bytes", "sentinels": 4}}}, "Leave the tokenizer"),
    ],
)
def test_what_does_not_fit_is_refused(language: Run, spec: dict | None, more: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_run(spec, init=language.folder.path, steps=3, **more)


def test_no_start_is_refused(language: Run, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no weights to begin from"):
        make_run(None, init="tiny", steps=3)
    with pytest.raises(UserError, match="no init to take it from"):
        make_run(None, steps=3)
    data = {"source": str(source), "tokenizer": "bytes"}
    train(SMALL, data, out=tmp_path / "half", steps=9, stop=lambda: True, **SHORT)
    with pytest.raises(UserError, match="not finished.*--resume"):
        make_run(None, init=tmp_path / "half", steps=3)


def test_another_mask_may_read_the_same_weights(language: Run, source: Path, tmp_path: Path) -> None:
    """Wang et al.'s adaptation: a prefix decoder has a causal one's parameters."""
    prefix = SMALL | {"family": "prefix"}
    run = train(prefix, source, init=language.folder.path, objective="mlm", out=tmp_path / "r", steps=2, **SHORT)
    (began,) = [row for row in run.metrics if row.get("event") == "init"]
    assert began["changed"] == {"family": ["causal", "prefix"]}


def published(tmp_path: Path, source: Path) -> Path:
    """A model in a published format with a byte-level tokenizer of its own, and no sentinels."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator([source.read_text()], trainer)
    spec = assay.ModelSpec.from_dict(SMALL | {"vocab_size": 330, "tokens": {"eos": [0], "pad": 0}})
    folder = tmp_path / "published"
    assay.build(spec, seed=1).save(folder, format="hf")
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    return folder


def test_a_published_model_learns_a_text_with_its_own_tokens(source: Path, tmp_path: Path) -> None:
    folder = published(tmp_path, source)
    start = find_start(folder)
    assert start.init.published and start.init.identity.startswith("sha256:") and start.tokenizer is None
    run = train(None, source, init=folder, out=tmp_path / "run", steps=8, learning_rate=1e-2, **SHORT)
    rows = [row["bits_per_byte"] for row in run.metrics if row["kind"] == "eval"]
    assert rows[-1] < rows[0] - 0.2
    model = assay.load(tmp_path / "run")
    assert model.spec.vocab_size == 330 and model.tokenizer.encode("the text") == assay.load(folder).tokenizer.encode(
        "the text"
    )
    # What it has no tokens for is refused, with the remedy.
    with pytest.raises(UserError, match=r"no \[NLU\].*Train a tokenizer with assay"):
        train(None, source, init=folder, objective=UPALM, out=tmp_path / "ul2", steps=2, **SHORT)
    with pytest.raises(UserError, match="[Ss]entinel"):
        train(None, source, init=folder, objective="span_corruption", out=tmp_path / "sc", steps=2, **SHORT)
    # And the run can be gone on from in its turn.
    more = train(None, source, init=tmp_path / "run", out=tmp_path / "more", steps=2, **SHORT)
    assert more.folder.read_json("run.json")["init"]["published"] is True


def test_a_borrowed_tokenizer_counts_bytes(source: Path, tmp_path: Path) -> None:
    model = assay.load(published(tmp_path, source))
    tokens = BorrowedTokenizer(model.tokenizer, model.spec)
    for text in ("plain words", "Zürich, 日本\n\ttab", "<|end|> said plainly", ""):
        assert tokens.lengths(tokens.encode(text)).sum() == len(text.encode())
    assert tokens.decode(tokens.encode("Zürich")) == "Zürich" and tokens.vocabulary.eos == 0
    from types import SimpleNamespace

    strange = SimpleNamespace(engine=object(), source="spm.model")
    with pytest.raises(UserError, match="no byte-level tokenizer"):
        BorrowedTokenizer(strange, model.spec)  # type: ignore[arg-type]


def test_the_start_may_be_of_any_maker(language: Run, source: Path, tmp_path: Path) -> None:
    """A model that assay saved has its tokenizer's spec, and its weights' hash for a name."""
    assay.load(language.folder.path).save(tmp_path / "saved")
    start = find_start(tmp_path / "saved")
    assert start.init.identity.startswith("sha256:") and not start.init.published and start.tokenizer is not None
    run = train(None, source, init=tmp_path / "saved", out=tmp_path / "run", steps=1, **SHORT)
    (began,) = [row for row in run.metrics if row.get("event") == "init"]
    assert began["identity"] == began["weights"] == start.init.identity
