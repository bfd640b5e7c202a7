"""The border to compiled Rust: its own refusals and panics are told, what is not its doing passes."""

from __future__ import annotations

import pytest

from assay.data.rust import guarded
from assay.errors import UserError


def test_a_panic_of_the_package_is_a_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    for kinds in ((), (ValueError,)):
        with pytest.raises(UserError, match=r"x\.json: broken \(index out of bounds\)\. Get another\."):
            with guarded("x.json: broken", "Get another.", kinds):
                raise panic("index out of bounds\nmore")


def test_only_the_packages_own_kinds_are_told() -> None:
    with pytest.raises(UserError, match="broken"), guarded("x: broken"):
        raise Exception("data did not match any variant")
    for error in (KeyError("x"), MemoryError(), KeyboardInterrupt(), RuntimeError("a bug")):
        with pytest.raises(type(error)), guarded("x: broken"):
            raise error
    with pytest.raises(ValueError) as caught, guarded("x: broken", "", ()):
        raise ValueError("ours")
    assert not isinstance(caught.value, UserError)
