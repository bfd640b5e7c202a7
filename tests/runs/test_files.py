"""Atomic files, plain data, content hashes."""

import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.runs import content_hash, read_json, write_json, write_text
from assay.runs.files import plain, restore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
#: Strings that stand for non-finite numbers are the one thing that does not come back as it went.
JSON = JSON.filter(lambda value: not any(f'"{word}"' in json.dumps(value) for word in ("NaN", "Infinity", "-Infinity")))


class Colour(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: float


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)  # so that NaN equals NaN and 1 differs from 1.0


@given(JSON)
def test_data_comes_back_as_it_was_written(value: object) -> None:
    text = json.dumps(plain(value), allow_nan=False)
    assert same(restore(json.loads(text)), value)


def test_values_of_other_libraries_become_plain() -> None:
    value = {
        "a": np.float32(0.5), "b": np.arange(3), "c": Path("x/y"), "d": Colour.RED, "e": Point(1.5),
        "f": (1, 2), "g": {2, 1}, "h": np.float64("nan"), Colour.RED: np.bool_(True), 3: math.inf,
    }  # fmt: skip
    assert plain(value) == {
        "a": 0.5, "b": [0, 1, 2], "c": "x/y", "d": "red", "e": {"x": 1.5}, "f": [1, 2], "g": [1, 2],
        "h": "NaN", "red": True, "3": "Infinity",
    }  # fmt: skip
    with pytest.raises(TypeError, match="object cannot be written"):
        plain({"a": object()})


def test_hash_depends_on_content_alone() -> None:
    value = {"b": [1, 2.5, None], "a": {"y": "ü", "x": True}}
    turned = {"a": {"x": True, "y": "ü"}, "b": (1, np.float64(2.5), None)}
    assert content_hash(value) == content_hash(turned)
    assert len(content_hash(value)) == 16
    changed = [{**value, "b": [1, 2.5]}, {**value, "c": 0}, {**value, "b": [2.5, 1, None]}]
    assert len({content_hash(v) for v in [value, *changed]}) == 4


def test_hash_is_the_same_in_another_process() -> None:
    code = "from assay.runs import content_hash; print(content_hash({'b': {'x', 'y', 'z'}, 'a': 'ü'}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == content_hash({"a": "ü", "b": {"z", "y", "x"}})


def test_hash_equals_the_hash_of_a_description() -> None:
    # spec/ computes its own hash; run folders are named by this one, so the two must be one function.
    from assay.spec.base import Described

    class Thing(Described):
        width: int = 2
        name: str = ""

    assert Thing(width=3, name="n").hash == content_hash({"width": 3})


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_keeps_the_earlier_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    file = tmp_path / "results.json"
    write_json(file, {"kept": 1})

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(UserError) as caught:
        write_json(file, {"kept": 2})
    monkeypatch.undo()
    text = str(caught.value)
    assert str(file) in text and "disk is full" in text and "--resume" in text
    assert f"{len(json.dumps({'kept': 2}, indent=2)) + 1} bytes" in text
    assert read_json(file) == {"kept": 1}
    assert os.listdir(tmp_path) == ["results.json"], "a temporary file was left"


def test_forbidden_folder_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="cannot be written .*--out"):
        write_text(tmp_path / "a", "b")


def test_other_errors_pass_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "a", "b")
    assert not isinstance(caught.value, UserError)


def test_a_killed_writer_leaves_old_or_new_content(tmp_path: Path) -> None:
    """A process that writes without end is killed: what is there is one whole version."""
    file = tmp_path / "run.json"
    code = (
        "import sys\nfrom pathlib import Path\nfrom assay.runs import write_json\n"
        "n = 0\n"
        "while True:\n"
        "    write_json(Path(sys.argv[1]), {'n': n, 'rest': [n] * 2000})\n"
        "    n += 1\n"
        "    if n == 5: print('going', flush=True)\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline()
        writer.kill()
        writer.wait()
        writer.stdout.close()
        value = read_json(file)
        assert value["rest"] == [value["n"]] * 2000


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": 1} x'])
def test_damaged_json_names_file_and_remedy(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json: does not hold valid JSON .*--resume"):
        read_json(file)


def test_missing_file_names_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: no such file. Give"):
        read_json(tmp_path / "none.json")
