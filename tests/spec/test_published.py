"""Published sizes against the parameter counts that their papers state or their released weights have."""

import subprocess
import sys

import pytest

from assay.errors import UserError
from assay.spec.axes import Family, Placement, PositionKind, Skip
from assay.spec.placement import block_plan, has_embedding_norm, has_final_norm, residual_scale, weight_scale
from assay.spec.published import ALIASES, FAMILIES, preset, presets

#: Exactly what the released weights hold, tied matrices once, buffers left out.
RELEASED = {
    "gpt2-124m": 124_439_808,
    "gpt2-355m": 354_823_168,
    "gpt2-774m": 774_030_080,
    "gpt2-1.5b": 1_557_611_200,
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "opt-6.7b": 6_658_473_984,
    "opt-30b": 29_974_540_288,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-xl": 2_851_598_336,
    "t5-xxl": 11_307_321_344,
    "t5-v1.1-small": 76_961_152,
    "t5-v1.1-base": 247_577_856,
    "t5-v1.1-large": 783_150_080,
    "t5-v1.1-xl": 2_849_757_184,
    "t5-v1.1-xxl": 11_135_332_352,
    "flan-t5-xxl": 11_135_332_352,
    "bert-base": 110_106_428,
    "bert-large": 336_226_108,
    "bloom-560m": 559_214_592,
    "bloom-1.1b": 1_065_314_304,
    "bloom-1.7b": 1_722_408_960,
    "bloom-3b": 3_002_557_440,
    "bloom-7.1b": 7_069_016_064,
    "bloom-176b": 176_247_271_424,
    "chatglm2-6b": 6_243_584_000,
    "glm-4-9b": 9_399_951_360,
    "baichuan-7b": 7_000_559_616,
    "baichuan-13b": 13_264_901_120,
    "baichuan2-7b": 7_505_973_248,
    "baichuan2-13b": 13_896_668_160,
    "falcon-7b": 6_921_720_704,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 179_522_565_120,
    "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2-0.5b": 494_032_768,
    "qwen2-1.5b": 1_543_714_304,
    "qwen2-7b": 7_615_616_512,
    "qwen2-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma2-2b": 2_614_341_888,
    "gemma2-9b": 9_241_705_984,
    "gemma2-27b": 27_227_128_320,
    "olmo-1b": 1_176_764_416,
    "olmo-7b": 6_888_095_744,
    "olmo2-1b": 1_484_916_736,
    "olmo2-7b": 7_298_617_344,
    "olmo2-13b": 13_716_198_400,
    "olmo2-32b": 32_234_279_936,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
}

#: What papers state, to the digits that they state.
STATED = {
    "gpt3-125m": (125e6, 1e6),
    "gpt3-350m": (356e6, 1e6),
    "gpt3-760m": (760e6, 1e6),
    "gpt3-1.3b": (1.3e9, 0.05e9),
    "gpt3-2.7b": (2.65e9, 0.05e9),
    "gpt3-6.7b": (6.66e9, 0.05e9),
    "gpt3-13b": (12.9e9, 0.1e9),
    "gpt3-175b": (174.604e9, 0.001e9),
    "palm-8b": (8.63e9, 0.005e9),
    "palm-62b": (62.50e9, 0.005e9),
    "palm-540b": (540.36e9, 0.005e9),
    "u-palm-540b": (540.36e9, 0.005e9),
    "chatglm-6b": (6.17e9, 0.005e9),
    "glm-130b": (128.7e9, 0.05e9),
    "cogview-4b": (4e9, 0.1e9),
    "ul2-20b": (19.5e9, 0.2e9),
}


@pytest.mark.parametrize(("name", "count"), RELEASED.items())
def test_counts_equal_the_released_weights(name: str, count: int) -> None:
    assert preset(name).parameters() == count


@pytest.mark.parametrize(("name", "stated"), STATED.items())
def test_counts_meet_what_papers_state(name: str, stated: tuple[float, float]) -> None:
    assert preset(name).parameters() == pytest.approx(stated[0], abs=stated[1])


def test_counts_that_differ_by_what_is_stored() -> None:
    def untied(name: str) -> int:
        return preset(name).with_(**{"head.tied": False}).parameters()

    assert untied("chatglm-6b") == pytest.approx(6.71e9, abs=0.005e9)
    assert untied("glm-130b") == pytest.approx(130.5e9, abs=0.05e9)
    # BART's and mBART's logit bias is a buffer; MiniLM's release has BERT's pooler besides.
    assert preset("bart-base").parameters() - 50265 == 139_420_416
    assert preset("bart-large").parameters() - 50265 == 406_291_456
    assert preset("mbart-large").parameters() - 250027 == 610_851_840
    assert preset("minilm-l6").parameters() + 384 * 385 == 22_713_216
    # 384 features a head would give PaLM 567.6 billion (a misprint that circulates).
    wide = preset("palm-540b").with_(**{"attention.head_width": 384}).parameters()
    assert wide == pytest.approx(567.6e9, abs=0.05e9)


def test_every_size_is_checked_or_has_a_twin_that_is() -> None:
    others = {"chatglm-6b", "glm-130b", "bart-base", "bart-large", "mbart-large", "minilm-l6"}
    checked = RELEASED.keys() | STATED.keys() | others
    counts = {int(preset(name).parameters()) for name in checked}
    lonely = {
        name
        for name in presets()
        if not name.startswith("tiny") and name not in checked and int(preset(name).parameters()) not in counts
    }
    assert lonely == {"opt-2.7b", "opt-13b", "opt-66b", "opt-175b", "qwen2.5-3b", "qwen2.5-14b", "qwen2.5-32b"}
    for name in lonely:  # those are held to the size in their name
        stated = float(name.rpartition("-")[2].rstrip("b")) * 1e9
        assert preset(name).parameters() == pytest.approx(stated, rel=0.06), name


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_comes_back(name: str) -> None:
    spec = presets()[name]
    assert spec.name == name
    assert type(spec).from_toml(spec.to_toml()) == spec
    assert spec.flops(16) > 0


def test_families_and_placements_are_those_of_the_papers() -> None:
    family = {
        "llama-7b": Family.causal,
        "chatglm-6b": Family.prefix,
        "chatglm2-6b": Family.causal,  # whatever the lists say
        "glm-130b": Family.prefix,
        "u-palm-540b": Family.prefix,
        "t5-xxl": Family.encoder_decoder,
        "bert-base": Family.encoder,
    }
    for name, expected in family.items():
        assert preset(name).family is expected, name
    assert residual_scale(preset("chatglm-6b"), "decoder") == pytest.approx(56**0.5)
    assert residual_scale(preset("glm-130b"), "decoder") == pytest.approx(11.83, abs=0.005)
    assert weight_scale(preset("glm-130b"), "decoder") == pytest.approx(140**-0.5)
    (first, *_) = block_plan(preset("chatglm-6b"), "decoder", 0).steps
    assert first.skip is Skip.normed
    assert has_embedding_norm(preset("bloom"))
    assert not has_embedding_norm(preset("gpt3"))
    assert not has_final_norm(preset("bart-base"))
    assert has_final_norm(preset("mbart-large"))
    assert preset("cogview").placement.kind is Placement.sandwich
    assert {preset(n).positions.kind for n in ("baichuan-13b", "bloom")} == {PositionKind.alibi}
    assert preset("mistral-7b").window(0) == 4096
    assert [preset("gemma2-2b").window(layer) for layer in (0, 1, 2)] == [4096, None, 4096]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("LLaMA-7B", "llama-7b"),
        ("gpt_3", "gpt3-175b"),
        ("GPT-2", "gpt2-124m"),
        ("t5_11b", "t5-xxl"),
        ("Llama3.1-8B", "llama3.1-8b"),
    ],
)
def test_names_are_understood_as_people_write_them(written: str, name: str) -> None:
    assert preset(written).name == name


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'gtp2' is no preset\. Did you mean 'gpt2'"):
        preset("gtp2")
    with pytest.raises(KeyError):
        presets()["gpt3"]  # the mapping knows exact names alone


def test_other_names_lead_to_presets() -> None:
    assert set(ALIASES.values()) <= set(presets())
    assert not ALIASES.keys() & set(presets())
    assert len(presets()) == len(list(presets())) > 100
    assert len(set(FAMILIES)) == len(FAMILIES)


def test_listing_builds_nothing() -> None:
    code = (
        "import assay.spec.published as published\n"
        "assert len(list(published.presets())) > 100 and 'gpt3-175b' in published.presets()\n"
        "assert published._build.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
