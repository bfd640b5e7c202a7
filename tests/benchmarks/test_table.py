"""The README's table: one line a comparison, the best peer named, and a word where there is nothing to show."""

from pathlib import Path

import pytest
from benchmarks.result import Result
from benchmarks.rows import cannot, of_times
from benchmarks.suite import save
from benchmarks.table import main, markdown


def a_result() -> Result:
    result = Result(
        "a", "A step", "training", "s", "ms", of_times({"assay": [1.0], "p": [2.0], "q": [3.0]}, "assay", limit=0.9)
    )
    result.rows += cannot({"r": "not here"})
    return result


def test_a_line_names_the_best_peer_and_the_limit() -> None:
    lines = markdown([a_result()]).splitlines()
    assert len(lines) == 3
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["A step", "1,000 ms", "2.00 (p)", "0.900"]


def test_what_has_nothing_to_compare_with_is_left_out() -> None:
    alone = Result("b", "Alone", "parts", "s", "ms", of_times({"assay": [1.0]}, "assay"))
    grown = a_result()
    grown.group = "growth"
    assert len(markdown([alone, grown]).splitlines()) == 2


def test_from_files_or_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 1 and "make bench" in capsys.readouterr().err
    save(tmp_path / "results" / "training.json", [a_result()], {})
    assert main(["--out", str(tmp_path)]) == 0 and "| A step |" in capsys.readouterr().out
