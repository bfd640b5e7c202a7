"""Where a run's weights come from, when they are not a seed's draw: another run's, or any model's with weights.

So a causal decoder goes on with UL2's mixture (U-PaLM), a language model is adapted to another mask (Wang et al.
2022), a published model learns a new text. What a run began from is part of its identity.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.data.tokenizer import FILE, Tokenizer, load_tokenizer
from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.data import TokenizerSpec
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.spec.study import InitFrom, RunSpec
from assay.training.text import Text, load_text, resolve

if TYPE_CHECKING:
    from assay.generation.model import Model
    from assay.nn.transformer import Transformer

__all__ = [
    "Start",
    "begin_from",
    "check_fit",
    "check_tokens",
    "fill_weights",
    "find_start",
    "open_tokenizer",
    "text_of",
]


@dataclass(frozen=True, eq=False)
class Start:
    """What a run may begin from."""

    init: InitFrom
    """As the run's description names it, complete."""
    model: ModelSpec
    """What its weights are of."""
    tokenizer: TokenizerSpec | None
    """Of the tokens; None: a published model's own."""


def find_start(source: str | Path) -> Start:
    """Look a SOURCE with weights up, for `RunSpec.init`.

    Args:
        source: the folder of a finished run, a folder that assay saved, or a published model.

    Raises:
        UserError: nothing there, no weights, an unfinished run, or no tokenizer.
    """
    folder = _run(source)
    if folder is not None:
        hash_ = folder.read_json("run.json")["hash"]
        tokens, published = _tokens(folder.path)
        spec = ModelSpec.from_dict(folder.read_json("spec.json"), source=str(folder.path / "spec.json"))
        return Start(InitFrom(source=str(source), identity=f"run:{hash_}", published=published), spec, tokens)
    model = _load(source)
    own = getattr(model.tokenizer, "spec", None)
    init = InitFrom(source=str(source), identity=weights_identity(model), published=own is None)
    return Start(init, model.spec, own if isinstance(own, TokenizerSpec) else None)


def begin_from(run: RunSpec, start: Start, *, tokenizer_given: bool) -> RunSpec:
    """A run's description with `init` set, and the tokenizer that goes with it; what does not fit is refused.

    Args:
        run: as it would be from fresh weights.
        start: what it begins from.
        tokenizer_given: whether the run's tokenizer was asked for, and is no default.

    Raises:
        UserError: another tokenizer was asked for, or the weights do not fit the model.
    """
    source = start.init.source
    if tokenizer_given and run.data.tokenizer != start.tokenizer:
        own = "its own, published one" if start.tokenizer is None else _said(start.tokenizer)
        raise UserError(
            f"data.tokenizer = {_said(run.data.tokenizer)}: {source} was trained with {own}, and its weights know no "
            "other tokens.",
            "Leave the tokenizer out.",
        )
    changes: dict[str, Any] = {"init": start.init}
    if start.tokenizer is not None:
        changes["data"] = run.data.model_copy(update={"tokenizer": start.tokenizer})
    else:
        kept = {"vocab_size": start.model.vocab_size, "tokens": start.model.tokens.model_dump(mode="json")}
        changes["model"] = ModelSpec.from_dict(run.model.model_dump(mode="json") | kept)
    found = run.model_copy(update=changes)
    check_fit(start.model, resolve(found).model, source)
    return found


def open_tokenizer(init: InitFrom) -> Tokenizer:
    """The tokenizer of what a run begins from: the run reads its text with it.

    Raises:
        UserError: it has none that training can use.
    """
    from assay.training.borrowed import BorrowedTokenizer

    folder = _run(init.source)
    if folder is not None and (folder.path / FILE).is_file():
        return load_tokenizer(folder.path)
    model = _load(init.source)
    if isinstance(getattr(model.tokenizer, "spec", None), TokenizerSpec):
        found: Tokenizer = model.tokenizer
        return found
    return BorrowedTokenizer(model.tokenizer, model.spec)


def text_of(run: RunSpec) -> Text:
    """The data of a run: with the tokenizer of what it begins from, or one of its own.

    Raises:
        UserError: as `load_text`, or no tokenizer at the start.
    """
    return load_text(run.data, open_tokenizer(run.init) if run.init is not None else None)


def check_tokens(run: RunSpec, text: Text) -> None:
    """Refuse a text that was cut into other tokens than those that the start's weights know.

    Raises:
        UserError: another tokenizer than the start's.
    """
    if run.init is None:
        return
    own = open_tokenizer(run.init)
    spec = getattr(own, "spec", None)
    if isinstance(spec, TokenizerSpec) and spec != run.data.tokenizer:
        raise UserError(
            f"data.tokenizer = {_said(run.data.tokenizer)}: {run.init.source} was trained with {_said(spec)}, and its "
            "weights know no other tokens.",
            "Leave the tokenizer out.",
        )
    if own.hash != text.tokenizer.hash:
        raise UserError(
            f"init = {run.init.source}: the text was cut into other tokens than its weights know.",
            "Read it with assay.training.start.text_of(run).",
        )


def check_fit(start: ModelSpec, wanted: ModelSpec, source: str) -> None:
    """Refuse weights that are not those of the model wanted.

    Args:
        start: what the weights are of.
        wanted: what the run trains, its vocabulary set.
        source: the start, for messages.

    Raises:
        UserError: a parameter that one of the two lacks or that has another shape.
    """
    have = {info.name: info.shape for info in layout(start)}
    need = {info.name: info.shape for info in layout(wanted)}
    if have == need:
        return
    name = next((n for n in need if have.get(n) != need[n]), None) or next(n for n in have if n not in need)
    shapes = [_shape(where.get(name)) for where in (have, need)]
    raise UserError(
        f"init = {source}: its weights do not fit the run's model: {name} is {shapes[0]} there and {shapes[1]} here.",
        "Leave SOURCE and what changes the model out (then the description is the start's own), or start from another.",
    )


def fill_weights(run: RunSpec, model: Transformer) -> dict[str, Any]:
    """Copy the start's weights into a run's model, and say what they were.

    Args:
        run: with `init`, its vocabulary set.
        model: of the run.

    Returns:
        "source", "identity", "weights" (a hash over them) and "changed" (fields of the description that are not the
        start's: [there, here]).

    Raises:
        UserError: the start is gone or is not what the description names, or it does not fit.
    """
    import torch

    assert run.init is not None
    loaded = _load(run.init.source)
    check_fit(loaded.spec, run.model, run.init.source)
    identity = weights_identity(loaded)
    folder = _run(run.init.source)
    found = identity if folder is None else f"run:{folder.read_json('run.json')['hash']}"
    if run.init.identity not in ("", found):
        raise UserError(
            f"init = {run.init.source}: holds {found}, and the run is described as beginning from {run.init.identity}.",
            "It has changed since. Give the folder that the run was begun with, or another --out.",
        )
    theirs = dict(loaded.transformer.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(theirs[name])
    changed = _changed(loaded.spec, run.model)
    return {"source": run.init.source, "identity": found, "weights": identity, "changed": changed}


def weights_identity(model: Model) -> str:
    """`sha256:` and 16 hexadecimal digits over the weights, by name, as float32."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.transformer.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"


def _run(source: str | Path) -> RunFolder | None:
    """The finished run in a folder; None where it is no run's.

    Raises:
        UserError: the run is not finished.
    """
    path = Path(source).expanduser()
    if not (path / "run.json").is_file():
        return None
    folder = RunFolder.open(path)
    if not folder.done:
        raise UserError(
            f"init = {source}: this run is not finished, and its weights change when it goes on.",
            "Finish it with --resume, or keep its weights as they are: assay export.",
        )
    return folder


def _tokens(folder: Path) -> tuple[TokenizerSpec | None, bool]:
    """The tokenizer's spec where assay trained it, and whether it is a published one instead."""
    if (folder / FILE).is_file():
        spec = getattr(load_tokenizer(folder), "spec", None)
        return (spec, False) if isinstance(spec, TokenizerSpec) else (None, True)
    return None, True


def _load(source: str | Path) -> Model:
    from assay.published.load import load
    from assay.training.opening import has_weights

    if not has_weights(source):
        raise UserError(
            f"init = {source}: has no weights to begin from.", "Give a run's folder, or a saved or published model."
        )
    model = load(source)
    if model.tokenizer is None:
        raise UserError(
            f"init = {source}: holds no tokenizer, so nothing says what its tokens are.",
            "Put its tokenizer's files into its folder.",
        )
    return model


def _said(spec: TokenizerSpec) -> str:
    return f"{spec.kind.value} of {spec.vocab_size} ids, {spec.sentinels} of them sentinels"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a scalar"


def _changed(start: ModelSpec, wanted: ModelSpec) -> dict[str, list[Any]]:
    """Field: [the start's value, the run's], of the description's top level."""
    a, b = (spec.model_dump(mode="json", exclude={"name", "tokens"}) for spec in (start, wanted))
    return {name: [a[name], b[name]] for name in a if a[name] != b[name]}
