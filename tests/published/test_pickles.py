"""What a pickle would call is read off, in every form that a checkpoint comes in, and nothing is run."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.errors import UserError
from assay.published.pickles import calls
from assay.published.reading import pickled


class Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.place}",)


def _raw(protocol: int) -> Any:
    def write(obj: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(obj, protocol=protocol))

    return write


FORMS = {
    "raw protocol 0": _raw(0), "raw protocol 2": _raw(2), "raw protocol 4": _raw(4), "raw protocol 5": _raw(5),
    "zip": torch.save,
    "legacy": lambda obj, path: torch.save(obj, path, _use_new_zipfile_serialization=False),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_pickle_is_refused_by_the_name_of_what_it_would_call(form: str, tmp_path: Path) -> None:
    path, place = tmp_path / "pytorch_model.bin", tmp_path / "executed"
    FORMS[form]({"weight": torch.zeros(2), "more": Trap(place)}, path)
    assert calls(path) == ["posix.system"]
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("error")
        pickled(path)
    said = str(caught.value)
    assert "posix.system" in said and str(path) in said and "Nothing was executed" in said
    assert "weights_only" not in said and not place.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_weights_call_for_nothing_foreign(form: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    weights = OrderedDict(a=torch.randn(3, 2), b=torch.randn(4).to(torch.bfloat16))
    FORMS[form](weights, path)
    assert calls(path) == []
    assert torch.equal(pickled(path)["a"], weights["a"])


def test_names_come_through_the_memo(tmp_path: Path) -> None:
    """Pickle keeps a text that it has written and fetches it again: the second global takes its module from there."""
    path = tmp_path / "two.bin"
    path.write_bytes(pickle.dumps([os.system, os.getcwd], protocol=4))
    assert calls(path) == ["posix.system", "posix.getcwd"]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_damaged_pickle_is_no_crash(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    whole = tmp_path / "whole.bin"
    torch.save({"weight": torch.zeros(9)}, whole, _use_new_zipfile_serialization=False)
    path.write_bytes(whole.read_bytes()[:cut])
    assert calls(path) == []
    with pytest.raises(UserError, match="truncated or corrupt") as caught:
        pickled(path)
    assert "weights_only" not in str(caught.value)


def test_every_pickle_of_an_archive_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(1))
        archive.writestr("b/other.pkl", pickle.dumps(os.system))
    assert calls(path) == ["posix.system"]
