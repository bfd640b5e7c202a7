"""Partners of equal cost: near, of the family asked for, with what is left over stated rightly."""

import pytest

from assay.errors import UserError
from assay.spec.axes import Family
from assay.spec.model import ModelSpec
from assay.spec.partner import answer_flops, partner
from assay.spec.published import preset

SMALL = ModelSpec.from_dict({"width": 128, "layers": 6, "attention": {"heads": 4}, "vocab_size": 500})


@pytest.mark.parametrize("match", ["parameters", "inference"])
@pytest.mark.parametrize("family", ["prefix", "encoder_decoder", "encoder"])
@pytest.mark.parametrize("name", ["small", "gpt2"])
def test_a_partner_is_near_and_says_how_near(name: str, family: str, match: str) -> None:
    spec = SMALL if name == "small" else preset(name)
    found = partner(spec, family, match=match, prompt=100, new=50)
    assert found.spec.family is Family(family) and abs(found.mismatch) < 0.002
    costs = {"parameters": lambda s: int(s.parameters()), "inference": lambda s: answer_flops(s, 100, 50)}
    other = "inference" if match == "parameters" else "parameters"
    assert found.reached == costs[match](found.spec) and found.wanted == costs[match](spec)
    assert found.other == (costs[other](spec), costs[other](found.spec))
    assert found.spec.head_width(found.spec.output_stack) == spec.head_width("decoder"), "head width stays"
    assert f"{100 * found.mismatch:+.3f}%" in str(found)


def test_equal_answers_give_an_encoder_decoder_about_twice_the_parameters() -> None:
    """The reason for matching both ways (Raffel et al. 2020, section 3.2.2): each token passes one of its stacks."""
    found = partner(preset("llama-7b"), "encoder_decoder", match="inference")
    assert 1.8 < found.other[1] / found.other[0] < 2.1
    back = partner(preset("llama-7b"), "encoder_decoder", match="parameters")
    assert 0.48 < back.other[1] / back.other[0] < 0.56


def test_the_way_back_arrives_at_the_same_cost() -> None:
    there = partner(SMALL, "encoder_decoder")
    back = partner(there.spec, "causal")
    assert back.reached == pytest.approx(int(SMALL.parameters()), rel=3e-3)
    assert back.spec.encoder == ModelSpec().encoder, "nothing of the old family is left"


def test_its_own_family_gives_the_model_itself() -> None:
    found = partner(SMALL, "causal", match="inference")
    assert found.spec == SMALL and found.mismatch == 0


def test_only_what_may_vary_does() -> None:
    found = partner(SMALL, "encoder_decoder", vary=("layers",)).spec
    assert found.width == 128 and found.feedforward_width("decoder") == SMALL.feedforward_width("decoder")
    fixed = partner(SMALL, "encoder_decoder", vary=("feedforward",)).spec
    assert fixed.width == 128 and fixed.layers == 3
    coarse, fine = (
        abs(partner(SMALL, "encoder_decoder", vary=v).mismatch) for v in (("layers",), ("layers", "feedforward"))
    )
    assert fine < coarse


def test_grouped_and_multi_query_heads_stay_grouped() -> None:
    grouped = partner(preset("llama3.2-1b"), "encoder_decoder").spec
    assert grouped.heads("decoder") == 4 * grouped.kv_heads("decoder")
    assert partner(preset("falcon-7b"), "prefix", vary=("feedforward",)).spec.kv_heads("decoder") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"family": "diffusion"}, "family = diffusion"),
        ({"family": "prefix", "match": "latency"}, "match = latency"),
        ({"family": "prefix", "vary": ("heads",)}, "vary = heads"),
        ({"family": "prefix", "vary": ()}, "vary = nothing"),
        ({"family": "prefix", "new": 0}, "new = 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        partner(SMALL, **arguments)
