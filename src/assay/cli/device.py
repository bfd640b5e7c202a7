"""The option --device, and what is said where there is no such device."""

from __future__ import annotations

import typer

from assay.errors import UserError

__all__ = ["device_option"]


def device_option(panel: str | None = None, *, default: str | None = None) -> typer.models.OptionInfo:
    """The option, checked before anything is opened.

    Args:
        panel: of the help text.
        default: what to say of the value taken where it is not given; None: the default is shown as it is.
    """
    said = "Where to compute: cpu, cuda." + (f" Default: {default}." if default else "")
    return typer.Option(
        metavar="DEVICE", rich_help_panel=panel, show_default=default is None, help=said, callback=_known
    )  # fmt: skip


def _known(name: str | None) -> str | None:
    """The name, if torch can compute there. Raises UserError."""
    if name is None or name == "cpu":
        return name
    import torch

    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UserError(f"--device {name}: is not known.", "Give cpu, cuda, or cuda:N.")
    there = torch.cuda.device_count()
    if not there:
        raise UserError(
            f"--device {name}: torch {torch.__version__} finds no accelerator here.",
            "Give --device cpu; assay doctor says what this machine has.",
        )
    if number and int(number) >= there:
        raise UserError(f"--device {name}: there are {there}, counted from 0.", f"Give cuda:{there - 1} or less.")
    return name
