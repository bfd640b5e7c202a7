"""What a study found and what it held equal, said in sentences made from the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from assay.report.format import MINUS, bounds, count, listed, scientific
from assay.report.rows import Pair, Row
from assay.report.study import FAILED, FINISHED, StudyData
from assay.spec.axes import Family
from assay.spec.study import Match
from assay.stats import MINIMUM_REPEATS, Interval

LISTED = 3
"""Combinations that a sentence names one by one; of more it gives the range."""


@dataclass(frozen=True)
class Held:
    """One quantity and whether the combinations share it."""

    what: str
    said: str
    equal: bool


def compared(data: StudyData) -> str:
    """What was compared, in one sentence."""
    axes: dict[str, list[str]] = {}
    for combination in data.combinations:
        for axis, value in combination.labels.items():
            if value not in axes.setdefault(axis, []):
                axes[axis].append(value)
    seeds = sorted({len(combination.runs) for combination in data.combinations})
    each = f"{seeds[0]} seed{'s' * (seeds[0] != 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    if not axes:
        return f"One model, {each}."
    varied = "; ".join(f"{axis}: {', '.join(values)}" for axis, values in axes.items())
    return f"{varied}. {each[0].upper()}{each[1:]} of each combination."


def headline(rows: list[Row], pairs: list[Pair], *, several: bool = False) -> list[str]:
    """The finding in one or two sentences; it claims no more than the intervals do.

    Args:
        rows: the combinations.
        pairs: their differences.
        several: whether several axes vary, so that `axis_findings` follows and this may be short.
    """
    return _best(rows, pairs, several)


def axis_findings(by_axis: dict[str, list[Pair]]) -> list[str]:
    """What each axis does by itself, a sentence each (`rows.effects`); none where one axis varies."""
    return [f"By {axis}: {_axis(found)}." for axis, found in by_axis.items() if found]


def _axis(pairs: list[Pair]) -> str:
    """What one axis does, as the end of a sentence."""
    best = pairs[0].first
    others = [pair for pair in pairs if pair.first is best]
    apart, close = [pair for pair in others if pair.apart], [pair for pair in others if not pair.apart]
    if not close:
        return f"{best.name} is lowest, {_gaps(apart)}"
    n = min(pair.difference.n or 0 for pair in close)
    why = f"at {_seeds(n)}" if n >= MINIMUM_REPEATS else f"({_seeds(n)} {'is' if n == 1 else 'are'} too few)"
    said = f"{best.name} is not told apart from {_close(close)} {why}"
    return f"{said} and is {_gaps(apart)}" if apart else said


def _best(rows: list[Row], pairs: list[Pair], several: bool) -> list[str]:
    """The combination with the lowest loss, and which others it is told apart from."""
    done = [row for row in rows if row.bits_per_byte]
    best = min(done, key=lambda row: row.bits_per_byte.estimate)  # type: ignore[union-attr]
    assert best.bits_per_byte is not None
    reached = f"{best.bits_per_byte.estimate:.3f} bits per byte {bounds(best.bits_per_byte)}"
    if len(done) == 1:
        rest = "" if len(rows) == 1 else " No other combination has a finished run to compare with."
        return [f"{best.name} reaches {reached} over {_seeds(len(best.seeds))}.{rest}"]
    others = [pair for pair in pairs if pair.first is best]
    apart = [pair for pair in others if pair.apart]
    close = [pair for pair in others if not pair.apart]
    if not others:
        return [
            f"{best.name} has the lowest mean, {reached}, but shares no seed with the others: nothing is told apart."
        ]
    if not close and len(others) == len(done) - 1:
        return [f"{best.name} has the lowest held-out loss, {reached}: {_gaps(apart)}."]
    n = min(pair.difference.n or 0 for pair in close) if close else 0
    if n < MINIMUM_REPEATS:
        few = f"{n} shared seed{'s' * (n != 1)} {'is' if n == 1 else 'are'} too few to tell it from the others"
        return [f"{best.name} has the lowest mean, {reached}, but {few}."]
    others_close = f"is not told apart from {_close(close, several)} at {_seeds(n)}"
    said = [f"{best.name} has the lowest mean, {reached}, but {others_close}."]
    if apart and several:
        said.append(f"It is told apart from {len(apart)}.")
    elif apart:
        said.append(f"It is told apart from the rest: {_gaps(apart)}.")
    return said


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


def _gaps(pairs: list[Pair]) -> str:
    """'0.110 [0.08, 0.14] below prefix and ...'."""
    if len(pairs) <= LISTED:
        return listed([f"{_gap(pair.difference)} below {pair.second.name}" for pair in pairs])
    near, far = (pick(pairs, key=lambda pair: -pair.difference.estimate) for pick in (min, max))
    return (
        f"from {_gap(near.difference)} below {near.second.name} "
        f"to {_gap(far.difference)} below {far.second.name}, {len(pairs)} combinations in all"
    )


def _close(pairs: list[Pair], several: bool = False) -> str:
    if several and len(pairs) > 1:
        return f"{len(pairs)} others"
    if len(pairs) <= LISTED:
        return listed([f"{pair.second.name} ({_gap(pair.difference)} higher)" for pair in pairs], "or")
    return f"{len(pairs)} others, {pairs[0].second.name} the nearest ({_gap(pairs[0].difference)} higher),"


def _gap(difference: Interval) -> str:
    """How much lower the first is: the difference turned round."""
    if not math.isfinite(difference.low):
        return f"{-difference.estimate:.3f}"
    return f"{-difference.estimate:.3f} [{-difference.high:.3f}, {-difference.low:.3f}]".replace("-", MINUS)


def held_equal(rows: list[Row], data: StudyData) -> list[Held]:
    """What the combinations share besides what was varied, measured from the runs themselves."""
    done = [row for row in rows if row.bits_per_byte]
    held = [
        _range("Training FLOPs a run", [(row.name, row.flops) for row in done], 0.02, scientific),
        _range("Parameters", [(row.name, float(row.total_parameters)) for row in done], 0.05, count),
        _range("Training FLOPs per input token", [(row.name, row.flops_per_token) for row in done], 0.05, scientific),
    ]
    hashes = {run.run.get("data", {}).get("hash") for run in data.by_status(FINISHED)}
    words = "the same text and split in all runs" if len(hashes) == 1 else f"{len(hashes)} different data sets"
    held.append(Held("Data", words, len(hashes) == 1))
    return [item for item in held if item is not None]


def matching(data: StudyData) -> str:
    """How the study matches an encoder-decoder to the others; empty where there is nothing to match."""
    models = [combination.model for combination in data.combinations]
    families = {model.family for model in models if model}
    if data.spec is None or Family.encoder_decoder not in families or len(families) < 2:
        return ""
    if data.spec.match is Match.parameters:
        return (
            "The encoder-decoder has half of the layers on each side (match = parameters): its parameters are near "
            "the others', its FLOPs a token about half of theirs, so it sees more tokens for the same compute."
        )
    return (
        "The encoder-decoder has all of the layers on each side (match = flops): its FLOPs a token are near the "
        "others', its parameters about twice theirs."
    )


def _range(what: str, values: list[tuple[str, float | None]], tolerance: float, say: object) -> Held | None:
    assert callable(say)
    known = [(value, name) for name, value in values if value]
    if not known:
        return None
    (low, least), (high, most) = min(known), max(known)
    if say(low) == say(high):
        return Held(what, say(low), True)
    if high <= low * (1 + tolerance):
        return Held(what, f"{say(low)} to {say(high)}: within {100 * (high / low - 1):.1f}%", True)
    return Held(what, f"{say(low)} ({least}) to {say(high)} ({most}), {high / low:.2f} times", False)


def state(data: StudyData) -> str:
    """'9 of 9 runs finished', with what became of the others."""
    runs = data.runs
    counts = {status: len(data.by_status(status)) for status in dict.fromkeys(run.status for run in runs)}
    rest = ", ".join(f"{n} {status}" for status, n in counts.items() if status != FINISHED)
    return f"{counts.get(FINISHED, 0)} of {len(runs)} runs finished" + (f", {rest}" if rest else "")


def failures(data: StudyData) -> list[tuple[str, int, str, str]]:
    """(combination, seed, run, reason) of every run that died or diverged."""
    return [
        (combination.name, run.seed, run.name, run.reason)
        for combination in data.combinations
        for run in combination.runs
        if run.status == FAILED
    ]
