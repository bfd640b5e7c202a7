"""All initialization in one place: from a parameter's name, shape and the description to its first values.

Each parameter draws from a generator of its own, keyed by (seed, name): adding one changes no other, and any shard
of a model can be made alone.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from assay.spec.axes import InitKind, Placement
from assay.spec.model import ModelSpec, StackName
from assay.spec.parameters import ParameterInfo
from assay.spec.placement import sublayer_count, weight_scale

RULES = {
    Placement.deepnet: InitKind.deepnet,
    Placement.glm130b: InitKind.glm130b,
    Placement.subln: InitKind.subln,
}
"""What `init.kind = auto` means for a placement; `scaled_residual` for the others."""

SCALED = (".v.weight", ".o.weight", ".gate.weight", ".up.weight", ".down.weight")
"""Matrices that beta multiplies: values, outputs and the feed-forward; queries and keys keep gain 1."""

OUTWARD = (".o.weight", ".down.weight")
"""Matrices that write into the residual stream."""


def rule_of(spec: ModelSpec) -> InitKind:
    """The rule for matrices, `auto` resolved."""
    kind = spec.init.kind
    return RULES.get(spec.placement.kind, InitKind.scaled_residual) if kind is InitKind.auto else kind


@torch.no_grad()
def initialize(tensor: Tensor, info: ParameterInfo, spec: ModelSpec, seed: int) -> None:
    """Fill one parameter, in place."""
    if info.name.endswith(".alpha"):
        tensor.fill_(spec.norm.alpha)
    elif info.part == "norm" or info.name == "head.norm.weight":
        tensor.fill_(1.0 if info.name.endswith("weight") and not spec.norm.plus_one else 0.0)
    elif info.name.endswith("bias"):
        tensor.zero_()
    else:
        generator = torch.Generator().manual_seed(_key(seed, info.name))
        draw = torch.empty(info.shape, dtype=torch.float32)
        if info.name.startswith("embedding") or info.part == "positions" or info.name.endswith("token_types.weight"):
            draw.normal_(0.0, embedding_std(spec, info), generator=generator)
        else:
            _matrix(draw, info, spec, generator)
        tensor.copy_(draw)


def embedding_std(spec: ModelSpec, info: ParameterInfo) -> float:
    """Standard deviation of an embedding's entries."""
    rule = rule_of(spec)
    if info.name.endswith("relative.weight"):
        return spec.width**-0.5 if rule is InitKind.t5 else spec.init_std
    if spec.init.embedding_std is not None:
        return spec.init.embedding_std
    if rule is InitKind.t5:
        return 1.0
    return spec.init_std if rule in (InitKind.normal, InitKind.scaled_residual) else spec.width**-0.5


def _matrix(draw: Tensor, info: ParameterInfo, spec: ModelSpec, generator: torch.Generator) -> None:
    rule, (outputs, inputs) = rule_of(spec), info.shape
    stack: StackName = "encoder" if info.name.startswith("encoder.") else "decoder"
    inside = ".blocks." in info.name
    if rule in (InitKind.normal, InitKind.scaled_residual):
        std = spec.init_std
        if rule is InitKind.scaled_residual and inside and info.name.endswith(OUTWARD):
            std /= math.sqrt(sublayer_count(spec, stack))
        draw.normal_(0.0, std, generator=generator)
    elif rule is InitKind.t5:
        draw.normal_(0.0, _t5_std(info, spec, stack, inputs), generator=generator)
    else:
        gain = _gain(rule, spec, stack) if inside and info.name.endswith(SCALED) else 1.0
        if rule is InitKind.glm130b:
            draw.normal_(0.0, gain * math.sqrt(2 / (inputs + outputs)), generator=generator)
        else:
            bound = gain * math.sqrt(6 / (inputs + outputs))
            draw.uniform_(-bound, bound, generator=generator)


def _gain(rule: InitKind, spec: ModelSpec, stack: StackName) -> float:
    """What the scaled matrices are multiplied by. Sources: DeepNet table 1, GLM-130B section 2.1, Magneto table 2."""
    if rule is InitKind.subln:
        n, m = spec.depth("encoder"), spec.depth("decoder")
        if len(spec.stacks) == 1:
            return math.sqrt(math.log(2 * m))
        return math.sqrt(math.log(3 * m) * math.log(2 * n) / 3) if stack == "encoder" else math.sqrt(math.log(3 * m))
    return weight_scale(spec, stack) if rule in (InitKind.deepnet, InitKind.glm130b) else 1.0


def _t5_std(info: ParameterInfo, spec: ModelSpec, stack: StackName, inputs: int) -> float:
    """Mesh TensorFlow's: fan-in, and queries divided by sqrt(head width) since T5 does not scale scores."""
    if info.name == "head.weight":
        return 1.0
    scale = spec.head_width(stack) ** -0.5 if info.name.endswith(".q.weight") else 1.0
    return scale * inputs**-0.5


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "big")
