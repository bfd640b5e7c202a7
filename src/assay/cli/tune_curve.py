"""`assay tune --labels`: label-efficiency curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from assay.cli.main import INTERRUPTED, say
from assay.cli.tune import as_plain, texts_of
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.evaluation.tasks import Three
    from assay.generation.model import Model
    from assay.spec.data import TokenizerSpec
    from assay.training.tuning_spec import TuneSpec


def draw_curve(
    source: str, parts: list[Three], spec: TuneSpec, tokens: TokenizerSpec | None, labels: str, seeds: int,
    out: Path, settings: dict[str, Any], device: str, as_json: bool, resume: bool,
) -> None:  # fmt: skip
    """Tune both arms on every number of labels; finished parts are in labels.json at once.

    Raises:
        UserError: several tasks, impossible numbers, or the folder holds another curve.
    """
    import assay
    from assay.report.tasks import LABELS, value, write_labels
    from assay.runs import provenance, read_json, write_json
    from assay.studies.label_efficiency import ARMS, label_curve
    from assay.training.opening import has_weights, open_model
    from assay.training.signals import Interrupt
    from assay.training.start import weights_identity
    from assay.training.tuning_state import tuning_key

    if len(parts) > 1:
        raise UserError(f"--labels: a curve is of one labelled set, and {len(parts)} are given.", "Give one --data.")
    try:
        counts = [int(count) for count in labels.split(",")]
    except ValueError:
        raise UserError(f"--labels {labels}: not whole numbers.", "Write --labels 8,32,128,512.") from None
    pretrained = open_model(source, texts_of(parts), tokenizer=tokens, device=device)

    def make(arm: str, seed: int) -> Model:
        if arm == "pretrained":
            return open_model(source, (), device=device)
        return assay.build(pretrained.spec, seed=seed, device=device, tokenizer=pretrained.tokenizer)

    arms = ARMS if has_weights(source) else ARMS[1:]
    part = parts[0]
    # The points do not depend on each other: more labels and seeds may be asked for when it goes on.
    key = tuning_key(spec, [(task, 1.0) for task in (part.train, part.test)], 0, weights_identity(pretrained))
    before = read_json(out / LABELS) if (out / LABELS).is_file() else {}
    if before and not resume and not before.get("complete", True):
        raise UserError(f"{out}: holds an unfinished curve.", "Go on with it with --resume, or give another --out.")
    if before and resume and before.get("key") != key:
        raise UserError(
            f"{out}: holds another curve than these options, data and weights describe.",
            "Give the options that it was begun with (labels and seeds may be more), or another --out.",
        )
    result = {
        "schema_version": 1, "kind": "labels", "key": key, "name": pretrained.spec.name or source, "settings": settings,
        "task": part.train.facts, "test_items": len(part.test), "spec": pretrained.spec.to_dict(full=True),
        "provenance": provenance(),
    }  # fmt: skip
    with Interrupt() as interrupt:
        found = label_curve(
            make, part, spec, labels=counts, seeds=seeds, arms=arms, progress=say, stop=lambda: interrupt.happened,
            done=before["runs"] if before and resume else (),
            keep=lambda so_far: write_json(out / LABELS, result | so_far),
        )  # fmt: skip
    if not found["runs"]:
        raise KeyboardInterrupt("nothing had been measured yet.")
    write_json(out / LABELS, result | found)
    page = write_labels(out)
    if as_json:
        as_plain({**found, "report": str(page)})
    else:
        for point in found["points"]:
            print(f"{point['arm']:<11} {point['labels']:>6} labels  accuracy {value(point['accuracy'])}")
        print(f"report  {page}")
    if interrupt.happened:
        say(f"Interrupted: {page} shows what had been measured. The same command with --resume goes on.")
        raise typer.Exit(INTERRUPTED)
