"""Formulas: from LaTeX to MathML, which browsers typeset themselves. No script, no font, no network.

latex2mathml does the translation; here it is made fit for a page: what it cannot translate is refused instead of
shown as source, names stand upright in one piece, and only MathML's own elements and harmless attributes pass.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html import unescape

from assay.errors import UserError

__all__ = ["mathml"]

ELEMENTS = frozenset({
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup",
    "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd",
    "mstyle", "mpadded", "mphantom", "menclose", "mfenced",
})  # fmt: skip
"""What may stand in a formula."""
ATTRIBUTES = frozenset({
    "xmlns", "display", "mathvariant", "stretchy", "fence", "form", "separator", "accent", "accentunder",
    "largeop", "movablelimits", "symmetric", "minsize", "maxsize", "lspace", "rspace", "width", "height",
    "depth", "voffset", "linethickness", "displaystyle", "scriptlevel", "columnalign", "rowspacing",
    "columnspacing", "columnlines", "rowlines", "linebreak", "mathsize", "notation",
})  # fmt: skip
"""What they may carry: no address, no style, no event."""
OPERATORS = {"~": "∼", ";": ";", ":": ":", "⌊": "⌊", "⌋": "⌋", "⌈": "⌈", "⌉": "⌉"}
"""What the translation calls names and is none."""
NAMES = {r"\arg": "arg"}
REWRITTEN = (
    (re.compile(r"\\(begin|end)\{aligned\}"), r"\\\1{align*}"),
    (re.compile(r"\\operatorname\*"), r"\\operatorname"),
    (re.compile(r"\\arg\s*\\(max|min)\b"), r"\\arg\1"),
)
"""Common LaTeX that the translation does not know, in its own words."""


def mathml(latex: str, *, display: bool = True) -> str:
    r"""A formula as a `<math>` element.

    Args:
        latex: as it stands between dollar signs: r"\frac{x_i}{\sqrt{d}}".
        display: on a line of its own, with large operators; else within a line.

    Returns:
        Well-formed markup, all text escaped; the LaTeX stands in `alttext`.

    Raises:
        UserError: it is empty, its braces do not match, or it has a command that is not known.
    """
    from latex2mathml.converter import convert_to_element

    _check_braces(latex)
    source = latex
    for pattern, replacement in REWRITTEN:
        source = pattern.sub(replacement, source)
    try:
        tree = convert_to_element(source, display="block" if display else "inline")
    except Exception as error:  # the translation's errors share no class of their own
        raise UserError(
            f"formula {latex!r}: it cannot be typeset ({type(error).__name__}).", "Correct the LaTeX."
        ) from error
    _clean(tree, latex)
    tree.set("alttext", latex)
    return ET.tostring(tree, encoding="unicode")


def _check_braces(latex: str) -> None:
    """The translation closes what is left open and shows what closes nothing; a page should not."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex.replace(r"\\", "  ")):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth or not latex.strip():
        raise UserError(f"formula {latex!r}: braces do not match, or it is empty.", "Correct the LaTeX.")


def _clean(node: ET.Element, latex: str) -> None:
    """Make a translated element fit for a page, with all that it holds."""
    if node.tag not in ELEMENTS:
        raise UserError(f"formula {latex!r}: <{node.tag}> is not for formulas.", "Leave that command out.")
    node.attrib = {name: value for name, value in node.attrib.items() if name in ATTRIBUTES}
    text = unescape(node.text or "")
    if node.tag == "mi":
        text = NAMES.get(text, text)
        if text.startswith("\\"):
            raise UserError(f"formula {latex!r}: the command {text} is not known.", "Write it in other words.")
        if text in OPERATORS:
            node.tag, text = "mo", OPERATORS[text]
    node.text = text or None
    for child in node:
        _clean(child, latex)
    _join(node)


def _join(row: ET.Element) -> None:
    """Upright letters in a row become one name: browsers set a name of several letters upright and close."""
    letters = [child for child in row if child.tag in ("mi", "mtext")]
    if row.tag != "mrow" or len(letters) < 2 or len(letters) != len(row):
        return
    if any(child.tag == "mi" and child.get("mathvariant") != "normal" for child in letters):
        return
    name = ET.Element("mtext" if any(child.tag == "mtext" for child in letters) else "mi")
    name.text = "".join(child.text or "" for child in letters)
    row[:] = [name]
