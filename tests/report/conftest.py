"""Study folders to report on."""

from pathlib import Path

import pytest
from tests.report.synthetic import write_study


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """The default study: three families, three seeds, all finished."""
    write_study(tmp_path / "study")
    return tmp_path / "study"
