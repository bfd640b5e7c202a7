"""A partner in another family that costs the same: equal parameters, or equal FLOPs of an answer.

    found = partner(preset("llama-7b"), "encoder_decoder", match="parameters")
    found.spec, found.mismatch                    # 0.0004: 0.04% more

Sizes are whole numbers, so a partner is rarely exact; what is left over is stated. Searched are layers and width (a
whole number of heads of the same width, so that attention's head width stays fixed), then the feed-forward's inner
width in whole units, which closes most of the rest. Layers of an encoder-decoder count once a stack: both have as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assay.errors import UserError, did_you_mean
from assay.spec.axes import Family, HeadKind
from assay.spec.model import ModelSpec

__all__ = ["MATCHES", "Partner", "answer_flops", "partner"]

MATCHES = ("parameters", "inference")
"""What can be equal."""


@dataclass(frozen=True)
class Partner:
    """What was found."""

    spec: ModelSpec
    match: str
    wanted: float
    """Of the given model: parameters, or FLOPs of one answer."""
    reached: float
    """Of the partner."""
    other: tuple[float, float]
    """What was not matched, of the given model and of the partner: FLOPs, or parameters."""
    prompt: int
    new: int

    @property
    def mismatch(self) -> float:
        """Reached over wanted, minus 1."""
        return self.reached / self.wanted - 1

    def __str__(self) -> str:
        """The partner in a sentence, with what is left over."""
        spec, stack = self.spec, self.spec.output_stack
        unit = "parameters" if self.match == "parameters" else f"FLOPs of {self.prompt} + {self.new} tokens"
        rest = "parameters" if self.match == "inference" else f"FLOPs of {self.prompt} + {self.new} tokens"
        depth = f"{spec.depth('encoder')} + {spec.layers}" if len(spec.stacks) == 2 else f"{spec.layers}"
        return (
            f"{spec.family}, {depth} layers, {spec.width} wide, {spec.heads(stack)} heads, feed-forward "
            f"{spec.feedforward_width(stack)}: {self.reached:.4g} {unit}, {100 * self.mismatch:+.3f}%; "
            f"{rest} {self.other[1]:.4g} against {self.other[0]:.4g} ({self.other[1] / self.other[0]:.2f} times)"
        )


def answer_flops(spec: ModelSpec, prompt: int, new: int) -> float:
    """FLOPs of reading a prompt and writing an answer with the cache: each token passes once, logits for new ones.

    Encoder-decoders encode the prompt and decode the answer; an encoder reads both at once.
    """
    if spec.family is Family.encoder_decoder:
        return float(spec.flops(prompt, decoder_length=new, targets=new))
    prefix = prompt if spec.family is Family.prefix else None
    return float(spec.flops(prompt + new, targets=new, prefix=prefix))


def partner(
    spec: ModelSpec,
    family: Family | str,
    *,
    match: str = "parameters",
    prompt: int = 512,
    new: int = 128,
    vary: tuple[str, ...] = ("layers", "width", "feedforward"),
) -> Partner:
    """The model of another family whose cost is nearest to `spec`'s.

    Args:
        spec: the model given.
        family: the partner's; the model's own gives the model back.
        match: "parameters", or "inference": FLOPs of answering `prompt` tokens with `new` ones.
        prompt, new: the request.
        vary: which sizes may change, of layers, width, feedforward. Without "feedforward" its width keeps its share
            of the model's width.

    Raises:
        UserError: an unknown family or match, nothing to vary, or a model that the family cannot be.
    """
    kind = _family(family)
    if match not in MATCHES:
        raise UserError(f"match = {match}: cannot be equal.", f"Give {' or '.join(MATCHES)}.")
    unknown = set(vary) - {"layers", "width", "feedforward"}
    if unknown or not vary:
        raise UserError(f"vary = {', '.join(vary) or 'nothing'}.", "Give any of layers, width, feedforward.")
    if prompt < 1 or new < 1:
        raise UserError(f"prompt = {prompt}, new = {new}: a request has 1 token or more of both.")
    wanted, other = (cost_of(spec, kind_of, prompt, new) for kind_of in _both(match))
    best: ModelSpec | None = None
    nearest = (float("inf"), float("inf"))
    for tried in [] if kind is spec.family else _candidates(spec, kind, vary, wanted, match, prompt, new):
        off = abs(cost_of(tried, match, prompt, new) / wanted - 1)
        # Among equally near ones (to 0.1%) the one whose shape is nearest to the given model's.
        shape = abs(tried.width / spec.width - 1) + abs(tried.layers / _depth(spec, kind) - 1)
        key = (max(off, 1e-3), shape + off)
        if key < nearest:
            best, nearest = tried, key
    if kind is spec.family:
        best = spec
    if best is None:
        raise UserError(f"family {kind}: no model of that family is possible with these fields.", "Vary width too.")
    found = [cost_of(best, kind_of, prompt, new) for kind_of in _both(match)]
    return Partner(best, match, wanted, found[0], (other, found[1]), prompt, new)


def cost_of(spec: ModelSpec, match: str, prompt: int, new: int) -> float:
    """What is to be equal, of a model."""
    return float(spec.parameters()) if match == "parameters" else answer_flops(spec, prompt, new)


def _both(match: str) -> tuple[str, str]:
    return (match, MATCHES[1 - MATCHES.index(match)])


def _family(family: Family | str) -> Family:
    try:
        return Family(str(family))
    except ValueError:
        raise UserError(f"family = {family}: is none.", did_you_mean(str(family), [f.value for f in Family])) from None


def _depth(spec: ModelSpec, kind: Family) -> float:
    """The depth at which the shape would be alike: two stacks of half the layers, or one of both."""
    whole = sum(spec.depth(stack) for stack in spec.stacks)
    return max(whole / (2 if kind is Family.encoder_decoder else 1), 1)


def _in_family(spec: ModelSpec, kind: Family) -> ModelSpec:
    """The same fields in another family: what belongs to the old one alone is dropped."""
    fields = spec.to_dict()
    fields |= {"family": kind.value, "name": f"{spec.name} as {kind}" if spec.name else ""}
    if kind is not Family.encoder_decoder:
        fields.pop("encoder", None)
        for name in ("encoder_alpha", "encoder_beta"):
            if isinstance(fields.get("placement"), dict):
                fields["placement"].pop(name, None)
    if kind is not Family.prefix:
        fields.pop("prompt", None)
    if kind is not Family.encoder and isinstance(fields.get("head"), dict):
        fields["head"].pop("sentence_pair", None)
        if fields["head"].get("kind") == HeadKind.mlm.value:
            fields["head"]["kind"] = HeadKind.lm.value
    return ModelSpec.from_dict(fields, source=f"{spec.name or 'the model'} as {kind}")


def _candidates(
    spec: ModelSpec, kind: Family, vary: tuple[str, ...], wanted: float, match: str, prompt: int, new: int
) -> Iterator[ModelSpec]:
    """For each width the depths on both sides of the wanted cost, and their feed-forward adjusted."""
    base, stack = _in_family(spec, kind), spec.output_stack
    head, groups = spec.head_width(stack), max(spec.heads(stack) // spec.kv_heads(stack), 1)
    share = spec.feedforward_width(stack) / spec.width
    width_per_head = spec.width // spec.heads(stack)
    heads = spec.heads(stack)
    counts = [heads]
    if "width" in vary:
        counts = [n for n in range(max(heads // 3, 1), 3 * heads + 1) if n % groups == 0 or groups == heads]
        step = max(len(counts) // 64, 1)  # very wide models: every second or third number of heads will do
        counts = sorted({*counts[::step], heads})
    rough = max(round(_depth(spec, kind)), 1)
    for count in counts:
        kv = 1 if groups == heads and heads > 1 else max(count // groups, 1)

        def made(layers: int, inner: int, count: int = count, kv: int = kv) -> ModelSpec:
            sizes = {"width": width_per_head * count, "layers": layers, "attention.heads": count}
            sizes |= {"attention.kv_heads": kv, "attention.head_width": head, "feedforward.width": inner}
            if kind is Family.encoder_decoder:
                sizes |= {"encoder.layers": layers, "encoder.heads": count, "encoder.feedforward_width": inner}
            return base.with_(**sizes)

        inner = max(round(share * width_per_head * count), 1)
        for layers in _layers(made, inner, rough, wanted, match, (prompt, new)) if "layers" in vary else [rough]:
            plain = made(layers, inner)
            yield plain
            if "feedforward" in vary:
                # Cost is linear in the inner width: two points give the line, and its whole neighbours follow.
                here, more = (cost_of(s, match, prompt, new) for s in (plain, made(layers, inner + 64)))
                exact = inner + 64 * (wanted - here) / (more - here)
                if 0.5 * inner <= exact <= 2 * inner:
                    yield made(layers, max(int(exact), 1))
                    yield made(layers, int(exact) + 1)


def _layers(made: object, inner: int, rough: int, wanted: float, match: str, request: tuple[int, int]) -> list[int]:
    """The depths just below and above the wanted cost, which is linear in depth."""
    assert callable(made)
    one, two = (cost_of(made(n, inner), match, *request) for n in (1, 2))
    exact = 1 + (wanted - one) / (two - one)
    return sorted({n for n in (int(exact), int(exact) + 1) if 1 <= n <= 8 * rough + 8})
