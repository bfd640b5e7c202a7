"""`assay inspect RUN --batch STEP`: a batch that training left out or stopped at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from assay.errors import UserError

if TYPE_CHECKING:
    from assay.data.tokenizer import Tokenizer
    from assay.published.tokens import PublishedTokenizer

__all__ = ["look_at_batch", "show_batch"]

CUT = 300
"""Characters of a row's text that are shown; --full shows all."""


def look_at_batch(source: str, step: int) -> dict[str, Any]:
    """Facts of a kept batch with every row's decoded text.

    Returns:
        What its JSON file says, and "rows": a dict each with "loss" (nats per target, None without targets),
        "tokens", "targets" (how many), "pieces" ([document, first token, tokens]), "input" and "target" (text, special
        tokens by name; of the targets only those with a weight), and "decoder_input" where there is a decoder.

    Raises:
        UserError: `source` is no run's folder, or that step's batch was not kept.
    """
    from assay.data.bad_batches import read_bad_batch
    from assay.runs import RunFolder

    path = Path(source).expanduser()
    if not (path / "run.json").is_file():
        raise UserError(f"--batch {step}: {source} is no run's folder.", "Give OUT or OUT/runs/<hash>.")
    arrays, facts = read_bad_batch(RunFolder.open(path), step)
    tokenizer = _tokenizer(path)
    rows = []
    for number, (loss, pieces) in enumerate(zip(facts.pop("row_losses"), facts.pop("pieces"), strict=True)):
        weights = arrays["weights"][number] != 0
        sides = {"input": arrays["input_ids"][number][arrays["document_ids"][number] > 0]}
        if "decoder_input_ids" in arrays:
            sides["decoder_input"] = arrays["decoder_input_ids"][number][arrays["decoder_document_ids"][number] > 0]
        sides["target"] = arrays["targets"][number][weights]
        said = {name: tokenizer.decode(ids, specials=True) for name, ids in sides.items()}
        counted = {"tokens": len(sides["input"]), "targets": int(np.count_nonzero(weights))}
        rows.append({"row": number, "loss": loss, **counted, "pieces": pieces, **said})
    return {**facts, "rows": rows}


def show_batch(source: str, step: int, *, full: bool, as_json: bool) -> None:
    """Print a kept batch, the rows of the largest loss first.

    Raises:
        UserError: as `look_at_batch`.
    """
    from assay.runs.files import plain

    found = look_at_batch(source, step)
    if as_json:
        print(json.dumps(plain(found), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"[bold]Step {found['step']:,}[/bold]: {found['reason']}")
    console.print(
        f"loss {found['loss']:.6g}, gradient norm {found['grad_norm']:.6g}; epoch {found['epoch']}, batch "
        f"{found['place']}, seed {found['seed']}. Losses of rows are by the weights before the step, without dropout."
    )
    for row in sorted(found["rows"], key=_worst_first):
        loss = "no targets" if row["loss"] is None else f"{row['loss']:.4f} nats a target"
        held = ", ".join(f"document {d} from token {start}" for d, start, _ in row["pieces"][:3])
        more = f" and {len(row['pieces']) - 3} more" if len(row["pieces"]) > 3 else ""
        console.print()
        console.print(Rule(f"Row {row['row']}: {loss}", align="left", style="dim"))
        console.print(Text(f"{row['tokens']:,} tokens, {row['targets']:,} targets: {held}{more}", style="dim"))
        for side in ("input", "decoder_input", "target"):
            if side in row and (side != "target" or full or "decoder_input" in row):
                text = row[side] if full or len(row[side]) <= CUT else row[side][:CUT] + " ..."
                console.print(Text.assemble((f"{side.replace('_', ' ')}: ", "bold"), text))


def _worst_first(row: dict[str, Any]) -> tuple[int, float]:
    """Rows that are not finite, then by falling loss, then those without targets."""
    loss = row["loss"]
    if loss is None:
        return 2, 0.0
    return (1, -loss) if np.isfinite(loss) else (0, 0.0)


def _tokenizer(path: Path) -> Tokenizer | PublishedTokenizer:
    from assay.data.tokenizer import FILE, load_tokenizer

    if (path / FILE).is_file():
        return load_tokenizer(path)
    from assay.published.tokens import folder_tokenizer
    from assay.spec.model import ModelSpec

    found = folder_tokenizer(path, ModelSpec.from_json(path / "spec.json"))
    if found is None:
        raise UserError(
            f"{path}: holds no tokenizer, so its tokens cannot be read.", "Put the tokenizer's files there."
        )
    return found
