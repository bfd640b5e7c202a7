"""The native step of several rows: ragged, many, parted as beams; against the modules, and what a wrong one shows."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generation.common import FAMILIES, KINDS, described, model
from tests.generation.peers import llama, t5
from tests.nn.common import close, tokens

from assay.generation import decoding
from assay.generation.cache import Cache, KeyValues
from assay.generation.decoding import Decoding
from assay.generation.model import Model
from assay.generation.native import Program
from assay.generation.native.library import MOST_ROWS, STEP, product
from assay.generation.plan import Plan, plan_answer, plan_prompt
from assay.generation.visibility import memory_mask
from assay.spec.masks import Bidirectional, Mask, MaskFacts, Padding

pytestmark = pytest.mark.skipif(STEP.load() is None, reason=f"no native step: {STEP.reason}")
NEW, WIDTH = 12, 7
ROUNDING = 2.0**-24


def ragged(rows: int, side: str = "left") -> torch.Tensor:
    """[rows, WIDTH] padding masks; row r has r % 4 padding tokens."""
    column, spare = torch.arange(WIDTH)[None], torch.arange(rows)[:, None] % 4
    return (column >= spare if side == "left" else column < WIDTH - spare).long()


@torch.inference_mode()
def prepared(m: Model, rows: int, *, native: bool, some: slice = slice(None), new: int = NEW) -> Decoding:
    """Rows `some` of a padded batch of `rows`."""
    ids = tokens(rows, WIDTH, seed=1)
    if m.spec.family == "encoder_decoder":
        real = ragged(rows, "right")[some] != 0
        own = Mask(Bidirectional() & Padding(), MaskFacts(key_mask=real))
        memory = m.transformer.encode(ids[some], own).hidden
        answer = plan_answer(m.spec, tokens(rows, 5, seed=2)[some], ragged(rows)[some, -5:], new)
        plan = Plan(answer.ids, answer.mask, answer.positions, memory, memory_mask(real.long(), ids[some]))
    else:
        plan = plan_prompt(m.spec, ids[some], ragged(rows)[some], None, None, new)
    run = Decoding(m.transformer, plan, new, cache=Cache())
    if not native:
        run.eager_because = "the test asks for the modules"
    return run


@torch.inference_mode()
def logits(run: Decoding, answer: torch.Tensor, threads: int | None = None) -> torch.Tensor:
    """[rows, steps + 1, vocabulary]."""
    before = torch.get_num_threads()
    out = [run.begin().clone()]
    torch.set_num_threads(threads or before)  # for the steps alone: the library's products differ by threads
    try:
        out += [run.step(answer[:, i]).clone() for i in range(answer.shape[1])]
    finally:
        torch.set_num_threads(before)
    assert (run.native is None) == (run.eager_because is not None)
    return torch.stack(out, 1)


def test_the_build_for_this_processor_serves() -> None:
    """One whose products were wrong would be left for the generic one, and only be slower."""
    assert not STEP.refused


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(1, 20), st.integers(21, 70)), st.integers(1, 150), st.integers(1, 50), st.integers(0, 2**31)
)
def test_products_of_any_shape_are_within_rounding(rows: int, inputs: int, outputs: int, seed: int) -> None:
    """|error| <= n u sum |x w| for a sum of n products in any order (Higham 2002, section 3.1)."""
    draw = torch.Generator().manual_seed(seed)
    x, w = torch.randn(rows, inputs, generator=draw), torch.randn(outputs, inputs, generator=draw)
    w[:, -1] += w[:, -1].sign()  # no weight of the last feature is so small that its loss would be a rounding
    exact = x.double() @ w.double().t()
    bound = 2 * (inputs + 1) * ROUNDING * (x.abs().double() @ w.abs().double().t())
    got = product(x, w).double()
    assert bool(((got - exact).abs() <= bound).all())
    x[rows // 2, -1] += 1.0  # the last feature of one row left out would be seen
    assert not bool(((got - x.double() @ w.double().t()).abs() <= bound).all())


KNOWN = [kind for kind in KINDS if kind not in ("experts", "dynamic scaling")]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KNOWN)
def test_ragged_rows_are_the_modules(family: str, kind: str) -> None:
    m, answer = model(**described(family, kind)), tokens(5, NEW - 1, seed=3)
    fast = logits(prepared(m, 5, native=True), answer)
    close(fast, logits(prepared(m, 5, native=False), answer), 3e-5)


@pytest.mark.parametrize("rows", [2, 8, 9, 16, 17, 33, 50])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_rows_are_the_modules_and_each_row_alone(family: str, rows: int) -> None:
    m = model(**described(family, "grouped"), norm={"kind": "layernorm"})
    answer = tokens(rows, NEW - 1, seed=3)
    fast = logits(prepared(m, rows, native=True), answer)
    close(fast, logits(prepared(m, rows, native=False), answer), 3e-5)
    for row in (0, rows // 2, rows - 1):
        one = slice(row, row + 1)
        close(logits(prepared(m, rows, native=True, some=one), answer[one]), fast[one], 3e-5)


def test_a_row_by_itself_decides_its_own_scale() -> None:
    """The modules divide by the largest value of the whole batch, so there a row knows its neighbours."""
    m = model(norm={"kind": "layernorm", "max_scale": 8.0}, placement="sandwich")
    answer = tokens(3, NEW - 1, seed=3)
    fast = logits(prepared(m, 3, native=True), answer)
    for row in range(3):
        one = slice(row, row + 1)
        close(logits(prepared(m, 3, native=True, some=one), answer[one])[:, 1:], fast[one, 1:], 1e-3)


@pytest.mark.parametrize("rows", [5, 20])
def test_several_threads_compute_the_same_bits(rows: int) -> None:
    m = model(vocab_size=1001, width=200, attention={"heads": 4, "kv_heads": 2}, feedforward={"width": 403})
    answer = tokens(rows, 20, vocab=1001, seed=3)
    results = [logits(prepared(m, rows, native=True, new=21), answer, n) for n in (1, 2, 5)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    close(results[0], logits(prepared(m, rows, native=False, new=21), answer), 1e-4)


# Beams


@torch.inference_mode()
def parted(m: Model, rows: int, *, native: bool, steps: int = NEW - 1) -> tuple[torch.Tensor, Decoding]:
    """Logits of steps between which rows are chosen anew, with repeats; the last steps with fewer rows."""
    run, draw = prepared(m, rows, native=native), torch.Generator().manual_seed(5)
    out = [run.begin()]
    for i in range(steps):
        out.append(run.step(tokens(len(run.ids), 1, seed=7 + i)[:, 0]).clone())
        if i == steps - 3:
            run.select(torch.tensor([1, 0]))
        else:
            run.select(torch.randint(0, len(run.ids), (len(run.ids),), generator=draw))
    run.finish()
    return torch.cat(out), run


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["rope", "learned", "alibi", "relative", "grouped", "window"])
def test_parted_rows_are_the_modules(family: str, kind: str) -> None:
    m = model(**described(family, kind))
    (fast, run), (slow, other) = (parted(m, 6, native=native) for native in (True, False))
    close(fast, slow, 3e-5)
    # What is left behind is what the modules leave behind.
    assert run.cache is not None and other.cache is not None and run.cache.length == other.cache.length
    assert torch.equal(run.ids, other.ids) and torch.equal(run.plan.ids, other.plan.ids)
    for ours, theirs in zip(run.cache._own, other.cache._own, strict=True):
        assert isinstance(ours, KeyValues) and ours.k is not None and theirs.k is not None
        close(ours.k[:, :, : ours.length], theirs.k[:, :, : theirs.length], 3e-5)


def test_two_natively_parted_halves_are_one_run() -> None:
    """A change of the number of rows puts the cache in order; native steps go on from there."""
    m = model()
    with torch.inference_mode():
        run = prepared(m, 4, native=True, new=20)
        run.begin()
        for i in range(4):
            run.step(tokens(4, 1, seed=i)[:, 0])
            run.select(torch.tensor([3, 3, 0, 1]))
        run.select(torch.tensor([2, 0]))
        assert run.native is None
        run.step(tokens(2, 1, seed=9)[:, 0])
        assert isinstance(run.native, Program) and run.native.rows == 2


@pytest.mark.parametrize("wrong", ["keys", "tables"])
def test_a_stale_order_shows(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = model()
    slow, _ = parted(m, 6, native=False)
    right = Program.select

    def stale(self: Program, rows: torch.Tensor) -> None:
        right(self, torch.arange(self.rows) if wrong == "keys" else rows)
        if wrong == "tables" and self._origin is not None:
            self._origin.copy_(torch.arange(self.rows))

    monkeypatch.setattr(Program, "select", stale)
    fast, _ = parted(m, 6, native=True)
    assert torch.allclose(fast[:12], slow[:12], atol=3e-5), "before the first choice there is nothing to be wrong"
    assert not torch.allclose(fast, slow, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("by", [1, -1])
def test_a_span_of_another_length_shows(family: str, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.generation.native import writer

    right = writer.span

    def shifted(mask: Mask) -> Any:
        found = right(mask)
        if found is not None and found[3, 0] > 0:  # a decoder's own keys, behind padding
            found[3, 0] += by
        return found

    m, answer = model(**described(family, "rope")), tokens(5, NEW - 1, seed=3)
    monkeypatch.setattr(writer, "span", shifted)
    fast = logits(prepared(m, 5, native=True), answer)
    slow = logits(prepared(m, 5, native=False), answer)
    assert not torch.allclose(fast[3], slow[3], atol=1e-3)
    close(fast[[0, 1, 2, 4]], slow[[0, 1, 2, 4]], 3e-5)


# The way there


@pytest.mark.parametrize("which", ["llama", "t5"])
@pytest.mark.parametrize("beams", [1, 4])
def test_generate_takes_it_and_gives_their_tokens(which: str, beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = llama(2) if which == "llama" else t5(2)
    taken: list[int] = []

    class Counted(Program):
        def step(self, tokens: torch.Tensor) -> torch.Tensor:
            taken.append(len(tokens))
            return super().step(tokens)

    monkeypatch.setattr(decoding, "Program", Counted)
    ids, mask = 6 + tokens(3, WIDTH, vocab=30, seed=9), ragged(3)
    ids = torch.where(mask.bool(), ids, 2)
    a = ours.generate(ids, attention_mask=mask, max_new_tokens=14, num_beams=beams)
    b = theirs.generate(ids, attention_mask=mask, max_new_tokens=14, num_beams=beams, do_sample=False)
    assert a.tolist() == b.tolist()
    assert set(taken) == {3 * beams}


def test_a_second_turn_of_several_rows_goes_on_from_the_cache() -> None:
    m, first, held = model(), tokens(3, 6, seed=1), Cache()
    out = m.generate(first, max_new_tokens=NEW, cache=held)
    second = torch.cat((out, tokens(3, 3, seed=7)), 1)
    again = m.generate(second, max_new_tokens=NEW, cache=held)
    assert again.tolist() == m.generate(second, max_new_tokens=NEW, use_cache=False).tolist()
    assert held.reused == 6 + NEW - 1, "the newest token of the first turn was never read, all others were"


@pytest.mark.parametrize(("change", "reason"), [("hole", "does not see"), ("rows", "more than")])
def test_it_steps_aside(change: str, reason: str) -> None:
    m, rows = model(), MOST_ROWS + 1 if change == "rows" else 3
    mask = torch.ones(rows, WIDTH, dtype=torch.long)
    if change == "hole":
        mask[1, 2] = 0
    plan = plan_prompt(m.spec, tokens(rows, WIDTH), mask, None, None, NEW)
    with torch.inference_mode():
        run = Decoding(m.transformer, plan, NEW, cache=None)
        run.begin()
        run.step(tokens(rows, 1)[:, 0])
    assert run.native is None and reason in (run.eager_because or "")


def test_padding_within_the_encoders_input_runs_the_modules() -> None:
    m = model(**described("encoder_decoder", "rope"))
    ids, mask = tokens(2, WIDTH), torch.ones(2, WIDTH, dtype=torch.long)
    mask[0, 3] = 0
    plan = plan_answer(m.spec, m.start(ids), None, NEW)
    with torch.inference_mode():
        plan = Plan(plan.ids, plan.mask, None, torch.randn(2, WIDTH, 32), memory_mask(mask, ids))
        run = Decoding(m.transformer, plan, NEW, cache=None)
        run.begin()
        run.step(tokens(2, 1)[:, 0])
    assert run.native is None and "padding within" in (run.eager_because or "")
