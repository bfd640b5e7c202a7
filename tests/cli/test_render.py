import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.report.synthetic import grid, write_study

from assay.cli.render import LiveProgress, clean, terminal_table
from assay.report.rows import Row, aggregate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shown(renderable: Any, width: int, *, terminal: bool = False) -> str:
    console = Console(width=width, height=24, file=io.StringIO(), force_terminal=terminal, color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def view(clock: Clock, **settings: Any) -> LiveProgress:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    return LiveProgress(console, clock=clock, **settings)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    write_study(tmp_path)
    return aggregate(tmp_path)


@pytest.mark.parametrize("width", [20, 45, 60, 80, 120, 200])
def test_table_fits_and_holds_every_combination_and_interval(rows: list[Row], width: int) -> None:
    text = shown(terminal_table(rows), width)
    assert max(map(len, text.splitlines())) <= width
    flat = "".join(text.split())
    for row in rows:
        assert row.bits_per_byte is not None
        assert row.name.replace("_", "") in flat.replace("_", "")
        for number in (row.bits_per_byte.estimate, row.bits_per_byte.low, row.bits_per_byte.high):
            assert f"{number:.3f}" in flat
    assert "65.1" in text and "1.07" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_that_is_tried_again_is_told_and_goes_back(clock: Clock, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    live = LiveProgress(console, clock=clock)
    live({"event": "started", "run": "a", "label": "causal", "seed": 0})
    live({"event": "progress", "run": "a", "progress": 0.8, "step": 80, "loss": 5.0})
    live({"event": "retried", "run": "a", "reason": "the worker was killed", "step": 60, "attempt": 1, "of": 2})
    assert console.file.getvalue().count("the worker was killed; again from step 60 (1 of 2)") == 1  # type: ignore[attr-defined]
    (run,) = live.runs.values()
    assert run.state == "waiting" and run.done == pytest.approx(0.6)
    live({"event": "started", "run": "a", "label": "causal", "seed": 0})
    clock.now = 10.0
    live({"event": "progress", "run": "a", "progress": 0.7, "step": 70, "loss": 5.0})
    assert live._left(run, clock.now) == pytest.approx(30.0), "the pace of this attempt alone"


def test_table_names_failures_and_what_is_unfinished() -> None:
    rows = grid()
    rows[0].failures = [{"seed": 3, "run": "ab", "reason": "loss is NaN", "step": 4}]
    rows[1] = Row({"norm": "l", "placement": "post"}, [], unfinished=[0, 1])
    text = shown(terminal_table(rows), 80)
    assert "✗ l · pre, seed 3: loss is NaN" in text
    assert "l · post, seed 0, 1: not finished" in text


def test_names_are_shown_as_they_are() -> None:
    rows = [Row({"x": "[red]a[/red]\x1b[31m"}, [0], grid()[0].bits_per_byte, {0: 2.0})]
    text = shown(terminal_table(rows), 100)
    assert "[red]a[/red]" in text and "\x1b[31m" not in text
    assert clean("a\nb\x07") == "a�b�"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_live_lines_fit_and_say_where_each_run_is(clock: Clock, width: int) -> None:
    live = view(clock, total=5)
    for key, label in enumerate(["causal", "encoder_decoder", "a very long name of a combination", "post"]):
        live({"event": "started", "run": str(key), "label": label, "seed": key})
    clock.now = 30.0
    live(
        {
            "event": "progress",
            "run": "0",
            "row": {"step": 120, "loss": 3.213, "tokens_per_second": 7255.3, "progress": 0.25},
        }
    )
    live({"event": "finished", "run": "1", "bits_per_byte": 2.31})
    live({"event": "failed", "run": "3", "reason": "loss is NaN [bold]at step 12"})
    lines = [line.plain for line in live.lines(width, 24)]
    assert len(lines) == 5 and max(map(len, lines)) <= width
    assert "120" in lines[0] and "3.21" in lines[0] and "1:30" in lines[0]
    assert "✓ 2.310" in lines[1]
    assert "✗ loss is NaN" in lines[3]
    assert lines[4].startswith("1 of 5 finished, 2 running, 1 failed"[:width])


def test_time_left_counts_from_where_a_resumed_run_went_on(clock: Clock) -> None:
    live = view(clock)
    live({"event": "started", "run": "0", "label": "a", "progress": 0.5})
    clock.now = 10.0
    live({"event": "progress", "run": "0", "progress": 0.75})
    assert "0:10" in live.lines(80, 24)[0].plain


def test_time_left_of_the_whole_study(clock: Clock) -> None:
    live = view(clock, total=4)
    for key in "ab":
        live({"event": "started", "run": key, "label": key})
    clock.now = 60.0
    for key in "ab":
        live({"event": "progress", "run": key, "progress": 1.0})
        live({"event": "finished", "run": key, "bits_per_byte": 2.0})
    assert live.lines(80, 24)[-1].plain == "2 of 4 finished, about 1:00 left"


def test_steps_stand_in_for_progress(clock: Clock) -> None:
    live = view(clock)
    live({"event": "started", "run": "0", "label": "a", "steps": 100})
    clock.now = 5.0
    live({"event": "progress", "run": "0", "step": 50})
    assert "0:05" in live.lines(80, 24)[0].plain


def test_many_runs_keep_to_the_screen_and_running_ones_stay(clock: Clock) -> None:
    live = view(clock, total=40)
    for key in range(30):
        live({"event": "started", "run": str(key), "label": f"run{key}"})
        if key < 28:
            live({"event": "finished", "run": str(key), "bits_per_byte": 2.0})
    lines = [line.plain for line in live.lines(80, 10)]
    assert len(lines) <= 10
    assert "run28" in lines[-3] and "run29" in lines[-2]
    assert lines[-1].startswith("28 of 40 finished")


def test_without_a_terminal_lines_are_few_and_plain(clock: Clock) -> None:
    out = io.StringIO()
    with LiveProgress(Console(file=out, width=60), total=2, clock=clock) as live:
        live({"event": "started", "run": "0", "label": "causal", "seed": 1})
        for second in range(100):
            clock.now = float(second)
            live({"event": "progress", "run": "0", "progress": second / 100, "step": second, "loss": 3.0})
        live({"event": "finished", "run": "0", "bits_per_byte": 2.5})
        live({"event": "failed", "run": "1", "label": "prefix", "seed": 0, "reason": "worker died\x1b[2J"})
    lines = out.getvalue().splitlines()
    assert lines[0] == "causal seed 1: started"
    assert lines[1] == "causal seed 1: 30%, step 30, loss 3.000, 1:10 left"
    assert lines[-2:] == [
        "causal seed 1: finished in 1:39, 2.500 bits per byte",
        "prefix seed 0: failed: worker died�[2J",
    ]
    assert len(lines) == 6


def test_on_a_terminal_it_draws_and_leaves_the_last_state(clock: Clock) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=24)
    with LiveProgress(console, clock=clock) as live:
        live({"event": "started", "run": "0", "label": "causal"})
        live({"event": "finished", "run": "0", "bits_per_byte": 2.5})
    assert "1 of 1 finished" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "event",
    [{"event": "other", "run": "0"}, {"event": "progress", "run": "0", "row": None}, {"event": "progress", "run": "0"}],
)
def test_events_with_little_in_them_do_no_harm(clock: Clock, event: dict[str, Any]) -> None:
    live = view(clock)
    live(event)
    assert live.lines(60, 24)


def test_import_is_light() -> None:
    code = "import sys, assay.cli.render; print({'torch', 'altair', 'polars', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
