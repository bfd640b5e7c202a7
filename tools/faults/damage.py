"""Files cut, changed by a bit, or exchanged: refused with their name and what helps, or made again; never used."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tools.faults.scene import Found, Reference, Scene, timed, wait_for_steps

from assay.data.shards import TokenDocuments
from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.data import DataSpec, TokenizerKind, TokenizerSpec
from assay.training.text import load_text

CHECKPOINT = ("model.safetensors", "optimizer.safetensors", "state.json", "checksums.json")


def damage(scene: Scene, trials: int, seed: int = 0) -> Found:
    """Change a bit of, or cut, each file of a checkpoint and of the tokens; put another text under a run."""
    options = f"damage --trials {trials} --seed {seed}"
    found = Found("damage", "a bit flipped or the end cut: each file of a checkpoint, of the tokens", options=options)
    order = random.Random(seed)
    with timed(found):
        reference = scene.reference(60, 2)
        stopped = scene.new()
        worker = scene.start(scene.arguments(stopped, 60, 2))
        if wait_for_steps(stopped, 10, worker):
            worker.terminate()
        worker.wait(60)
        for _ in range(trials):
            for name in CHECKPOINT:
                _checkpoint(scene, found, order, stopped, name)
        _remedy(scene, found, stopped, reference)
        _finished(scene, found, order, reference)
        tokens = _tokens(scene, found, order, trials, reference)
        _another_text(scene, found, stopped)
    found.said = (
        f"checkpoints: refused, the file named, {trials} times for each file, and after the remedy the run ended as it "
        f"should; "
        f"tokens: {tokens} times refused and made again; another text under a run: refused"
    )
    return found


def hurt(path: Path, order: random.Random) -> str:
    """Flip a random bit of a file, or cut its end off; what was done."""
    content = bytearray(path.read_bytes())
    if order.random() < 0.5:
        place = order.randrange(len(content))
        content[place] ^= 1 << order.randrange(8)
        path.write_bytes(content)
        return f"bit of byte {place:,} flipped"
    kept = order.randrange(len(content))
    path.write_bytes(content[:kept])
    return f"cut to {kept:,} bytes"


def _copy(scene: Scene, run: RunFolder) -> RunFolder:
    copy = scene.new()
    shutil.copytree(run.path, copy.path)
    return copy


def _checkpoint(scene: Scene, found: Found, order: random.Random, stopped: RunFolder, name: str) -> None:
    copy = _copy(scene, stopped)
    file = copy.checkpoint(copy.checkpoint_steps()[-1]) / name
    what = hurt(file, order)
    status, said = scene.command(scene.arguments(copy, 60, 2))
    found.trials += 1
    told = said.replace(" ", "")  # a path may be wrapped
    named = (f"{file}:" in told or f"{file}" in told) if name != CHECKPOINT[-1] else str(file.parent) in told
    found.check(
        status == 2 and named and "elete" in said and "Traceback" not in said, f"{name}, {what}: {status}: {said}"
    )
    shutil.rmtree(copy.path)


def _remedy(scene: Scene, found: Found, stopped: RunFolder, reference: Reference) -> None:
    """What the message says is done, and the run ends as it should."""
    copy = _copy(scene, stopped)
    shutil.rmtree(copy.checkpoint(copy.checkpoint_steps()[-1]))
    status, said = scene.command(scene.arguments(copy, 60, 2))
    wrong = said if status else reference.whole(copy)
    found.check(not wrong, f"after the remedy: {wrong}")


def _finished(scene: Scene, found: Found, order: random.Random, reference: Reference) -> None:
    """A finished run's damaged weights are refused by whoever loads them."""
    copy = _copy(scene, reference.folder)
    file = copy.checkpoint(copy.checkpoint_steps()[-1]) / CHECKPOINT[0]
    what = hurt(file, order)
    status, said = scene.command(["generate", str(copy.path), "the"])
    found.trials += 1
    found.check(status == 2 and str(file) in said.replace(" ", ""), f"generate, {what}: {status}: {said}")


def _tokens(scene: Scene, found: Found, order: random.Random, trials: int, reference: Reference) -> int:
    tokenizer = TokenizerSpec(kind=TokenizerKind.bytes)
    text = load_text(DataSpec(source=str(scene.text), tokenizer=tokenizer))
    shards = Path(text.train.tokens.filename).parent  # type: ignore[attr-defined]
    good = {file.name: file.read_bytes() for file in shards.iterdir()}
    done = 0
    for name in sorted(good):
        for _ in range(trials):
            what = hurt(shards / name, order)
            done += 1
            found.trials += 1
            try:
                meta = TokenDocuments.open(shards).meta
                found.check(name == "meta.json" and _harmless(meta), f"{name}, {what}: opened")
            except UserError as error:
                found.check("Delete the folder" in str(error), f"{name}, {what}: {error}")
            run = scene.new()
            status, said = scene.command(scene.arguments(run, 60, 2))
            wrong = said if status else reference.whole(run)
            found.check(not wrong, f"{name}, {what}: {wrong}")
            for file, content in good.items():
                (shards / file).write_bytes(content)
    return done


def _harmless(meta: object) -> bool:
    """Whether a changed meta.json still says what reading stands on; facts that nobody reads may differ."""
    return isinstance(meta, dict) and {"dtype", "tokens", "tokens_sha256", "offsets_sha256", "boundaries"} <= set(meta)


def _another_text(scene: Scene, found: Found, stopped: RunFolder) -> None:
    copy = _copy(scene, stopped)
    text = scene.text.read_text(encoding="utf-8")
    scene.text.write_text(text.replace("model", "table", 1), encoding="utf-8")
    status, said = scene.command(scene.arguments(copy, 60, 2))
    scene.text.write_text(text, encoding="utf-8")
    found.trials += 1
    found.check(status == 2 and "was begun on another text" in said, f"another text: {status}: {said}")
