"""How order enters: rotary tables, ALiBi's slopes, T5's buckets, sinusoids. Sources stand at each function."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.nn.kernels import rotary as kernel
from assay.nn.kernels.rotary import Tables
from assay.spec.axes import Pairing, RopeScalingKind
from assay.spec.parts import PositionSpec, RopeScaling


class Rotary(NamedTuple):
    """Cosine and sine for queries and for keys, [1 or B, S, rotated features], ready to broadcast over heads."""

    q_cos: Tensor
    q_sin: Tensor
    k_cos: Tensor
    k_sin: Tensor


def rope_frequencies(positions: PositionSpec, rotated: int, length: int = 0) -> tuple[Float[Tensor, " half"], float]:
    """Angular frequencies theta^(-2i/d) of `rotated` features, and the scale of cosine and sine.

    `length` matters to dynamic scaling alone. Source: Su et al. 2021 (RoFormer), section 3.2; scaling: Chen et al.
    2023 (linear), Peng et al. 2023 (YaRN), Meta's Llama 3.1 code (llama3).
    """
    theta, scaling = positions.theta, positions.scaling
    if scaling is not None and scaling.kind is RopeScalingKind.dynamic:
        assert scaling.original_length is not None
        stretch = max(length, scaling.original_length) / scaling.original_length
        theta *= (scaling.factor * stretch - (scaling.factor - 1)) ** (rotated / (rotated - 2))
    exponent = torch.arange(0, rotated, 2, dtype=torch.int64).float() / rotated
    frequency = 1.0 / theta**exponent
    if positions.half_frequencies:
        frequency = frequency.half().float()
    if scaling is None or scaling.kind is RopeScalingKind.dynamic:
        return frequency, 1.0
    if scaling.kind is RopeScalingKind.linear:
        return frequency / scaling.factor, 1.0
    if scaling.kind is RopeScalingKind.llama3:
        return _llama3(frequency, scaling), 1.0
    return _yarn(frequency, scaling, theta, rotated)


def _llama3(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow frequencies divided by the factor, fast ones kept, a smooth passage between (Llama 3.1)."""
    assert scaling.original_length is not None
    turns = scaling.original_length * frequency / (2 * math.pi)
    share = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
    share = share.clamp(0, 1)
    return (1 - share) * frequency / scaling.factor + share * frequency


def _yarn(frequency: Tensor, scaling: RopeScaling, theta: float, rotated: int) -> tuple[Tensor, float]:
    """NTK-by-parts interpolation and the temperature on attention (Peng et al. 2023, sections 3.2 and 3.4)."""
    assert scaling.original_length is not None

    def dimension(turns: float) -> float:
        original = float(scaling.original_length or 1)
        return rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    ramp = (torch.arange(rotated // 2).float() - low) / (max(high - low, 0.001))
    keep = 1 - ramp.clamp(0, 1)
    mixed = frequency / scaling.factor * (1 - keep) + frequency * keep

    def temperature(mscale: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * mscale * math.log(scaling.factor) + 1.0

    if scaling.attention_factor is not None:
        return mixed, scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return mixed, temperature(scaling.mscale) / temperature(scaling.mscale_all_dim)
    return mixed, temperature(1.0)


def rotary(
    positions: PositionSpec,
    rotated: int,
    ids: Int[Tensor, "b s"] | Int[Tensor, "b axes s"],
    length: int = 0,
    *,
    centre: int = 0,
) -> Rotary:
    """Cosine and sine of every position, in float32.

    With two axes each axis turns its own half of the features by its own row of positions (ChatGLM-6B).
    xPos multiplies queries by zeta^p and keys by zeta^-p (Sun et al. 2022, equation 7), with p counted from `centre`:
    a constant of the model, since keys in a cache keep the p that they were given.
    """
    share = rotated // positions.axes
    frequency, scale = rope_frequencies(positions, share, length)
    frequency = frequency.to(ids.device)
    rows = ids.unbind(1) if positions.axes == 2 else (ids,)
    spread = _spread_interleaved if positions.pairing is Pairing.interleaved else _spread_half
    angles = torch.cat([spread(row.float()[..., None] * frequency) for row in rows], -1)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    if not positions.xpos:
        return Rotary(cos, sin, cos, sin)
    zeta = (torch.arange(0, rotated, 2, device=ids.device).float() + 0.4 * rotated) / (1.4 * rotated)
    power = spread((ids.float()[..., None] - centre) / positions.xpos_base * zeta.log()).exp()
    return Rotary(cos * power, sin * power, cos / power, sin / power)


def _spread_half(angles: Tensor) -> Tensor:
    return torch.cat([angles, angles], -1)


def _spread_interleaved(angles: Tensor) -> Tensor:
    return angles.repeat_interleave(2, -1)


def rotate(
    x: Float[Tensor, "b h s d"], cos: Tensor, sin: Tensor, *, interleaved: bool, axes: int
) -> Float[Tensor, "b h s d"]:
    """Turn the first features of every head, as many as `cos` has; the rest pass.

    x' = x cos + J x sin, where J swaps the two features of a pair and negates the first.
    """
    cos, sin = cos.unsqueeze(1).to(x.dtype), sin.unsqueeze(1).to(x.dtype)
    rotated = cos.shape[-1]
    turned = x if rotated == x.shape[-1] else x[..., :rotated]
    if interleaved:
        first, second = turned[..., ::2], turned[..., 1::2]
        swapped = torch.stack((-second, first), -1).flatten(-2)
    else:
        pieces = turned.chunk(2 * axes, -1)
        swapped = torch.cat([half for i in range(0, 2 * axes, 2) for half in (-pieces[i + 1], pieces[i])], -1)
    out = turned * cos + swapped * sin
    return out if rotated == x.shape[-1] else torch.cat((out, x[..., rotated:]), -1)


def rotate_both(
    q: Float[Tensor, "b h s d"], k: Float[Tensor, "b g s d"], by: Rotary, *, interleaved: bool, axes: int
) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b g s d"]]:
    """`rotate` of queries and of keys, by the fastest way there is; equal bit for bit."""
    tables = Tables(*by, axes=0 if interleaved else axes)
    if kernel.why_not(q, k, tables) is None:
        return kernel.turn(q, k, tables)
    return (
        rotate(q, by.q_cos, by.q_sin, interleaved=interleaved, axes=axes),
        rotate(k, by.k_cos, by.k_sin, interleaved=interleaved, axes=axes),
    )


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """Slopes 2^(-8i/n); for a number of heads that is no power of two, every second slope of the next power fills up.

    Source: Press et al. 2021 (ALiBi), section 3 and its code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * (heads - power), 2)]
    return torch.tensor(slopes, dtype=torch.float32)


def relative_buckets(
    distance: Int[Tensor, "q k"], *, bidirectional: bool, buckets: int, max_distance: int
) -> Int[Tensor, "q k"]:
    """T5's buckets of the distance key - query: half of them exact, the others logarithmic up to `max_distance`.

    Bidirectional: half of the buckets for keys after the query. Source: Raffel et al. 2020, section 2.1, and the
    Mesh TensorFlow code.
    """
    bucket = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        bucket += (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    far = (
        exact
        + (torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (buckets - exact)).long()
    )
    return bucket + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


def sinusoids(ids: Int[Tensor, "b s"], width: int, theta: float) -> Float[Tensor, "b s width"]:
    """Sin and cos of position / theta^(2i/width), interleaved. Source: Vaswani et al. 2017, section 3.5."""
    frequency = theta ** (-torch.arange(0, width, 2, device=ids.device).float() / width)
    angles = ids.float()[..., None] * frequency
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :width]
