"""Text to plain data: every failure is a ValueError that says why."""

from __future__ import annotations

import json

import pytest

from assay.spec.plain import DEEPEST, parse_json, parse_toml


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 100_000])
@pytest.mark.parametrize("sides", [("[", "]"), ('{"a":', "}")])
def test_nesting_ends(depth: int, sides: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json(sides[0] * depth + "1" + sides[1] * depth)


def test_what_nests_less_is_read() -> None:
    text = "[" * DEEPEST + "1" + "]" * DEEPEST
    assert parse_json(text) == json.loads(text)
    assert parse_toml("x = " + text[1:-1])["x"] == json.loads(text[1:-1])  # the table is a level of its own
    with pytest.raises(ValueError, match="nested deeper"):
        parse_toml("x = " + text)


def test_numbers_of_thousands_of_digits_are_told_as_such() -> None:
    for parse, text in ((parse_json, "9" * 5000), (parse_toml, "x = " + "9" * 5000)):
        with pytest.raises(ValueError, match="thousands of digits") as caught:
            parse(text)
        assert "set_int_max" not in str(caught.value)


def test_a_syntax_error_keeps_its_place() -> None:
    with pytest.raises(json.JSONDecodeError, match="line 1 column 5"):
        parse_json('{"a"')
