"""Text in and out: pieces as they become certain, stop texts across tokens, chat templates."""

import pytest
import torch
from tests.generation.common import model

from assay.data.tokenizer import ByteTokenizer
from assay.errors import UserError
from assay.generation.text import StopTexts, Teller, Unfolding, chat_text

BYTES = ByteTokenizer()
VOCAB = BYTES.vocabulary.size
TEXT = "Größe: 你好 🙂 end"


def ids(text: str) -> list[int]:
    return BYTES.encode(text).tolist()


class Pieces:
    """A tokenizer whose words drop their leading space at the beginning of a text, as SentencePiece's do."""

    words = (" a", " bit", " of", " text", "s")

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.words[token] for token in tokens).removeprefix(" ")


def test_characters_come_whole() -> None:
    unfolding = Unfolding(BYTES)
    pieces = [unfolding.add(token) for token in ids(TEXT)]
    assert "".join(pieces) + unfolding.rest() == TEXT
    assert all("\ufffd" not in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) == len(TEXT)


def test_what_never_becomes_whole_is_told_at_the_end() -> None:
    unfolding = Unfolding(BYTES)
    assert [unfolding.add(token) for token in ids("a€")[:3]] == ["a", "", ""]
    assert unfolding.rest() == "\ufffd"


def test_spaces_between_words_survive() -> None:
    unfolding = Unfolding(Pieces(), prompt=[0])
    assert [unfolding.add(token) for token in (1, 2, 3, 4)] == [" bit", " of", " text", "s"]


@pytest.mark.parametrize("stop", ["你", "好 🙂", "e", " end", "G"])
def test_a_teller_ends_before_the_stop_text(stop: str) -> None:
    told: list[str] = []
    teller = Teller(BYTES, [], [stop, "never"], told.append)
    for token in ids(TEXT):
        teller(token)
    assert teller.finish() == "".join(told) == TEXT[: TEXT.index(stop)]


def test_held_back_text_is_told_when_no_stop_text_follows() -> None:
    told: list[str] = []
    teller = Teller(BYTES, [], ["ab!"], told.append)
    for token in ids("xabab"):
        teller(token)
    assert "".join(told) == "xab"
    assert teller.finish() == "xabab"


def test_a_row_stops_at_the_token_that_completes_a_stop_text() -> None:
    made = torch.tensor([ids("ab好c!"), ids("xxxxxx!")])[:, :7]
    stops = StopTexts(["b好", "!"], BYTES, [[], []])
    ended = torch.zeros(2, dtype=torch.bool)
    when = [None, None]
    for count in range(1, 8):
        ended |= stops.reached(made, count, ended)
        when = [w if w is not None else (count if e else None) for w, e in zip(when, ended.tolist(), strict=True)]
    assert when == [5, 7]
    assert stops.found(made[:, :5]).tolist() == [True, False]


def text_model():
    m = model(vocab_size=VOCAB, tokens={"pad": 0, "eos": [1]})
    m.tokenizer = BYTES
    return m


def test_generate_stops_at_text_and_keeps_it_in_the_ids() -> None:
    m = text_model()
    row = torch.tensor([ids("hello")])
    free = m.generate(row, max_new_tokens=24, ignore_eos=True)[0, 5:].tolist()
    whole = BYTES.decode(free)
    stop = next(whole[i : i + 2] for i in range(1, 22) if whole[i : i + 2].isascii())
    out = m.generate(row, max_new_tokens=24, stop=stop, ignore_eos=True)[0, 5:].tolist()
    assert out == free[: len(out)] and stop in BYTES.decode(out) and stop not in BYTES.decode(out[:-1])
    assert m.generate_text("hello", max_new_tokens=24, stop=stop, ignore_eos=True) == whole[: whole.index(stop)]
    beams = m.generate(row, max_new_tokens=24, stop=stop, ignore_eos=True, num_beams=2)
    assert beams.shape[1] <= 29


def test_texts_are_the_same_alone_in_a_batch_and_streamed() -> None:
    m = text_model()
    prompts = ["hello", "a longer one", "x"]
    told: list[str] = []
    alone = [m.generate_text(p, max_new_tokens=10) for p in prompts]
    assert m.generate_text(prompts, max_new_tokens=10) == alone
    assert m.generate_text(prompts[0], max_new_tokens=10, stream=told.append) == alone[0] == "".join(told)


def test_stream_hands_on_every_step() -> None:
    m, steps = text_model(), []
    row = torch.tensor([ids("hello"), ids("world")])
    out = m.generate(row, max_new_tokens=6, stream=lambda new: steps.append(new.clone()), ignore_eos=True)
    assert torch.equal(torch.stack(steps, 1), out[:, 5:])


class Templated(ByteTokenizer):
    chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    bos_token = "^"


def test_chat_uses_the_tokenizers_template() -> None:
    messages = [{"role": "user", "content": " hi "}]
    assert chat_text(Templated(), messages) == "^<user>hi<assistant>"
    assert chat_text(Templated(), messages, add_generation_prompt=False) == "^<user>hi"
    m = text_model()
    m.tokenizer = Templated()
    assert m.chat(messages, max_new_tokens=5) == m.generate_text("^<user>hi<assistant>", max_new_tokens=5)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('only user and assistant roles') }}",
        "{% if %}",
    ],
)
def test_a_template_that_reaches_out_or_refuses_is_one_message(template: str) -> None:
    tokenizer = Templated()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="chat template"):
        chat_text(tokenizer, [{"role": "user", "content": "hi"}])


def test_no_template_is_said() -> None:
    with pytest.raises(UserError, match="no chat template"):
        chat_text(BYTES, [])
