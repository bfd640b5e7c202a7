"""The page on objectives is what the code says."""

import tomllib
from pathlib import Path

from assay.objectives.__main__ import page
from assay.spec.objective import ObjectiveKind, ObjectiveSpec
from assay.spec.training import TrainSpec

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_page_is_made_from_the_code():
    assert DOCS.read_text(encoding="utf-8") == page(), "run: python -m assay.objectives > docs/objectives.md"
    assert all(f"| `{kind.value}` |" in page() for kind in ObjectiveKind)


def test_the_recipe_is_a_description():
    fields = tomllib.loads(page().split("```toml\n")[1].split("```")[0])
    objective = ObjectiveSpec.model_validate(fields["objective"])
    assert (objective.kind, objective.mixture) == ("ul2", "upalm")
    assert TrainSpec.from_dict(fields["train"]).steps == 200
