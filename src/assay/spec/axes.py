"""The named values of every axis of an architecture."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

ALIASES = {
    "layer": "layernorm",
    "rms": "rmsnorm",
    "deepnorm": "deepnet",
    "encdec": "encoder_decoder",
    "encoder-decoder": "encoder_decoder",
    "causal_decoder": "causal",
    "prefix_decoder": "prefix",
    "swish": "silu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "no": "none",
}
"""Other names that users know, understood wherever the value on the right is."""


class Axis(StrEnum):
    """A closed set of names; well-known aliases are understood on the way in."""

    @classmethod
    def _missing_(cls, value: object) -> Axis | None:
        name = str(value).lower()
        name = ALIASES.get(name, name)
        return cls.__members__.get(name) or next((m for m in cls if m.value == name), None)


class Family(Axis):
    """Who sees whom, and how many stacks there are (K1, K2)."""

    causal = "causal"
    """One stack; a token sees itself and what came before."""
    prefix = "prefix"
    """One stack; the prefix sees itself whole, what follows is causal."""
    encoder_decoder = "encoder_decoder"
    """A bidirectional stack read by a causal one through cross-attention."""
    encoder = "encoder"
    """One bidirectional stack."""


class NormKind(Axis):
    """Normalization over the features of one token."""

    layernorm = "layernorm"
    """Ba et al. 2016: subtract the mean, divide by the standard deviation."""
    rmsnorm = "rmsnorm"
    """Zhang & Sennrich 2019: divide by the root mean square."""
    dyt = "dyt"
    """Zhu et al. 2025: g * tanh(a x) + b, no statistics at all."""
    none = "none"
    """No normalization: the identity (for ablations)."""


class Cast(Axis):
    """When a low-precision norm returns from float32."""

    after_weight = "after_weight"
    """Multiply by the weight in float32, then cast (Gemma, torch's own norms)."""
    before_weight = "before_weight"
    """Cast first, multiply in the input's type (LLaMA, T5)."""


class Placement(Axis):
    """Where norms stand around the residual sum; `spec/placement.py` has each as data for one equation."""

    post = "post"
    pre = "pre"
    sandwich = "sandwich"
    peri = "peri"
    reordered = "reordered"
    deepnet = "deepnet"
    glm130b = "glm130b"
    subln = "subln"
    mix = "mix"
    scaled = "scaled"
    residual = "residual"


class Parallel(Axis):
    """Whether attention and feed-forward share one residual step."""

    none = "none"
    """One after the other."""
    one_norm = "one_norm"
    """Together, reading one norm's output (Falcon-7B, PaLM)."""
    two_norms = "two_norms"
    """Together, a norm each (Falcon-40B)."""


class Skip(Axis):
    """What the residual connection carries."""

    stream = "stream"
    """The stream as it came."""
    normed = "normed"
    """The stream after the step's first norm (ChatGLM, BLOOM's other form)."""


class PositionKind(Axis):
    """How order enters."""

    none = "none"
    learned = "learned"
    sinusoidal = "sinusoidal"
    rope = "rope"
    alibi = "alibi"
    relative = "relative"
    """T5's bucketed bias, shared by the layers of a stack unless `per_layer`."""


class Pairing(Axis):
    """Which two features of a head RoPE rotates together."""

    half = "half"
    """i and i + d/2 (GPT-NeoX, LLaMA in Hugging Face form)."""
    interleaved = "interleaved"
    """2i and 2i + 1 (the paper, GPT-J, LLaMA in Meta's form)."""


class RopeScalingKind(Axis):
    """How RoPE's frequencies are stretched past the trained length."""

    linear = "linear"
    dynamic = "dynamic"
    llama3 = "llama3"
    yarn = "yarn"


class QKNorm(Axis):
    """Norm on queries and keys before the dot product."""

    none = "none"
    head = "head"
    """Over each head's features, one weight for all heads (Qwen 3)."""
    full = "full"
    """Over the whole projected width (OLMo 2)."""


class Activation(Axis):
    """The feed-forward's nonlinearity."""

    relu = "relu"
    gelu = "gelu"
    """x * Phi(x), exact."""
    gelu_tanh = "gelu_tanh"
    """The tanh approximation of GELU."""
    silu = "silu"
    relu2 = "relu2"
    """Squared ReLU (So et al. 2021)."""


class HeadKind(Axis):
    """What turns the last hidden state into an output."""

    lm = "lm"
    """Logits over the vocabulary."""
    mlm = "mlm"
    """BERT's: a dense layer, activation and norm, then logits with a bias."""
    none = "none"
    """Hidden states only."""


class InitKind(Axis):
    """How weights begin."""

    auto = "auto"
    """As the placement's paper says; `scaled_residual` where it says nothing."""
    normal = "normal"
    """N(0, std^2) everywhere."""
    scaled_residual = "scaled_residual"
    """GPT-2: N(0, std^2), projections into the residual stream divided by sqrt(number of sublayers)."""
    xavier = "xavier"
    """Glorot uniform."""
    deepnet = "deepnet"
    """Xavier; feed-forward, value and output projections times beta (Wang et al. 2022)."""
    glm130b = "glm130b"
    """Xavier normal; feed-forward, value and output times (2N)^-1/2 (Zeng et al. 2022)."""
    subln = "subln"
    """Xavier; feed-forward, value and output times sqrt(ln 2N) (Wang et al. 2022, Foundation Transformers)."""
    t5 = "t5"
    """Mesh TensorFlow's: N(0, 1/fan-in), queries also divided by sqrt(head width)."""


class PromptRule(Axis):
    """How a published model derives mask and positions from the prompt's own tokens."""

    none = "none"
    chatglm = "chatglm"
    """ChatGLM-6B: keys before `<sop>` visible to all; two rows of positions."""
    glm130b = "glm130b"
    """GLM-130B: keys before `<sop>` visible to all; one row of positions."""


def axis_value(axis: type[Axis], value: Any) -> Axis:
    """The member that a name or alias means.

    Raises:
        ValueError: no such member.
    """
    return axis(value)
