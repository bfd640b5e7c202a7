"""The option --device: what cannot be is said before anything is opened, with what to give instead."""

import pytest
import torch

from assay.cli.device import _known
from assay.errors import UserError


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("gpu", 1, "--device gpu: is not known. Give cpu, cuda, or cuda:N."),
        ("cuda:x", 1, "is not known"),
        ("cuda", 0, "finds no accelerator here. Give --device cpu"),
        ("cuda:2", 2, "there are 2, counted from 0. Give cuda:1 or less."),
    ],
)
def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, there: int, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(UserError) as refused:
        _known(name)
    assert said in str(refused.value)


def test_what_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [_known(name) for name in (None, "cpu", "cuda", "cuda:1")] == [None, "cpu", "cuda", "cuda:1"]
