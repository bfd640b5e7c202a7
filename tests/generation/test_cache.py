"""With a cache and without, in a padded batch and alone: the same tokens, for every family and kind."""

import pytest
import torch
from tests.generation.common import FAMILIES, KINDS, described, greedy, model
from tests.nn.common import close, tokens

from assay.generation.cache import Cache, KeyValues
from assay.generation.decoding import Decoding
from assay.generation.plan import plan_prompt

NEW = 7


def prompts() -> list[torch.Tensor]:
    return [tokens(1, 5, seed=1), tokens(1, 8, seed=2), tokens(1, 1, seed=3)]


def batch(rows: list[torch.Tensor], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(row.shape[1] for row in rows)
    ids, mask = torch.full((len(rows), width), 9), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - row.shape[1], width) if side == "left" else slice(0, row.shape[1])
        ids[i, where], mask[i, where] = row[0], 1
    return ids, mask


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_cached_uncached_batched_and_single_ids_are_the_same(family: str, kind: str) -> None:
    m = model(**described(family, kind))
    alone = [greedy(m, row, NEW) for row in prompts()]
    assert len({tuple(row.tolist()) for row in alone}) > 1, "prompts do not matter: the test would see nothing"
    for row, expected in zip(prompts(), alone, strict=True):
        for use_cache in (True, False):
            out = m.generate(row, max_new_tokens=NEW, use_cache=use_cache)
            assert out[0, -NEW:].tolist() == expected.tolist(), f"alone, cache {use_cache}"
    for side in ("left", "right"):
        ids, mask = batch(prompts(), side)
        for use_cache in (True, False):
            out = m.generate(ids, attention_mask=mask, max_new_tokens=NEW, use_cache=use_cache)
            assert out[:, -NEW:].tolist() == [row.tolist() for row in alone], f"{side} padding, cache {use_cache}"
            start = 1 if family == "encoder_decoder" else ids.shape[1]
            assert out.shape[1] == start + NEW
            if family != "encoder_decoder":
                assert torch.equal(out[:, :-NEW], ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES[:2])
def test_logits_through_the_cache_are_those_of_the_whole_text(family: str, kind: str) -> None:
    if kind == "dynamic scaling":
        pytest.skip("turns all keys anew as the text grows: generated without a cache")
    m = model(**described(family, kind), dtype="float64")
    ids, mask = batch(prompts(), "left")
    answer = tokens(3, 6, seed=11)
    with torch.inference_mode():
        run = Decoding(m.transformer, plan_prompt(m.spec, ids, mask, None, None, 7), 7, cache=None)
        got = [run.begin(), *(run.step(answer[:, i]) for i in range(6))]
        given = {"prefix_length": ids.shape[1]} if family == "prefix" else {}
        whole = m(
            torch.cat((ids, answer), 1), attention_mask=torch.cat((mask, torch.ones_like(answer)), 1), **given
        ).logits
    assert run.cache is not None
    close(torch.stack(got, 1), whole[:, ids.shape[1] - 1 :])


@pytest.mark.parametrize("length", [0, 3, 8])
def test_a_prefix_shorter_than_the_prompt_holds_through_the_cache(length: int) -> None:
    m, row = model(family="prefix"), tokens(1, 8, seed=2)
    expected = greedy(m, row, NEW, prefix=length)
    assert m.generate(row, max_new_tokens=NEW, prefix_length=length)[0, 8:].tolist() == expected.tolist()
    padded = torch.cat((torch.full((1, 2), 4), row), 1)
    ids = torch.cat((padded, tokens(1, 10, seed=5)))
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[0, :2] = 0
    # Lengths count columns, as in forward: the padded row's prefix is two columns longer.
    lengths = torch.tensor([length + 2 if length else 0, 4])
    out = m.generate(ids, attention_mask=mask, max_new_tokens=NEW, prefix_length=lengths)
    assert out[0, 10:].tolist() == expected.tolist()
    assert out[1, 10:].tolist() == greedy(m, ids[1:], NEW, prefix=4).tolist()


def test_prefix_and_causal_prompts_differ() -> None:
    m, row = model(family="prefix"), tokens(1, 8, seed=1)
    a, b = (m.generate(row, max_new_tokens=NEW, prefix_length=n)[0].tolist() for n in (None, 0))
    assert a != b


def test_a_whole_table_goes_on_as_its_last_row_sees() -> None:
    m, row = model(), tokens(1, 6, seed=4)
    table = torch.ones(6, 6).tril()
    table[:, 0] = 0
    table[0, 0] = 1
    out = m.generate(row, attention_mask=table[None, None], max_new_tokens=NEW)
    assert (
        out.tolist() == m.generate(row, attention_mask=table[None, None], max_new_tokens=NEW, use_cache=False).tolist()
    )
    ids = row
    for _ in range(NEW):
        n = ids.shape[1]
        grown = torch.ones(n, n).tril()
        grown[:6, :6], grown[6:, 0] = table, 0
        with torch.no_grad():
            ids = torch.cat((ids, m(ids, attention_mask=grown[None]).logits[:, -1:].argmax(-1)), 1)
    assert out.tolist() == ids.tolist()


def test_given_positions_go_on_counting() -> None:
    m, row = model(positions="learned"), tokens(1, 5)
    given = torch.tensor([[7, 8, 9, 10, 11]])
    out = m.generate(row, position_ids=given, max_new_tokens=3)
    ids = row
    for step in range(3):
        with torch.no_grad():
            at = torch.arange(7, 12 + step)[None]
            ids = torch.cat((ids, m(ids, position_ids=at).logits[:, -1:].argmax(-1)), 1)
    assert out.tolist() == ids.tolist()


CHAT = {
    "family": "prefix",
    "positions": {"kind": "rope", "axes": 2},
    "prompt": {"rule": "chatglm", "sop": 33, "mask": 34, "gmask": 35},
    "tokens": {"pad": 36},
}
GLM = {"family": "prefix", "prompt": {"rule": "glm130b", "sop": 33, "mask": 34, "gmask": 35}}


@pytest.mark.parametrize("fields", [CHAT, GLM], ids=["chatglm", "glm130b"])
@pytest.mark.parametrize("special", [34, 35])
@pytest.mark.parametrize("use_cache", [True, False])
def test_rules_of_the_prompt_hold_for_what_follows(fields: dict, special: int, use_cache: bool) -> None:
    m = model(**fields)
    plain = tokens(1, 6, vocab=30, seed=8)
    row = torch.cat((plain[:, :4], torch.tensor([[special]]), plain[:, 4:], torch.tensor([[33]])), 1)
    expected, ids = [], row
    for _ in range(NEW):
        with torch.no_grad():
            logits = m(ids).logits[0, -1].clone()
        expected.append(int(logits.argmax()))
        ids = torch.cat((ids, torch.tensor([[expected[-1]]])), 1)
        if expected[-1] >= 33:
            pytest.skip("a special token was produced: forward would read the rule anew")
    assert m.generate(row, max_new_tokens=NEW, use_cache=use_cache)[0, -NEW:].tolist() == expected
    other = torch.cat((tokens(1, 4, vocab=30, seed=9), torch.tensor([[special, 33]])), 1)
    wide = torch.cat((torch.full((1, 2), 36), other), 1)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, :2] = 0
    out = m.generate(torch.cat((row, wide)), attention_mask=mask, max_new_tokens=NEW, use_cache=use_cache)
    assert out[0, -NEW:].tolist() == expected
    assert out[1, -NEW:].tolist() == m.generate(other, max_new_tokens=NEW)[0, -NEW:].tolist()


@pytest.mark.parametrize("family", ["causal", "prefix"])
def test_a_second_turn_reuses_the_cache(family: str) -> None:
    m, first = model(family=family), tokens(1, 6, seed=1)
    held = Cache()
    length = {"prefix_length": 6} if family == "prefix" else {}
    out = m.generate(first, max_new_tokens=4, cache=held, **length)
    second = torch.cat((out, tokens(1, 3, seed=7)), 1)
    fresh = m.generate(second, max_new_tokens=5, **length)
    assert m.generate(second, max_new_tokens=5, cache=held, **length).tolist() == fresh.tolist()
    assert held.reused == 9, "the newest token of the first turn was never read, all others were"
    changed = second.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 37
    assert (
        m.generate(changed, max_new_tokens=5, cache=held, **length).tolist()
        == m.generate(changed, max_new_tokens=5, **length).tolist()
    )
    assert held.reused == (4 if family == "causal" else 0)


def test_another_prefix_makes_the_cache_anew() -> None:
    m, first = model(family="prefix"), tokens(1, 6, seed=1)
    held = Cache()
    out = m.generate(first, max_new_tokens=4, cache=held)
    fresh = m.generate(out, max_new_tokens=4)
    assert m.generate(out, max_new_tokens=4, cache=held).tolist() == fresh.tolist()
    assert held.reused == 0


def test_a_layer_grows_in_place_and_by_doubling() -> None:
    kept = KeyValues(2)
    k = torch.randn(1, 2, 5, 4)
    for i in range(5):
        got, _ = kept.extend(k[:, :, i : i + 1], k[:, :, i : i + 1])
    assert torch.equal(got, k) and kept.capacity == 8
    assert got.data_ptr() == kept.k.data_ptr()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types_generate(dtype: str) -> None:
    m, row = model(dtype=dtype), tokens(1, 5)
    out = m.generate(row, max_new_tokens=4)
    if dtype == "float64":
        assert out[0, 5:].tolist() == greedy(m, row, 4).tolist()
    assert out.shape == (1, 9)
