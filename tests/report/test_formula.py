import re
import xml.etree.ElementTree as ET

import pytest

from assay.errors import UserError
from assay.report.formula import ATTRIBUTES, ELEMENTS, mathml

M = "{http://www.w3.org/1998/Math/MathML}"
BOOK = [
    r"\mathrm{RMSNorm}(x)_i = \frac{x_i}{\sqrt{\frac{1}{d}\sum_{j=1}^{d} x_j^2 + \epsilon}}\, g_i",
    r"\max_\theta \sum_{i=1}^{n} \log p_\theta(x_i \mid x_{<i})",
    r"\theta_{t+1} = \theta_t - \eta\, \nabla_\theta \mathbb{E}_{x \sim D}[L(x;\theta)]",
    r"x_{l+1} = \mathrm{LN}(\alpha x_l + f(x_l)), \quad \alpha = (2N)^{1/4},\ \beta = (8N)^{-1/4}",
    r"\begin{cases} 1 & x < 0 \\ 2 & \text{else} \end{cases}",
    r"\begin{aligned} \mu &= \tfrac{1}{d} \sum_i x_i \\ y &= \frac{x - \mu}{\sigma} \end{aligned}",
    r"\operatorname*{argmin}_x \left\| A x - b \right\|_2 \approx \hat{x}",
]


def words(markup: str) -> str:
    return "".join(ET.fromstring(markup).itertext())


@pytest.mark.parametrize("latex", BOOK)
def test_formulas_become_wellformed_mathml_without_latex_left(latex: str) -> None:
    markup = mathml(latex)
    tree = ET.fromstring(markup)
    assert tree.tag == f"{M}math" and tree.get("display") == "block" and tree.get("alttext") == latex
    assert not re.search(r"[\\&{]", words(markup)) or "cases" in latex
    assert {node.tag.removeprefix(M) for node in tree.iter()} <= ELEMENTS


def test_structure_and_letters_are_right() -> None:
    tree = ET.fromstring(mathml(r"\frac{\alpha_1}{2}"))
    top, bottom = next(tree.iter(f"{M}mfrac"))
    assert "".join(top.itertext()) == "α1" and "".join(bottom.itertext()) == "2"
    assert next(tree.iter(f"{M}msub")) is not None


def test_names_stand_in_one_piece() -> None:
    names = [node.text for node in ET.fromstring(mathml(r"\mathrm{RMSNorm}(xy)")).iter(f"{M}mi")]
    assert names == ["RMSNorm", "x", "y"]


def test_tilde_and_semicolon_are_operators() -> None:
    operators = [node.text for node in ET.fromstring(mathml(r"x \sim D; y")).iter(f"{M}mo")]
    assert operators == ["∼", ";"]


def test_inline() -> None:
    assert ET.fromstring(mathml("x", display=False)).get("display") == "inline"


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;script&gt;alert(1)&lt;/script&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(//x)}{x}",
        r"\class{evil}{x}",
        r'a"><img src=x onerror=alert(1)>',
    ],
)
def test_nothing_but_a_formula_passes(latex: str) -> None:
    tree = ET.fromstring(mathml(latex))
    for node in tree.iter():
        assert node.tag.removeprefix(M) in ELEMENTS
        assert set(node.attrib) <= ATTRIBUTES | {"alttext"}, node.attrib


@pytest.mark.parametrize("latex", ["", "  ", r"\frac{a}{b", "a}", "}{", r"\nosuchcommand{x}", "x_1_2", r"\frac"])
def test_wrong_latex_is_refused_by_name(latex: str) -> None:
    with pytest.raises(UserError, match="formula"):
        mathml(latex)
