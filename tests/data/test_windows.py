import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.corpus import Corpus
from assay.data.tokenizer import ByteTokenizer
from assay.data.windows import SIZE, cut_windows, window_batches, window_lengths, windows
from assay.errors import UserError
from assay.objectives import Lengths

TOKENIZER = ByteTokenizer()
WORDS = [f"w{i:x}é" for i in range(3000)]
TEXT = " ".join(WORDS)
texts = st.lists(st.sampled_from(["word", "日本語", "é", " ", "\n", "x" * 40, "👩"]), min_size=100, max_size=400)


@given(texts.map("".join), st.integers(40, 300))
def test_windows_follow_one_another(text, size):
    found = cut_windows(text, size)
    joined = "".join(first + second for first, second in found)
    assert text.startswith(joined)
    assert len(text.encode()) - len(joined.encode()) < size
    for first, second in found:
        assert first and second
        whole = len((first + second).encode())
        assert whole <= size and len(first.encode()) <= size // 2


def test_cuts_lie_before_white_space():
    found = cut_windows(TEXT)
    assert len(found) == pytest.approx(len(TEXT.encode()) / 1020, rel=0.02)
    for index, (first, second) in enumerate(found):
        assert second.startswith(" ") and (index == 0 or first.startswith(" "))
        assert not first.endswith(" ") and not second.endswith(" ")
        # no later white space would do
        assert SIZE - len((first + second).encode()) < 9 and SIZE // 2 - len(first.encode()) < 9


def test_halves_are_tokenised_apart_without_specials():
    corpus = Corpus([TEXT, "short", TEXT[::-1]], "test", "test")
    found = windows(corpus, TOKENIZER)
    halves = [pair for d in corpus.documents for pair in cut_windows(d)]
    assert len(found) == len(halves)
    for window, (first, second) in zip(found, halves, strict=True):
        assert window.prefix_ids.tolist() == TOKENIZER.encode(first).tolist()
        assert window.continuation_ids.tolist() == TOKENIZER.encode(second).tolist()
        assert window.continuation_bytes == len(second.encode())
        assert window.byte_offsets.tolist() == list(range(len(second.encode())))  # bytes: one each
    few = windows(corpus, TOKENIZER, count=5)
    assert len(few) == 5 and {w.prefix_ids.tobytes() for w in few} < {w.prefix_ids.tobytes() for w in found}
    assert [w.prefix_ids.tobytes() for w in few] == [
        w.prefix_ids.tobytes() for w in windows(corpus, TOKENIZER, count=5)
    ]


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
@pytest.mark.parametrize("fixed", [False, True])
def test_batches_ask_for_the_continuation_alone(family, fixed):
    found = windows(Corpus([TEXT, WORDS[5] * 900], "test", "test"), TOKENIZER)
    vocabulary = TOKENIZER.vocabulary
    lengths = window_lengths(found, family, vocabulary) if fixed else None
    seen = []
    for part in window_batches(found, family, vocabulary, batch_size=5, lengths=lengths):
        batch = part.batch
        assert batch.single_document and part.offsets.shape == batch.targets.shape
        longest = window_lengths(found, family, vocabulary)
        assert batch.input_ids.shape[1] <= longest.inputs
        for row, number in enumerate(part.windows):
            window = found[number]
            where = batch.weights[row] > 0
            assert batch.targets[row][where].tolist() == window.continuation_ids.tolist()
            assert part.offsets[row][where].tolist() == list(range(len(window.continuation_ids)))
            assert part.byte_offsets[row][where].tolist() == window.byte_offsets.tolist()
            assert (part.offsets[row][~where] == -1).all() and (part.byte_offsets[row][~where] == -1).all()
            assert part.continuation_bytes[row] == window.continuation_bytes
            first = int(np.flatnonzero(where)[0])
            prefix = window.prefix_ids.tolist()
            if family == "encoder_decoder":
                assert batch.input_ids[row, : len(prefix)].tolist() == prefix and first == 0
                assert batch.decoder_input_ids[row, 0] == vocabulary.decoder_start
                read = batch.decoder_input_ids[row, 1 : len(window.continuation_ids)].tolist()
            else:
                assert batch.input_ids[row, : first + 1].tolist() == [vocabulary.bos, *prefix]
                read = batch.input_ids[row, first + 1 : first + len(window.continuation_ids)].tolist()
                if family == "prefix":
                    assert np.flatnonzero(batch.mask.facts.prefix[row]).tolist() == list(range(first + 1))
            assert read == window.continuation_ids[:-1].tolist()  # the last token is predicted, never read
        seen += part.windows.tolist()
    assert sorted(seen) == list(range(len(found)))


def test_refusals():
    with pytest.raises(UserError, match=r"longest held-out document has 5 bytes, and a window has 1024"):
        windows(Corpus(["short", "one"], "t", "t"), TOKENIZER)
    found = windows(Corpus([TEXT], "t", "t"), TOKENIZER)
    with pytest.raises(UserError, match="does not continue text"):
        next(window_batches(found, "encoder", TOKENIZER.vocabulary, batch_size=2))
    with pytest.raises(UserError, match="the longest window needs"):
        next(window_batches(found, "causal", TOKENIZER.vocabulary, batch_size=2, lengths=Lengths(100)))
