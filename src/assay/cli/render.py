"""What commands share in a terminal: the live view of a study's runs, and the table of its results.

Both fit 60 columns; names are shown as they are, without reading markup or control characters in them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from assay.report.rows import Row

GOOD, BAD, BUSY = "#009e73", "#d55e00", "#0072b2"
PLAIN_SECONDS = 30.0
"""Without a terminal, a run says how far it is this often at most."""


def clean(text: object) -> str:
    """Text that cannot move the cursor or change colours: control characters become '�'."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(text))


def terminal_table(rows: Sequence[Row]) -> RenderableType:
    """The results of a study as a table that adapts to the terminal's width.

    Wide: a line a combination. Under 100 columns the interval stands below the mean. Under 60 a few lines a
    combination.
    """
    return _ResultTable(rows)


class _ResultTable:
    """Chooses its form when the width is known."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        done = [row for row in rows if row.bits_per_byte]
        self.best = min(done, key=lambda row: row.bits_per_byte.estimate, default=None)  # type: ignore[union-attr]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < 60:
            yield from self._stacked()
        else:
            yield self._table(wide=options.max_width >= 100)
        for row in self.rows:
            for failure in row.failures:
                yield Text(f"✗ {clean(row.name)}, seed {failure['seed']}: {clean(failure['reason'])}", style=BAD)
            if row.unfinished:
                seeds = ", ".join(map(str, row.unfinished))
                yield Text(f"… {clean(row.name)}, seed {seeds}: not finished (--resume goes on)", style="yellow")

    def _table(self, *, wide: bool) -> Table:
        from assay.report import format as say

        table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), header_style="bold")
        table.add_column("", ratio=None, overflow="fold", min_width=8)
        heads = (
            ("bits per byte", "n", "supervised tokens/GFLOP", "tokens/s", "peak memory", "parameters")
            if wide
            else ("bits/byte", "n", "superv.\n/GFLOP", "tok/s", "memory", "params")
        )
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True, vertical="top")
        for row in self.rows:
            best = row is self.best
            name = Text(clean(row.name), style="bold" if best else "")
            bits = row.bits_per_byte
            if bits is None:
                word = Text("failed" if row.failures else "unfinished", style=BAD)
                table.add_row(name, word, "0", *[say.DASH] * 4)
                continue
            mean = Text(f"{bits.estimate:.3f}", style=f"bold {GOOD}" if best else "")
            narrow = "1 seed" if len(row.seeds) == 1 else f"{bits.low:.3f}–{bits.high:.3f}"
            mean.append(f" {say.bounds(bits)}" if wide else f"\n{narrow}", style="dim")
            table.add_row(name, mean, str(len(row.seeds)), *_numbers(row))
        return table

    def _stacked(self) -> RenderResult:
        from assay.report import format as say

        for row in self.rows:
            yield Text(clean(row.name), style="bold")
            if row.bits_per_byte is None:
                yield Text("  " + ("failed" if row.failures else "unfinished"), style=BAD)
                continue
            n = len(row.seeds)
            style = GOOD if row is self.best else ""
            yield Text(f"  {say.interval(row.bits_per_byte)} bits/byte", style=style)
            rate, speed, peak, parameters = _numbers(row)
            yield Text(f"  {n} seed{'s' * (n != 1)}, {parameters} parameters, {peak}", style="dim")
            yield Text(f"  {rate} supervised tokens/GFLOP, {speed}/s", style="dim")


def _numbers(row: Row) -> tuple[str, str, str, str]:
    from assay.report import format as say

    rate = row.supervised_tokens_per_flop
    return (
        say.significant(rate * 1e9) if rate else say.DASH,
        say.count(row.tokens_per_second) if row.tokens_per_second else say.DASH,
        say.memory(row.peak_bytes) if row.peak_bytes else say.DASH,
        say.count(row.total_parameters),
    )


@dataclass
class _Run:
    """What is known of one run."""

    label: str
    seed: int
    state: str = "waiting"
    began: float | None = None
    at_start: float = 0.0
    """Share that was done when this run began or went on."""
    done: float = 0.0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    speed: float | None = None
    bits: float | None = None
    reason: str = ""
    told: float = 0.0
    """When a plain line was last printed."""


class LiveProgress:
    """A live view of a study: one line a run, fed by events; plain occasional lines where there is no terminal.

        with LiveProgress(total=9) as view:
            view({"event": "started", "run": "1a2b", "label": "causal", "seed": 0})
            view({"event": "progress", "run": "1a2b", "progress": 0.4, "step": 12, "loss": 5.1})
            view({"event": "finished", "run": "1a2b", "bits_per_byte": 2.31})
            view({"event": "failed", "run": "1a2b", "reason": "loss is NaN at step 12"})
            view({"event": "retried", "run": "1a2b", "reason": "killed", "step": 8, "attempt": 1, "of": 2})

    `progress` events may hold a row of metrics under "row" instead. Fields: `progress` (share done, 0 to 1), `step`,
    `steps`, `loss`, `tokens_per_second`, `bits_per_byte`, `seconds_left`; all may be missing. A `reused` event is a
    run that was finished before. Events may come from any thread.

    Args:
        console: where to draw; None: the standard error's terminal.
        total: number of runs in all, for the last line; None: as many as were named.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """See the class."""
        self.console = console or Console(stderr=True, highlight=False)
        self.total = total
        self.runs: dict[str, _Run] = {}
        self._clock, self._lock = clock, threading.RLock()
        self._began = clock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Begin to draw, where there is a terminal."""
        self._began = self._clock()
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.view, console=self.console, refresh_per_second=4, transient=False,
                vertical_overflow="ellipsis",
            )  # fmt: skip
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event in; unknown ones are passed over."""
        with self._lock:
            self._take({**event, **(event.get("row") or {}), "event": event.get("event")})

    def _take(self, event: dict[str, Any]) -> None:
        key = str(event.get("run", event.get("label", "")))
        now, kind = self._clock(), event.get("event")
        run = self.runs.setdefault(key, _Run(clean(event.get("label", key)), int(event.get("seed", 0))))
        before, run.step = run.step, int(event.get("step", run.step) or 0)
        run.steps = int(event.get("steps", run.steps) or 0)
        if run.steps and "progress" not in event:
            run.done = max(run.done, run.step / run.steps)
        run.done = min(max(float(event.get("progress", run.done) or 0.0), 0.0), 1.0)
        for field, name in (("loss", "loss"), ("speed", "tokens_per_second"), ("bits", "bits_per_byte")):
            if event.get(name) is not None:
                setattr(run, field, float(event[name]))
        if kind == "started":
            run.state, run.began, run.at_start, run.told = "running", now, run.done, now
            self._say(run, "started")
        elif kind == "progress":
            if run.state == "waiting":
                run.began, run.at_start, run.told = now, run.done, now
            run.state = "running"
            if now - run.told >= PLAIN_SECONDS:
                run.told = now
                self._say(run, self._numbers(run, now))
        elif kind in ("finished", "reused"):
            run.state, run.done = "finished", 1.0
            word = (
                "finished before"
                if kind == "reused"
                else f"finished in {_clock(now - (now if run.began is None else run.began))}"
            )
            self._say(run, word + (f", {run.bits:.3f} bits per byte" if run.bits is not None else ""))
        elif kind == "retried":
            from assay.cli.where import retried

            run.state, run.speed, run.done = "waiting", None, run.done * run.step / max(before, run.step, 1)
            self._say(run, clean(retried(event)), always=True)
        elif kind == "failed":
            run.state, run.reason = "failed", clean(event.get("reason", "unknown reason"))
            self._say(run, f"failed: {run.reason}")

    def _say(self, run: _Run, words: str, *, always: bool = False) -> None:
        if always or not self.console.is_terminal:
            self.console.print(Text(f"{run.label} seed {run.seed}: {words}"), soft_wrap=True)

    def _numbers(self, run: _Run, now: float) -> str:
        said = [f"{run.done:.0%}", f"step {run.step}"]
        said += [f"loss {run.loss:.3f}"] if run.loss is not None else []
        said += [f"{run.speed:,.0f} tokens/s"] if run.speed else []
        left = self._left(run, now)
        return ", ".join(said + ([f"{_clock(left)} left"] if left is not None else []))

    @staticmethod
    def _left(run: _Run, now: float) -> float | None:
        """Seconds until a run ends, at its pace since it began here."""
        gained = run.done - run.at_start
        if run.began is None or gained < 0.005:
            return None
        return (now - run.began) * (1 - run.done) / gained

    def view(self) -> RenderableType:
        """What is drawn now."""
        return _View(self)

    def lines(self, width: int, height: int) -> list[Text]:
        """The view in so many columns and lines: what runs is always shown, what ended makes room."""
        with self._lock:
            now, runs = self._clock(), list(self.runs.values())
            order = {"running": 0, "failed": 1, "waiting": 2, "finished": 3}
            shown = runs
            if len(runs) > max(height - 2, 1):
                kept = sorted(runs, key=lambda run: order[run.state])[: max(height - 3, 1)]
                shown = [run for run in runs if any(run is one for one in kept)]
            label = min(max((len(run.label) for run in shown), default=4), max(width // 3 - 3, 8))
            lines = [self._line(run, width, label, now) for run in shown]
            return [*lines, self._total(runs, width, now)]

    def _line(self, run: _Run, width: int, label: int, now: float) -> Text:
        name = run.label if len(run.label) <= label else run.label[: label - 1] + "…"
        line = Text(f"{name:<{label}} s{run.seed} ", no_wrap=True, overflow="ellipsis")
        rest = width - len(line)
        if run.state == "failed":
            return line.append(f"✗ {run.reason}"[:rest], style=BAD)
        if run.state == "finished":
            word = f"✓ {run.bits:.3f} bits per byte" if run.bits is not None else "✓ finished"
            return line.append(word[:rest], style=GOOD)
        if run.state == "waiting":
            return line.append("waiting"[:rest], style="dim")
        left = self._left(run, now)
        wide = rest >= 62
        parts = [f"step {run.step}" if wide else f"{run.step}"]
        parts.append(("loss " if wide else "") + (f"{run.loss:.2f}" if run.loss is not None else "–"))
        parts.append(_speed(run.speed, wide))
        parts.append(f"{_clock(left) if left is not None else '–':>6}{' left' if wide else ''}")
        widths = (10, 10, 14, 11) if wide else (5, 5, 6, 6)
        numbers = " ".join(f"{part:>{size}}" for part, size in zip(parts, widths, strict=True))
        length = min(max(rest - len(numbers) - 1, 0), 40)
        filled = round(run.done * length)
        line.append("━" * filled, style=BUSY).append("─" * (length - filled), style="dim")
        return line.append(f" {numbers}"[:rest])

    def _total(self, runs: list[_Run], width: int, now: float) -> Text:
        total = max(self.total or 0, len(runs))
        counts = [(state, sum(run.state == state for run in runs)) for state in ("finished", "running", "failed")]
        said = [f"{counts[0][1]} of {total} finished"]
        said += [f"{n} {state}" for state, n in counts[1:] if n]
        ended = sum(run.state == "failed" for run in runs)
        worked = sum(
            (1.0 if run.state == "failed" else run.done) - run.at_start for run in runs if run.began is not None
        )
        togo = total - ended - sum(run.done for run in runs if run.state != "failed")
        if worked > 0.02 and togo > 0:
            said.append(f"about {_clock((now - self._began) * togo / worked)} left")
        return Text(", ".join(said)[:width], style="bold", no_wrap=True)


class _View:
    """Asks for the lines when the size is known."""

    def __init__(self, progress: LiveProgress) -> None:
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.progress.lines(options.max_width, options.height or console.height)


def _clock(seconds: float) -> str:
    """'0:42', '12:05', '3:10:00'."""
    whole = max(round(seconds), 0)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _speed(speed: float | None, wide: bool) -> str:
    if not speed:
        return "–"
    if wide:
        return f"{speed:,.0f} tok/s"
    return f"{speed / 1e6:.1f}M/s" if speed >= 1e6 else f"{speed / 1e3:.1f}k/s" if speed >= 1e3 else f"{speed:.0f}/s"
