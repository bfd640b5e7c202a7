"""The tables of docs/reliability.md: rows by the command that makes them, replaced when it is run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["PAGE", "put_row"]

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def put_row(table: str, cells: Sequence[str], *, key: int | None, page: Path = PAGE) -> None:
    """Write a row into a table between `<!-- TABLE -->` and `<!-- end of TABLE -->`.

    Args:
        table: its name.
        cells: the row.
        key: the column whose equal cell a row replaces; None: the row is put at the end.
        page: the file.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {table} -->\n", f"<!-- end of {table} -->"
    before, _, rest = text.partition(begin)
    inside, _, after = rest.partition(end)
    assert rest and after, f"{page}: no table {table}"
    lines = inside.strip().splitlines()
    wanted = "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    same = [i for i, line in enumerate(lines[2:], 2) if key is not None and _cells(line)[key] == _cells(wanted)[key]]
    if same:
        lines[same[0]] = wanted
    else:
        lines.append(wanted)
    page.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").replace("\\|", "\0").split("|")]
