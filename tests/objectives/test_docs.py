"""The page on objectives is what the code says."""

import shlex
from pathlib import Path

from typer.testing import CliRunner

from assay.cli.main import app
from assay.objectives.__main__ import page
from assay.spec.objective import ObjectiveKind, ObjectiveSpec

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_page_is_made_from_the_code():
    assert DOCS.read_text(encoding="utf-8") == page(), "run: python -m assay.objectives > docs/objectives.md"
    assert all(f"| `{kind.value}` |" in page() for kind in ObjectiveKind)


def test_the_recipes_commands_are_commands():
    """Up to the start's weights, which no page brings along."""
    first, second = (shlex.split(line)[1:] for line in page().splitlines() if line.startswith("    assay train "))
    assert second[second.index("--init") + 1] == first[first.index("--out") + 1]
    refused = CliRunner().invoke(app, [word if word != "runs/first" else "tiny" for word in second])
    assert refused.exit_code == 2 and "init = tiny: has no weights" in refused.stderr
    fields = dict(zip(second[1::2], second[2::2], strict=True))
    assert fields["--set"] == "objective.mixture=upalm"
    assert ObjectiveSpec.model_validate({"kind": fields["--objective"], "mixture": "upalm"}).mixture == "upalm"
