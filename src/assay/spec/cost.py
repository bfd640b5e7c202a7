"""What training and using a model costs: FLOPs, memory, time, energy, CO2 and money, from its description.

    training FLOPs   exact: counted products over visible pairs, 3 times forward     rule of thumb: 6 N D
    device-hours     FLOPs / (peak x utilisation) / 3600
    energy           device-hours x watts x PUE            (Patterson et al. 2021, section 2.4)
    CO2              energy x kg of CO2e a kWh of the grid
    money            device-hours x price of an hour

Every number that is assumed is an `Assumption` with its source, and can be given instead.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from assay.errors import UserError
from assay.spec.activations import activation_bytes
from assay.spec.axes import Family
from assay.spec.hardware import Figure, Hardware, hardware, positive
from assay.spec.memory import BYTES, cache_bytes, state_bytes
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

__all__ = ["Assumption", "Cost", "Inference", "Memory", "Training", "active_parameters", "cost"]

DEFAULTS = {
    "pue": Figure(1.1, "", "Patterson et al. 2021, table 4; Touvron et al. 2023, table 15 (seen)"),
    "carbon": Figure(0.429, "kg CO2e/kWh", "Patterson et al. 2021, table 4: the grid that GPT-3 drew on (seen)"),
    "decode_share": Figure(0.6, "of bandwidth", "a usual share that batch-1 decoding reaches; not measured here"),
}
"""What is the same for every machine."""

LIMITS = {"utilisation": 1.0, "decode_share": 1.0}


@dataclass(frozen=True)
class Assumption:
    """A number that the estimate rests on."""

    name: str
    value: float
    unit: str
    source: str
    given: bool = False
    """Whether the user gave it."""


@dataclass(frozen=True)
class Memory:
    """Bytes of training, over all devices together, at `sequences` sequences at once; and of one sequence's cache."""

    weights: int
    gradients: int
    optimizer: int
    activations: float
    activations_checkpointed: float
    cache_per_token: float
    cache: float
    sequences: int

    @property
    def state(self) -> int:
        """Weights, gradients and optimizer."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class Training:
    """One training run."""

    tokens: float
    flops: float
    """Exact: products counted, attention over visible pairs."""
    rule_of_thumb: float
    """6 N D, with N the active parameters."""
    flops_per_token: dict[str, float]
    """By part of the model; an average over a sequence."""
    device_hours: float
    seconds: float
    """Wall time on all devices."""
    energy_kwh: float
    co2_kg: float
    money: float

    @property
    def overstatement(self) -> float:
        """6 N D over the exact count: about 2 for an encoder-decoder, each of whose tokens passes one half."""
        return self.rule_of_thumb / self.flops


@dataclass(frozen=True)
class Inference:
    """Answering one batch of requests."""

    prompt: int
    new: int
    batch: int
    devices: int
    prefill_flops: float
    decode_flops: float
    prefill_seconds: float
    seconds_per_token: float
    bound: str
    """What limits a decoding step: 'bandwidth' or 'compute'."""
    bytes_per_step: float
    """Weights and cache that one decoding step reads."""
    energy_kwh: float
    co2_kg: float
    money: float

    @property
    def seconds(self) -> float:
        """Of the whole batch."""
        return self.prefill_seconds + self.new * self.seconds_per_token


@dataclass(frozen=True)
class Cost:
    """Everything about one model on one machine."""

    model: str
    family: str
    parameters: dict[str, int]
    active_parameters: int
    hardware: str
    devices: int
    length: int
    decoder_length: int | None
    dtype: str
    memory: Memory
    training: Training | None
    inference: Inference | None
    assumptions: list[Assumption] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class _Assumed:
    """Numbers asked for by name; what is used is written down."""

    def __init__(self, machine: Hardware, given: dict[str, float | None]) -> None:
        self.machine, self.given = machine, {k: v for k, v in given.items() if v is not None}
        self.used: dict[str, Assumption] = {}
        unknown = self.given.keys() - {*DEFAULTS, "peak", "bandwidth", "memory", "power", "price", "utilisation"}
        assert not unknown, f"no assumptions: {unknown}"

    def __call__(self, name: str) -> float:
        figure: Figure = DEFAULTS[name] if name in DEFAULTS else getattr(self.machine, name)
        said = "your own" if name in self.given else figure.source
        option, asked = f"--{name.replace('_', '-')}", self.given.get(name, figure.value)
        value = positive(option, asked, most=LIMITS.get(name, math.inf))
        self.used[name] = Assumption(name, value, figure.unit, said, name in self.given)
        return value


def cost(
    spec: ModelSpec,
    *,
    machine: str = "a100-80gb",
    tokens: float | None = None,
    length: int | None = None,
    decoder_length: int | None = None,
    targets: int | None = None,
    devices: int | None = None,
    dtype: str = "bfloat16",
    sequences: int = 1,
    prompt: int = 512,
    new: int = 128,
    batch: int = 1,
    **given: float | None,
) -> Cost:
    """Estimate the cost of a model.

    Args:
        spec: the model.
        machine: a name of `hardware.HARDWARE`.
        tokens: training tokens, those of encoder and decoder together; None: no training.
        length: tokens of a training sequence (of the encoder, in an encoder-decoder); None: the model's context.
        decoder_length: the decoder's own; None: a quarter of the encoder's, near T5's 114 to 512.
        targets: positions of a training sequence that have a loss, where the head runs; None: all.
        devices: None: as few as hold training's state and one checkpointed sequence each.
        dtype: of weights, gradients and activations.
        sequences: sequences at once on a device, for activations.
        prompt, new, batch: the request whose time is estimated.
        given: any of peak, bandwidth, memory, power, price, utilisation, pue, carbon, decode_share.

    Raises:
        UserError: an unknown machine, or a number that cannot be.
    """
    assumed = _Assumed(hardware(machine), given)
    length = length or spec.context
    two = spec.family is Family.encoder_decoder
    if decoder_length is not None and not two:
        raise UserError(f"--decoder-length {decoder_length}: family {spec.family} has one stack.", "Leave it out.")
    if two:
        decoder_length = decoder_length or max(length // 4, 1)
    own = decoder_length or length
    if targets is not None and not 0 < targets <= own:
        raise UserError(f"--targets {targets}: a sequence has {own} positions.", f"Give 1 to {own}.")
    if dtype not in BYTES:
        raise UserError(f"--dtype {dtype}: is no type of weights.", f"Give one of {', '.join(BYTES)}.")
    if tokens is not None:
        positive("--tokens", tokens)
    memory = _memory(spec, length, decoder_length, dtype, sequences)
    room = assumed("memory")
    needed = memory.state if tokens is not None else memory.weights
    share = memory.activations_checkpointed if tokens is not None else memory.cache
    if devices is None:
        # Each device holds its part of the state and sequences of its own.
        devices = max(math.ceil(needed / max(room - share, room / 4)), 1)
    notes = _notes(spec, tokens is not None)
    training = None if tokens is None else _training(spec, tokens, (length, decoder_length, targets), devices, assumed)
    inference = _inference(spec, prompt, new, batch, dtype, room, assumed)
    parameters = spec.parameters()
    return Cost(
        model=spec.name or "the model",
        family=str(spec.family),
        parameters={"total": int(parameters), **parameters.parts},
        active_parameters=active_parameters(spec),
        hardware=assumed.machine.title,
        devices=devices,
        length=length,
        decoder_length=decoder_length,
        dtype=dtype,
        memory=memory,
        training=training,
        inference=inference,
        assumptions=list(assumed.used.values()),
        notes=notes,
    )


def active_parameters(spec: ModelSpec) -> int:
    """Parameters that one token meets: of a mixture's experts the active ones."""
    experts, total = spec.feedforward.experts, int(spec.parameters())
    if experts is None:
        return total
    mixed = sum(parameter.size for parameter in layout(spec) if ".experts." in parameter.name)
    return total - mixed + mixed * experts.active // experts.count


def _memory(spec: ModelSpec, length: int, decoder_length: int | None, dtype: str, sequences: int) -> Memory:
    state = state_bytes(spec, dtype)
    kept = [
        activation_bytes(spec, length, sequences, dtype, decoder_length=decoder_length, checkpointing=checkpointing)
        for checkpointing in (False, True)
    ]
    generates = spec.family is not Family.encoder
    own = decoder_length or length
    cross = length if spec.family is Family.encoder_decoder else 0
    return Memory(
        state.weights, state.gradients, state.optimizer, kept[0], kept[1],
        cache_per_token=cache_bytes(spec, 1, dtype) if generates else 0.0,
        cache=cache_bytes(spec, own, dtype, encoder_length=cross) if generates else 0.0,
        sequences=sequences,
    )  # fmt: skip


def _training(
    spec: ModelSpec, tokens: float, shape: tuple[int, int | None, int | None], devices: int, assumed: _Assumed
) -> Training:
    length, decoder_length, targets = shape
    one = spec.flops(length, decoder_length=decoder_length, targets=targets, training=True)
    exact = one.per_token * tokens
    hours = exact / (assumed("peak") * assumed("utilisation")) / 3600
    energy = hours * assumed("power") / 1000 * assumed("pue")
    return Training(
        tokens=tokens,
        flops=exact,
        rule_of_thumb=6 * active_parameters(spec) * tokens,
        flops_per_token={part: value / one.tokens for part, value in one.parts.items()},
        device_hours=hours,
        seconds=hours * 3600 / devices,
        energy_kwh=energy,
        co2_kg=energy * assumed("carbon"),
        money=hours * assumed("price"),
    )


def _inference(
    spec: ModelSpec, prompt: int, new: int, batch: int, dtype: str, room: float, assumed: _Assumed
) -> Inference | None:
    if spec.family is Family.encoder:
        return None
    for name, number in (("--prompt", prompt), ("--new", new), ("--batch", batch)):
        positive(name, number)
    two = spec.family is Family.encoder_decoder
    weights = int(spec.parameters()) * BYTES[dtype]
    full = cache_bytes(spec, new if two else prompt + new, dtype, encoder_length=prompt if two else 0) * batch
    devices = max(math.ceil((weights + full) / (0.9 * room)), 1)
    if two:
        prefill = batch * float(spec.flops(prompt, decoder_length=1, targets=1))
        whole = batch * float(spec.flops(prompt, decoder_length=new, targets=new))
    else:
        prefix = prompt if spec.family is Family.prefix else None
        prefill = batch * float(spec.flops(prompt, targets=1, prefix=prefix))
        whole = batch * float(spec.flops(prompt + new - 1, targets=new, prefix=prefix))
    decode = max(whole - prefill, 0.0)
    rate = devices * assumed("peak") * assumed("utilisation")
    middle = new // 2 if two else prompt + new // 2
    read = _weights_read(spec, batch, dtype)
    read += batch * cache_bytes(spec, max(middle, 1), dtype, encoder_length=prompt if two else 0)
    by_memory = read / (devices * assumed("bandwidth") * assumed("decode_share"))
    by_compute = decode / max(new - 1, 1) / rate
    seconds = prefill / rate + new * max(by_memory, by_compute)
    energy = devices * seconds / 3600 * assumed("power") / 1000 * assumed("pue")
    return Inference(
        prompt, new, batch, devices, prefill, decode, prefill / rate, max(by_memory, by_compute),
        "bandwidth" if by_memory >= by_compute else "compute", read, energy, energy * assumed("carbon"),
        devices * seconds / 3600 * assumed("price"),
    )  # fmt: skip


def _weights_read(spec: ModelSpec, batch: int, dtype: str) -> float:
    """Bytes of weights that one decoding step reads: of an embedding that is no output matrix, one row a sequence.

    Of a mixture's experts those that some sequence of the batch chose, if all are chosen alike:
    count x (1 - (1 - active / count)^batch).
    """
    experts, read = spec.feedforward.experts, 0.0
    touched = 1 - (1 - experts.active / experts.count) ** batch if experts else 1.0
    for parameter in layout(spec):
        if parameter.name.split(".")[0] not in (spec.output_stack, "embedding", "head"):
            continue
        looked_up = parameter.name == "embedding.weight" and not spec.head.tied
        if looked_up or (parameter.part == "positions" and parameter.name.endswith("positions.weight")):
            read += batch * spec.width
        else:
            read += parameter.size * (touched if ".experts." in parameter.name else 1.0)
    return read * BYTES[dtype]


def _notes(spec: ModelSpec, trains: bool) -> list[str]:
    notes = []
    if spec.family is Family.encoder_decoder:
        notes.append(
            "6 N D overstates an encoder-decoder: each token passes one of its two stacks. Tokens count both stacks'."
        )
    if spec.feedforward.experts is not None:
        notes.append("A mixture of experts: 6 N D and FLOPs count the active parameters, memory all of them.")
    if spec.attention.window is not None:
        notes.append("Sliding-window layers: their attention and cache are counted over the window.")
    if trains:
        notes.append(
            "Utilisation is of the model's own FLOPs: recomputation under checkpointing costs time that a lower "
            "utilisation stands for. Failed runs, trials, data and staff are not counted; nor is making the hardware."
        )
    return notes
