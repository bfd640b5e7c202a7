"""Options that go with a SOURCE."""

from __future__ import annotations

from assay.errors import UserError

__all__ = ["hints"]


def hints(given: list[str] | None) -> dict[str, bool | int | float | str]:
    """`--hint NAME=VALUE` options as `assay.load` takes them: true, false and numbers are understood.

    Raises:
        UserError: one has no `=`, or a name is given twice.
    """
    found: dict[str, bool | int | float | str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UserError(f"--hint {text}: is no NAME=VALUE.", "Such as --hint position=alibi.")
        if name in found:
            raise UserError(f"--hint {name}: given twice.", "Give it once.")
        found[name] = _plain(value.strip())
    return found


def _plain(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
