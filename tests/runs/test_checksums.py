"""Checksums: every flipped bit, cut file and missing file is found, and names itself and the remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.runs import RunFolder, verify_files

CONTENT = {"model.safetensors": bytes(range(40)), "state.json": b'{"step": 3}'}


def written(path: Path, step: int = 3) -> Path:
    folder = RunFolder(path)
    with folder.writing_checkpoint(step) as place:
        for name, content in CONTENT.items():
            (place / name).write_bytes(content)
    return folder.checkpoint(step)


def test_what_was_written_passes(tmp_path: Path) -> None:
    verify_files(written(tmp_path))


@given(name=st.sampled_from(sorted(CONTENT)), place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, name: str, place: int, bit: int) -> None:
    checkpoint = written(tmp_path_factory.mktemp("flip"))
    content = bytearray(CONTENT[name])
    content[place % len(content)] ^= 1 << bit
    (checkpoint / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: its content has changed.*delete the folder"):
        verify_files(checkpoint)
    for other in CONTENT.keys() - {name}:
        verify_files(checkpoint, [other])  # files that are not read need not be whole


def test_a_cut_and_a_missing_file_are_found(tmp_path: Path) -> None:
    checkpoint = written(tmp_path)
    (checkpoint / "state.json").write_bytes(CONTENT["state.json"][:-1])
    with pytest.raises(UserError, match=r"state\.json: its content has changed"):
        verify_files(checkpoint)
    (checkpoint / "state.json").unlink()
    with pytest.raises(UserError, match=r"state\.json: it was written and is gone"):
        verify_files(checkpoint)


def test_damaged_checksums_are_found_and_missing_ones_mean_an_earlier_version(tmp_path: Path) -> None:
    checkpoint = written(tmp_path)
    (checkpoint / "checksums.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"checksums\.json: does not hold valid JSON"):
        verify_files(checkpoint)
    (checkpoint / "checksums.json").unlink()
    verify_files(checkpoint)
