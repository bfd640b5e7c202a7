"""What is read of the processor: by what Linux says on several machines, and where it says nothing."""

import platform
from pathlib import Path

import pytest

from assay.runs import processor

SAID = {
    "intel": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R)  Xeon(R) Processor\nflags\t\t: fpu avx2\n\n"
    "processor\t: 1\nvendor_id\t: other\nmodel name\t: another\nflags\t\t: none\n",
    "amd": "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f\n",
    "arm": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\nHardware\t: Board\n",
    "riscv": "processor\t: 0\nhart\t\t: 1\n",
}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def say(text: str | None, elsewhere: str = "") -> None:
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(processor, "_CPUINFO", path)
        monkeypatch.setattr(platform, "processor", lambda: elsewhere)
        monkeypatch.setattr(platform, "machine", lambda: "machine")
        processor._told.cache_clear()

    yield say
    processor._told.cache_clear()


@pytest.mark.parametrize(
    ("system", "name", "maker", "features"),
    [
        ("intel", "Intel(R) Xeon(R) Processor", "GenuineIntel", {"fpu", "avx2"}),
        ("amd", "AMD EPYC", "AuthenticAMD", {"fpu", "avx2", "avx512f"}),
        ("arm", "Board", "", {"fp", "asimd"}),
        ("riscv", "machine", "", set()),
    ],
)
def test_the_first_processor_is_told(said, system: str, name: str, maker: str, features: set[str]) -> None:
    said(SAID[system])
    assert (processor.name(), processor.maker(), processor.features()) == (name, maker, features)


@pytest.mark.parametrize(
    ("elsewhere", "name", "maker"),
    [
        ("Intel64 Family 6 Model 158 Stepping 10, GenuineIntel", None, "GenuineIntel"),
        ("AMD64 Family 25 Model 1 Stepping 1, AuthenticAMD", None, "AuthenticAMD"),
        ("arm", "arm", ""),
        ("", "machine", ""),
    ],
)
def test_without_cpuinfo_python_is_asked(said, elsewhere: str, name: str | None, maker: str) -> None:
    said(None, elsewhere)
    assert (processor.name(), processor.maker(), processor.features()) == (name or elsewhere, maker, frozenset())
