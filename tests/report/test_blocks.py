import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from assay.errors import UserError
from assay.report.blocks import block_picture, blocks_of
from assay.report.layout import Box, Drawing
from assay.spec import ModelSpec
from assay.spec.placement import block_plan

PLACEMENTS = [
    "post",
    "pre",
    "sandwich",
    "peri",
    "reordered",
    "deepnet",
    "glm130b",
    "subln",
    "mix",
    "scaled",
    "residual",
]


def model(**fields: object) -> ModelSpec:
    return ModelSpec.from_dict({"norm": "layernorm", **fields})


def all_models() -> list[ModelSpec]:
    found = []
    for family in ("causal", "prefix", "encoder", "encoder_decoder"):
        for parallel in ("none", "one_norm", "two_norms"):
            for placement in PLACEMENTS:
                try:
                    found.append(model(family=family, parallel=parallel, placement=placement))
                except UserError:
                    assert parallel != "none", "every placement is at least serial"
    return found


def norms_in(drawing: Drawing) -> int:
    """Norm boxes, and norms inside sublayers."""
    lines = [line for box in drawing.boxes for line in box.lines]
    return sum(line.text == "LayerNorm" for line in lines)


@pytest.mark.parametrize("spec", all_models(), ids=lambda spec: f"{spec.family}-{spec.parallel}-{spec.placement.kind}")
def test_picture_holds_what_the_equation_holds(spec: ModelSpec) -> None:
    pictures = blocks_of(spec)
    for picture in pictures:
        stack = "encoder" if picture.title.startswith("Encoder") or spec.stacks == ("encoder",) else "decoder"
        layer = int(re.findall(r"layers? (\d+)", picture.title)[0]) if re.search(r", layers? \d", picture.title) else 0
        plan = block_plan(spec, stack, layer)
        drawing = picture.drawing
        slots = [slot for step in plan.steps for slot in (step.before, step.after)]
        slots += [slot for step in plan.steps for s in step.sublayers for slot in (s.before, s.inner, s.out)]
        kinds = Counter(box.kind for box in drawing.boxes)
        assert norms_in(drawing) == sum(slot.norm for slot in slots)
        assert kinds["sublayer"] == sum(len(step.sublayers) for step in plan.steps)
        assert kinds["scale"] == sum(step.alpha != 1 for step in plan.steps)
        assert len(drawing.nodes) == len(plan.steps) * (2 if plan.dual else 1)
        assert no_overlap(drawing)
        ET.fromstring(picture.svg())


def no_overlap(drawing: Drawing) -> bool:
    """Whether no two boxes of a column share a row, and sums stand clear of boxes."""
    taken: set[tuple[int, int]] = set()
    for box in drawing.boxes:
        rows = {(box.column, row) for row in range(box.bottom, box.top + 1)}
        if rows & taken:
            return False
        taken |= rows
    return not any((node.column, node.row) in taken for node in drawing.nodes)


def box(drawing: Drawing, text: str) -> Box:
    return next(box for box in drawing.boxes if any(line.text == text for line in box.lines))


def test_skip_leaves_before_the_norm_or_after_it() -> None:
    pre, normed = (
        block_picture(model(placement=p), "decoder").drawing for p in ("pre", {"kind": "pre", "skip": "normed"})
    )
    assert all(box.column == 1 for box in pre.boxes if box.kind == "norm")
    assert all(box.column == 0 for box in normed.boxes if box.kind == "norm")


def test_post_norm_stands_on_the_stream_above_the_sum() -> None:
    drawing = block_picture(model(placement="post"), "decoder").drawing
    norms = [box for box in drawing.boxes if box.kind == "norm"]
    assert [box.column for box in norms] == [0, 0]
    assert all(node.row < norm.bottom for node, norm in zip(drawing.nodes, norms, strict=True))


def test_alpha_stands_on_the_skip() -> None:
    drawing = block_picture(model(placement={"kind": "deepnet", "alpha": 2.5}), "decoder").drawing
    scales = [box for box in drawing.boxes if box.kind == "scale"]
    assert [(box.column, box.lines[0].text) for box in scales] == [(0, "× 2.5"), (0, "× 2.5")]
    for scale, node in zip(scales, drawing.nodes, strict=True):
        assert scale.top < node.row


def test_parallel_sublayers_stand_side_by_side() -> None:
    drawing = block_picture(model(parallel="one_norm"), "decoder").drawing
    attention, forward = box(drawing, "Attention"), box(drawing, "Feed-forward")
    assert (attention.column, forward.column) == (1, 2)
    assert attention.bottom == forward.bottom
    assert norms_in(drawing) == 1
    assert norms_in(block_picture(model(parallel="two_norms"), "decoder").drawing) == 2


def test_mix_is_two_pictures_and_scaled_is_one_with_its_range() -> None:
    assert [p.title for p in blocks_of(model(placement="mix", layers=8))] == ["Block, layers 0-1", "Block, layers 2-7"]
    (scaled,) = blocks_of(model(placement="scaled", layers=4))
    assert scaled.title == "Block, 4 layers"
    assert "× 1 to 0.5" in scaled.terminal().plain


def test_no_norm_leaves_no_box() -> None:
    drawing = block_picture(model(norm="none"), "decoder").drawing
    assert {box.kind for box in drawing.boxes} == {"sublayer"}


@pytest.mark.parametrize("spec", all_models(), ids=lambda spec: f"{spec.family}-{spec.parallel}-{spec.placement.kind}")
def test_terminal_picture_fits_60_columns_and_40_where_two_stand_side_by_side(spec: ModelSpec) -> None:
    three = spec.family == "encoder_decoder" and spec.parallel != "none"
    for picture in blocks_of(spec):
        text = picture.terminal(width=60 if three else 40).plain
        lines = text.splitlines()
        assert max(map(len, lines)) <= (60 if three else 40)
        assert text.count("⊕") == len(picture.drawing.nodes)
        for glyphs in ("┌┐", "└┘"):  # the corners of every box are on the page
            assert sum(text.count(g) for g in glyphs) >= 2 * len(picture.drawing.boxes)


def test_terminal_picture_of_pre_norm() -> None:
    lines = block_picture(model(layers=1), "decoder").terminal().plain.splitlines()
    assert lines == [
        " x",
        " ▲",
        " │",
        " ⊕◄──────────┐",
        " │  ┌─────────────────┐",
        " │  │   Feed-forward  │",
        " │  │ gated SiLU, 352 │",
        " │  └─────────────────┘",
        " │           ▲",
        " │     ┌───────────┐",
        " │     │ LayerNorm │",
        " │     └───────────┘",
        " │           ▲",
        " ├───────────┘",
        " ⊕◄──────────┐",
        " │     ┌───────────┐",
        " │     │ Attention │",
        " │     │  4 heads  │",
        " │     └───────────┘",
        " │           ▲",
        " │     ┌───────────┐",
        " │     │ LayerNorm │",
        " │     └───────────┘",
        " │           ▲",
        " ├───────────┘",
        " │",
        " x",
    ]


def test_svg_says_what_it_shows() -> None:
    (picture,) = blocks_of(model())
    title = ET.fromstring(picture.svg()).find("{http://www.w3.org/2000/svg}title")
    assert title is not None and "Attention" in str(title.text) and "Block, 6 layers" in str(title.text)
