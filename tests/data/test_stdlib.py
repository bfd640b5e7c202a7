import sys

import assay.data.stdlib as module
from assay.data.cache import cache_dir
from assay.data.sources import read
from assay.data.split import split
from assay.data.stdlib import stdlib


def test_the_corpus_is_real_english_of_about_2_mb():
    corpus = read("stdlib")
    assert 1_500_000 < corpus.bytes < 3_500_000
    assert len(set(corpus.documents)) == len(corpus) > 300
    whole = "".join(corpus.documents)
    assert 'The "assert" statement' in whole or "assert statement" in whole  # language reference
    assert "Return a new OrderedDict" in whole or "OrderedDict" in whole  # docstrings
    assert sum(char.isascii() for char in whole) > 0.99 * len(whole)
    heldout = split(corpus).heldout
    assert abs(heldout.bytes / corpus.bytes - 0.1) < 0.005 and len(heldout) > 20


def test_the_cache_gives_the_same_and_is_never_trusted_when_changed(monkeypatch):
    built = []
    first = stdlib()
    # Extraction takes seconds; what is tested here is when it happens.
    monkeypatch.setattr(module, "_documents", lambda files: built.append(1) or list(first.documents))
    assert stdlib().hash == first.hash and not built
    (entry,) = (cache_dir() / "stdlib").iterdir()
    good = entry.read_bytes()
    for bad in (good[: len(good) // 2], good.replace(b"the", b"teh", 1), b"", b"\0\xff"):
        entry.write_bytes(bad)
        built.clear()
        assert stdlib().hash == first.hash
        assert built, "a corrupt cache was believed"
        assert entry.read_bytes() == good, "the cache was not mended"


def test_nothing_is_imported():
    before = set(sys.modules)
    module._documents({"x.py": b'"""Doc."""\nimport tabnanny\nraise SystemExit\n', "bad.py": b"def ("})
    assert "tabnanny" not in set(sys.modules) - before


def test_documents_are_docstrings_in_order_without_repeats():
    words = "Some words that make this docstring long enough to be kept by the rule. " * 4
    source = f'''
"""First. {words}"""
class A:
    """Second."""
    def b(self):
        """Third."""
async def c():
    """Fourth."""
def d(): return """not a docstring"""
def e():
    """Second."""
'''
    (document,) = module._documents({"m.py": source.encode()})
    positions = [document.index(word) for word in ("First", "Second", "Third", "Fourth")]
    assert positions == sorted(positions)
    assert "not a docstring" not in document
    repeated = module._documents({"m.py": source.encode(), "n.py": source.encode()})
    assert repeated == [document]
