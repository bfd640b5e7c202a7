import xml.etree.ElementTree as ET

import numpy as np
import pytest

from assay.errors import UserError
from assay.report import masks
from assay.spec import ModelSpec
from assay.spec.masks import Causal, Mask, MaskFacts, Padding, Prefix, SameDocument, Window

FAMILIES = ("causal", "prefix", "encoder_decoder", "encoder")


def model(**fields: object) -> ModelSpec:
    return ModelSpec.from_dict(fields)


def visible(spec: ModelSpec, stack: str, length: int = 6, **more: object) -> np.ndarray:
    return masks.cells(masks.mask_of(spec, stack, length, **more), length) > 0


def test_each_family_has_its_mask() -> None:
    lower = np.tril(np.ones((6, 6), bool))
    prefixed = lower.copy()
    prefixed[:, :3] = True
    assert (visible(model(), "decoder") == lower).all()
    assert (visible(model(family="prefix"), "decoder") == prefixed).all()
    assert visible(model(family="encoder"), "encoder").all()
    two = model(family="encoder_decoder")
    assert visible(two, "encoder").all()
    assert visible(two, "cross").all()
    assert (visible(two, "decoder") == lower).all()


def test_prefix_cells_are_told_from_other_visible_ones() -> None:
    grid = masks.cells(masks.mask_of(model(family="prefix"), "decoder", 4, 2), 4)
    assert grid.tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [2, 2, 1, 0], [2, 2, 1, 1]]


@pytest.mark.parametrize("size", [0, 1, 6])
def test_prefix_length_is_taken_as_given(size: int) -> None:
    grid = masks.cells(masks.mask_of(model(family="prefix"), "decoder", 6, size), 6)
    assert (grid == masks.PREFIX).sum() == 6 * size


def test_windows_of_some_layers_get_pictures_of_their_own() -> None:
    spec = model(attention={"window": 2, "window_layers": [0, 1, 3]}, layers=5)
    titles = [picture.title for picture in masks.masks_of(spec)]
    assert titles == [
        "Self-attention, layers 0-1, 3: causal and window(2)",
        "Self-attention, layers 2, 4: causal",
    ]
    windowed = masks.masks_of(spec)[0]
    assert masks.cells(windowed.mask, 4).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_a_mask_that_the_family_lacks_is_refused() -> None:
    with pytest.raises(UserError, match=r"cross.*causal has decoder"):
        masks.mask_of(model(), "cross")


def test_any_rule_is_drawn_from_the_rule_itself() -> None:
    documents = np.array([[1, 1, 2, 2, 0]])
    packed = Mask(Causal() & SameDocument(), MaskFacts(document_ids=documents))
    assert masks.cells(packed, 5).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip
    padded = Mask(Padding(), MaskFacts(key_mask=np.array([[True, False]])))
    assert masks.cells(padded, 3, 2).tolist() == [[1, 0]] * 3


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [4, 12, 40, 300])
def test_terminal_picture_fits_and_shows_every_kind(family: str, width: int, length: int) -> None:
    spec = model(family=family)
    stack = spec.stacks[-1]
    mask = masks.mask_of(spec, stack, length)
    lines = masks.terminal(mask, length, width=width).plain.splitlines()
    assert max(map(len, lines)) <= width
    assert "█" in "".join(lines)
    assert ("▒" in "".join(lines)) == (family == "prefix")
    assert ("one position in" in lines[-1]) == (length > width - 4)


def test_terminal_picture_is_the_grid() -> None:
    lines = masks.terminal(masks.mask_of(model(), "decoder", 3), 3).plain.splitlines()
    assert [line[4:] for line in lines[1:4]] == ["██····", "████··", "██████"]


@pytest.mark.parametrize("family", FAMILIES)
def test_svg_holds_a_cell_for_each_pair_and_says_what_it_shows(family: str) -> None:
    for picture in masks.masks_of(model(family=family), 8):
        tree = ET.fromstring(masks.svg(picture.mask, 8, title=picture.title))
        space = {"s": "http://www.w3.org/2000/svg"}
        title = tree.find("s:title", space)
        assert title is not None and picture.title in str(title.text) and "8 queries" in str(title.text)
        counts = {p.get("class"): str(p.get("d")).count("M") for p in tree.findall("s:path", space)}
        grid = masks.cells(picture.mask, 8)
        assert counts == {f"am-{kind}": int((grid == kind).sum()) for kind in (1, 2, 0) if (grid == kind).any()}
        assert {"key →", "← query", "visible"} <= {text.text for text in tree.findall("s:text", space)}


def test_svg_escapes_its_title() -> None:
    drawn = masks.svg(Causal(), 3, title="<script>alert(1)</script>")
    assert "<script>" not in drawn
    ET.fromstring(drawn)


def test_prefix_with_a_window_hides_the_far_prefix() -> None:
    mask = Mask((Causal() | Prefix()) & Window(2), MaskFacts(prefix=np.array([[True, True, False, False]])))
    assert masks.cells(mask, 4).tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [0, 2, 1, 0], [0, 0, 1, 1]]
