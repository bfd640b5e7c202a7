"""What users read when they got something wrong."""

import pickle
import subprocess
import sys
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from assay.errors import UserError, did_you_mean, from_validation


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epsilon: float = Field(1e-5, gt=0)
    kind: Literal["rmsnorm", "layernorm"] = "rmsnorm"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int
    colour: Colour = Colour.RED
    norm: Inner | None = None
    norms: list[Inner] = []
    either: Inner | int = 0

    @field_validator("width")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise UserError("an odd number of channels cannot be paired.", "Use an even one.")
        return value


def message(fields: dict) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(fields)
    error = from_validation(caught.value, "m.toml", Outer)
    assert isinstance(error, ValueError)
    return str(error)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"widht": 2, "width": 2}, "m.toml: widht: there is no such field (value 2). Did you mean 'width'?"),
        ({}, "m.toml: width: this field is required and was not given."),
        (
            {"width": 2, "norm": {"epsilom": 1}},
            "m.toml: norm.epsilom: there is no such field (value 1). Did you mean 'epsilon'?",
        ),
        (
            {"width": 2, "norms": [{}, {"epsilon": -1}]},
            "m.toml: norms[1].epsilon = -1: input should be greater than 0.",
        ),
        (
            {"width": 2, "colour": "gren"},
            "m.toml: colour = 'gren' is not allowed. Allowed: red, green. Did you mean 'green'?",
        ),
        (
            {"width": 2, "norm": {"kind": "zz"}},
            "m.toml: norm.kind = 'zz' is not allowed. Allowed: rmsnorm, layernorm.",
        ),
        (
            {"width": 3},
            "m.toml: width = 3: an odd number of channels cannot be paired. Use an even one.",
        ),
    ],
)
def test_one_message_names_field_value_and_remedy(fields: dict, expected: str) -> None:
    assert message(fields) == expected


def test_several_errors_stand_in_one_message() -> None:
    text = message({"width": 3, "hieght": 1})
    assert text.startswith("m.toml: 2 fields are wrong.\n  - ")
    assert "width = 3" in text and "hieght" in text


def test_union_members_do_not_show_in_the_path() -> None:
    assert "either.epsilon = -2" in message({"width": 2, "either": {"epsilon": -2}})


def test_long_values_are_cut() -> None:
    assert len(message({"width": "x" * 500})) < 250


def test_unknown_name_with_nothing_close_lists_what_is_known() -> None:
    assert did_you_mean("qqq", ["alpha", "beta"]) == "Known: alpha, beta."
    assert did_you_mean("Pre-Norm", ["pre_norm", "post"]) == "Did you mean 'pre_norm'?"
    assert did_you_mean("x", []) == ""


def test_error_survives_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(UserError("budget = 1 is too small.", "Give 1e9 or more.")))
    assert str(error) == "budget = 1 is too small. Give 1e9 or more."
    assert error.remedy == "Give 1e9 or more."


def test_importing_errors_loads_no_pydantic() -> None:
    code = "import sys, assay.errors; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_message_obeys_no_file() -> None:
    """Control characters, halves of surrogate pairs and direction marks of a file's names are shown as escapes."""
    said = str(UserError("x\x1b[2J\r\u202ey\ud800", "Mend\tit.\nNow."))
    assert said == "x\\x1b[2J\\r\\u202ey\\ud800 Mend\tit.\nNow."
    said.encode("utf-8")


def test_a_long_message_is_cut_in_its_middle() -> None:
    said = str(UserError("begin" + "\0" * 70_000, "The remedy."))
    assert len(said) < 5_000 and said.startswith("begin") and said.endswith("The remedy.") and "left out" in said
