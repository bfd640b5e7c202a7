"""Peers that run on a GPU alone, Liger-Kernel and FlexAttention in training: beside assay on this machine's GPU.

Without a GPU nothing runs, and rows say so; `why_not` is true on either kind of machine. Contenders take turns, every
call waits for the device, and losses are compared on the same weights first. A peer that is not installed, or fails,
gets its reason; what assay does must work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.training.step import precision
from benchmarks import measure, peers
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, of_times

__all__ = ["LIGER", "guarded", "head", "missing_liger", "training", "why_not"]

LIGER = 'pip install --no-deps "liger-kernel<0.7"'
"""Later ones ask for another transformers than the suite's."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}
"""Relative, of losses: kernels of several makers."""

Step = Callable[[], Any]


def available() -> bool:
    """Whether this machine has a GPU that torch can use."""
    return torch.cuda.is_available()


def why_not(place: str = "") -> str:
    """Why a peer that needs a GPU has no number in a part that times the CPU.

    Args:
        place: the comparison that has it on a machine with a GPU, if any.
    """
    if not available():
        return "needs a GPU, and this machine has none"
    return "needs a GPU, and this part times the CPU" + (f"; it is in: {place}" if place else "")


def missing_liger(error: ImportError) -> str:
    """What to say where Liger-Kernel cannot be imported."""
    return f"Liger-Kernel is not installed ({error}): {LIGER}"


def guarded(name: str, title: str, make: Callable[[], Result]) -> list[Result]:
    """The result on a GPU, and nothing without one. A failure is a result that says so: the CPU's stay."""
    if not available():
        return []
    try:
        return [make()]
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:600]
        return [Result(name, title, "failed", "", "", failed=why)]


def timed(
    out: Result,
    steps: Mapping[str, Step],
    losses: Mapping[str, float],
    missing: dict[str, str],
    seconds: float,
    tolerance: float = TOLERANCE["float32"],
) -> Result:
    """Fill in the rows of steps that gave these losses; the first is what the others are compared with.

    Raises:
        RuntimeError: losses differ.
    """
    first = next(iter(losses))
    for who, loss in losses.items():
        gap = abs(loss - losses[first]) / abs(losses[first])
        out.checks.append(Check(f"first loss of {who}, same weights", gap, tolerance))
        if not gap <= tolerance:
            raise RuntimeError(f"{who}: its loss {loss} differs from {losses[first]}, that of {first}")

    def waiting(step: Step) -> Step:
        def call() -> None:
            step()
            if available():
                torch.cuda.synchronize()

        return call

    times = measure.interleave({who: waiting(step) for who, step in steps.items()}, seconds)
    reference = "assay/compiled" if "assay/compiled" in times else next(iter(times))
    out.rounds = len(times[reference])
    out.rows = [*of_times(times, reference), *cannot(missing)]
    out.facts["device"] = torch.cuda.get_device_name() if available() else "cpu"
    return out


def liger_model(size: peers.Size) -> nn.Module:
    """A LLaMA of transformers with Liger-Kernel's norms, SwiGLU and fused head and loss.

    Its rotary positions stay transformers' own: Liger-Kernel would replace them in every model of the process.
    """
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    model = peers.build_transformers(size)
    apply_liger_kernel_to_llama(rope=False, fused_linear_cross_entropy=True, rms_norm=True, swiglu=True, model=model)
    return model


def liger_step(model: nn.Module, size: peers.Size, device: str, dtype: str) -> Step:
    """A whole step, the loss inside the model; labels are shifted beforehand."""
    inputs, targets = (ids.to(device) for ids in peers.batch_of(size))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def step() -> Tensor:
        with precision(dtype, device):
            loss: Tensor = model(input_ids=inputs, labels=targets, shift_labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def assay_maker(size: peers.Size, reference: nn.Module, device: str, compiled: bool, dtype: str) -> Step:
    """A step of assay's with the reference's weights."""
    from assay.nn import build
    from benchmarks.training import assay_step, copy_weights, spec_of

    model = build(spec_of(size))
    copy_weights(model, reference)
    return assay_step(model.to(device), size, compiled, device=device, dtype=dtype)


def makers(size: peers.Size, device: str, dtype: str) -> dict[str, Callable[[nn.Module], Step]]:
    """From the model whose weights all share to each contender's step.

    Liger-Kernel's comes last: it replaces classes that later models would be built of.
    """

    def plain(compiled: str, attention: str = "sdpa") -> Callable[[nn.Module], Step]:
        def make(reference: nn.Module) -> Step:
            model = peers.build_transformers(size, attention)
            model.load_state_dict(reference.state_dict())
            return peers.training_step(model.to(device), size, compiled, device=device, dtype=dtype)

        return make

    def liger(reference: nn.Module) -> Step:
        model = liger_model(size)
        model.load_state_dict(reference.state_dict())
        return liger_step(model.to(device), size, device, dtype)

    return {
        "assay/eager": lambda reference: assay_maker(size, reference, device, False, dtype),
        "assay/compiled": lambda reference: assay_maker(size, reference, device, True, dtype),
        "transformers/eager": plain("no"),
        "transformers/whole": plain("whole"),
        "transformers/FlexAttention": plain("no", "flex_attention"),
        "transformers/FlexAttention, whole": plain("whole", "flex_attention"),
        "transformers/Liger-Kernel": liger,
    }


def training(
    size: peers.Size, seconds: float, *, device: str = "cuda", dtype: str = "float32", only: tuple[str, ...] = ()
) -> Result:
    """A training step on the GPU. `only`: names of contenders, all where it is empty."""
    torch.manual_seed(0)
    reference = peers.build_transformers(size)
    steps: dict[str, Step] = {}
    losses: dict[str, float] = {}
    missing: dict[str, str] = {}
    for who, make in makers(size, device, dtype).items():
        if only and who not in only:
            continue
        try:
            step = make(reference)
            losses[who] = float(step())
            steps[who] = step
        except Exception as error:
            if who.startswith("assay"):
                raise
            liger = isinstance(error, ImportError) and "Liger" in who
            missing[who] = missing_liger(error) if liger else f"{type(error).__name__}: {error}"  # type: ignore[arg-type]
    out = Result(
        f"training-{size.name}-gpu", f"A training step on the GPU, LLaMA-like, {size.name} parameters", "training",
        f"{size.layers} layers, {size.width} wide, {size.heads} heads, batch {size.batch} x {size.length}, {dtype}, "
        "AdamW",
        "ms a step",
    )  # fmt: skip
    return timed(out, steps, losses, missing, seconds, TOLERANCE[dtype])


def head(tokens: int, vocabulary: int, width: int, seconds: float, *, device: str = "cuda") -> Result:
    """Head and loss with both gradients on the GPU, Liger-Kernel's fused linear cross-entropy among them."""
    from benchmarks.head import contenders

    steps: dict[str, Step] = dict(contenders(tokens, vocabulary, width, device=device))
    missing: dict[str, str] = {}
    name = "Liger-Kernel, fused linear cross-entropy"
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        loss_of = LigerFusedLinearCrossEntropyLoss()
        given = contenders(tokens, vocabulary, width, device=device, also=lambda h, w, t: loss_of(w, h, t))
        steps[name] = given["also"]
        steps[name]()
    except ImportError as error:
        missing[name] = missing_liger(error)
    except Exception as error:
        steps.pop(name, None)
        missing[name] = f"{type(error).__name__}: {error}"
    plain = "full logits/eager"  # what the others are held to
    losses = {who: float(steps[who]()[0]) for who in (plain, *(who for who in steps if who != plain))}
    out = Result(
        "head-gpu", "Head and loss on the GPU, with both gradients", "parts",
        f"{tokens} tokens, {width} wide, vocabulary {vocabulary}, float32", "ms",
    )  # fmt: skip
    return timed(out, steps, losses, missing, seconds)
