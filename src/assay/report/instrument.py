"""Pages of instruments: a finding, pictures with captions, tables, and how to do it again. One template for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.report.charts import Chart
from assay.report.format import memory
from assay.report.html import picture, render
from assay.runs import write_text

__all__ = ["Section", "Table", "write_page"]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Section:
    """One part of a page."""

    title: str
    said: list[str] = field(default_factory=list)
    charts: list[tuple[Chart, str]] = field(default_factory=list)
    """Each with its caption."""
    tables: list[Table] = field(default_factory=list)
    folded: list[tuple[str, Table]] = field(default_factory=list)
    """Tables behind a line that opens them."""

    def draw(self, chart: Chart | None, caption: str) -> None:
        """Add a chart, where there is one."""
        if chart is not None:
            safe: Any = Chart(picture(chart.wide), picture(chart.narrow), chart.title)
            self.charts.append((safe, caption))


def write_page(
    path: Path,
    *,
    title: str,
    kicker: str,
    finding: Sequence[str],
    sections: Sequence[Section],
    provenance: dict[str, Any],
    settings: dict[str, Any],
    source: str,
    said: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Write a self-contained page, atomically.

    Args:
        path: the file.
        title, kicker, finding, said, warnings: its head.
        sections: its parts; those with nothing in them are left out.
        provenance: `runs.provenance`'s.
        settings: what was measured, by name.
        source: the file that holds the data.

    Raises:
        UserError: the disk is full or forbids writing.
    """
    hardware, versions = provenance["hardware"], provenance["versions"]
    facts = [(name.replace("_", " "), "none" if value is None else str(value)) for name, value in settings.items()]
    facts += [
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("hardware", f"{hardware['cpu']}, {hardware['cores']} cores, {memory(hardware['memory_bytes'] or 0)}"),
        ("accelerators", ", ".join(hardware["accelerators"]) or "none"),
        ("commit", str(provenance.get("git") or "unknown")),
        ("time", str(provenance["time"])),
    ]
    write_text(
        path,
        render(
            "instrument.html.j2",
            title=title,
            kicker=kicker,
            finding=finding,
            said=said,
            warnings=warnings,
            sections=[s for s in sections if s.said or s.charts or s.tables or s.folded],
            command=provenance["command"],
            facts=facts,
            source=source,
            version=versions.get("assay", "unknown"),
        ),
    )
