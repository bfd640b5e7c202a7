"""The adapter to lm-evaluation-harness: its requests answered as the model itself says, and as its own HF adapter."""

import math
from pathlib import Path

import pytest
import torch
from tests.evaluation.tasks_common import FAMILIES, tiny

from assay.errors import UserError
from assay.evaluation import harness
from assay.evaluation.pairs import Codec, rolling, score

needs_harness = pytest.mark.skipif(
    not harness.available(), reason='lm-eval is not installed: pip install "assay[eval]"'
)


def test_without_the_package_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "available", lambda: False)
    with pytest.raises(UserError, match=r'Install it: pip install "assay\[eval\]"'):
        harness.harness_model(tiny())
    with pytest.raises(UserError, match="not installed"):
        harness.run_harness(tiny(), ["arc_easy"])


def requests(kind: str, arguments: list[tuple]) -> list:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]  # type: ignore[arg-type]


@needs_harness
@pytest.mark.parametrize("family", FAMILIES)
def test_log_likelihoods_are_the_models(family: str) -> None:
    model = tiny(family)
    codec, adapter = Codec(model), harness.harness_model(model, batch_size=2)
    asked = [("The sky is", " blue"), ("a ", "b"), ("", "begins"), ("x" * 200, " y")]
    found = adapter.loglikelihood(requests("loglikelihood", asked))
    # The harness moves a context's last spaces to the continuation.
    moved = [("The sky is", " blue"), ("a", " b"), ("", "begins"), ("x" * 200, " y")]
    pairs = [codec.fit(codec.prompt(c), codec.encode(a)) for c, a in moved]
    if family == "encoder_decoder":
        pairs[2] = codec.fit([codec.begin], codec.encode("begins"))
    expected = score(codec, pairs)
    for (value, greedy), nats, likeliest in zip(found, expected.nats, expected.greedy, strict=True):
        assert value == pytest.approx(-nats, rel=1e-5) and greedy == likeliest
    text = "one text that is longer than a window of sixty-four tokens, " * 2
    (whole,) = adapter.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]))
    assert whole == pytest.approx(-score(codec, rolling(codec, codec.encode(text))).nats.sum(), rel=1e-5)


@needs_harness
@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 129, 200])
def test_rolling_windows_are_the_harnesss(length: int) -> None:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    codec, tokens = Codec(tiny()), list(range(20, 20 + length))
    theirs = get_rolling_token_windows(token_list=tokens, prefix_token=codec.begin, max_seq_len=64, context_len=1)
    mine = [(part.prompt.tolist(), part.answer.tolist()) for part in rolling(codec, tokens)]
    assert mine == [(list(c), list(t)) for c, t in map(make_disjoint_window, theirs)]


@needs_harness
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_generated_up_to_their_stops(family: str) -> None:
    model = tiny(family)
    codec, adapter = Codec(model), harness.harness_model(model)
    asked = [
        ("abc", {"until": ["\n"], "max_gen_toks": 6, "temperature": 0.0, "do_sample": False}),
        ("d", {"until": "z"}),
    ]
    said = adapter.generate_until(requests("generate_until", asked))
    out = model.generate(torch.tensor([codec.prompt("abc")]), max_new_tokens=6)[0].tolist()
    made = out[1:] if family == "encoder_decoder" else out[len(codec.prompt("abc")) :]
    assert said[0] == model.tokenizer.decode([t for t in made if t != 1]).partition("\n")[0]


@needs_harness
def test_a_published_model_scores_as_through_transformers(tmp_path: Path) -> None:
    """The reference is the harness's own adapter, which runs the same folder by transformers."""
    pytest.importorskip("transformers")
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    import assay

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = LlamaConfig(vocab_size=258, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, **shape)
    reference = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(4)
    reference.save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    theirs = HFLM(pretrained=reference, tokenizer=fast, batch_size=2, max_length=64)
    mine = harness.harness_model(assay.load(tmp_path))
    asked = [("The sky is", " blue"), ("Once", " upon a time"), ("x" * 100, " y"), ("", "word")]
    for (a, x), (b, y) in zip(
        mine.loglikelihood(requests("loglikelihood", asked)),
        theirs.loglikelihood(requests("loglikelihood", asked), disable_tqdm=True),
        strict=True,
    ):
        assert a == pytest.approx(b, rel=1e-4) and x == y and math.isfinite(a)
    texts = [("a text that does not fit into a single window of the model at all, " * 3,)]
    (a,) = mine.loglikelihood_rolling(requests("loglikelihood_rolling", texts))
    (b,) = theirs.loglikelihood_rolling(requests("loglikelihood_rolling", texts), disable_tqdm=True)
    assert a == pytest.approx(b, rel=1e-4)
    how = [("Hello", {"until": ["zzz"], "max_gen_toks": 8, "do_sample": False})]
    assert mine.generate_until(requests("generate_until", how)) == theirs.generate_until(
        requests("generate_until", how), disable_tqdm=True
    )
