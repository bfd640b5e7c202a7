"""`assay compare`: from options to a study, its plan, its folder and its report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.compare import describe, forward
from assay.cli.main import app
from assay.cli.render import LiveProgress
from assay.spec.study import StudySpec


def say(*arguments: object) -> Result:
    """What the command does and prints."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "160"})


def wanted(study: str | None = None, spec: str | None = None, resumed: Path | None = None, **more: object) -> StudySpec:
    fields = {"vary": None, "data": None, "seeds": None, "budget": None, "match": None, **more}
    return describe(study, spec, resumed=resumed, **fields)  # type: ignore[arg-type]


def test_the_defaults_are_the_demo() -> None:
    assert wanted() == StudySpec()
    assert StudySpec().train.budget == 3e12
    assert len(StudySpec().runs()) == 9


def test_options_change_the_study(tmp_path: Path) -> None:
    study = wanted(vary=["norm=layer,rms", "layers=2,4"], seeds=2, budget=1e12, data="texts", match="flops")
    assert study.vary == {"norm": ("layernorm", "rmsnorm"), "layers": (2, 4)}
    assert (study.seeds, study.train.budget, study.data.source, str(study.match)) == (2, 1e12, "texts", "flops")
    (tmp_path / "study.toml").write_text(study.to_toml())
    assert wanted(str(tmp_path / "study.toml")) == wanted(spec=str(tmp_path / "study.toml")) == study
    assert wanted(resumed=tmp_path, seeds=5) == study.with_(seeds=5)
    assert wanted(spec="tiny-llama").model.name == "tiny-llama"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = say("--vary", "norm=layer,rms", "--dry-run", "--out", tmp_path / "out", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "6 runs, 2 at a time: about" in done.stdout
    assert "layernorm" in done.stdout
    assert f"{StudySpec().model.parameters() / 1e6:.3f}M" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_dry_run_needs_no_torch() -> None:
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        "try:\n    main(['compare', '--dry-run'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--vary", "nrom=layer"), "Did you mean 'norm'"),
        (("--vary", "norm"), "no '='"),
        (("--vary", "norm=layer,batch"), "batch"),
        (("--vary", "attention.heads=4,5"), "attention.heads = 5 cannot run"),
        (("--spec", "lama"), "no preset, file or folder"),
        (("study.toml",), "study.toml: no such file"),
        (("study.toml", "--spec", "tiny"), "are both given"),
        (("--match", "time"), "match = 'time'"),
        (("--budget", "-1"), "budget = -1.0"),
        (("--seeds", "0"), "--seeds"),
        (("--resume", "--out", "nowhere"), "there is no study to resume"),
        (("--data", "nowhere"), "nowhere"),
        (("--together", "often"), "together = 'often'"),
    ],
)
def test_mistakes(options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = say(*options)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not list(tmp_path.glob("**/run.json"))


def test_another_study_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(StudySpec(seeds=1).to_toml())
    done = say("--seeds", 2, "--out", tmp_path)
    assert done.exit_code == 2
    assert "holds another study" in done.stderr
    assert "--resume" in done.stderr
    (tmp_path / "file").touch()
    assert "is a file" in say("--out", tmp_path / "file").stderr


def test_what_runs_report_reaches_the_view() -> None:
    view = LiveProgress()
    tell = forward(view)
    tell({"event": "study", "runs": [{}, {}], "workers": 1})
    who = {"run": "1a", "name": "causal", "labels": {}, "seed": 1}
    tell({"event": "started", **who})
    tell({"event": "progress", **who, "progress": 0.5, "step": 3, "loss": 2.0, "tokens_per_second": 10.0})
    tell({"event": "finished", **who, "result": {"bits_per_byte": 2.5}})
    assert view.total == 2
    (run,) = view.runs.values()
    assert (run.label, run.seed, run.state, run.bits, run.loss) == ("causal", 1, "finished", 2.5, 2.0)


def test_why_runs_are_not_trained_together_is_said_to_who_asked_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"event": "study", "runs": [{}], "workers": 1, "apart": {"dropout draws": 2, "no other": 1}}
    forward(LiveProgress(), "auto")(event)
    assert capsys.readouterr().err == ""
    forward(LiveProgress(), "always")(event)
    said = capsys.readouterr().err.splitlines()
    assert said == ["2 runs not trained together: dropout draws.", "1 run not trained together: no other."]


STUDY = """
seeds = 1
[model]
width = 32
layers = 2
attention = 2
[train]
steps = 4
length = 64
[data]
tokenizer = "bytes"
[vary]
norm = ["layernorm", "rmsnorm"]
"""


@pytest.mark.slow
def test_a_study_from_file_to_report(tmp_path: Path, text: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY)
    out = tmp_path / "out"
    options = (tmp_path / "s.toml", "--data", text, "--out", out)
    done = say(*options)
    assert done.exit_code == 0, done.output
    for word in ("layernorm", "rmsnorm", "bits", str(out / "report.html")):
        assert word in done.stdout
    assert "<html" in (out / "report.html").read_text()
    assert len(json.loads((out / "results.json").read_text())["rows"]) == 2
    began = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/DONE")}
    assert len(began) == 2

    assert say(*options).exit_code == 0, "the same study is found finished"
    more = say("--out", out, "--resume", "--seeds", 2)
    assert more.exit_code == 0, more.output
    assert len(list(out.glob("runs/*/DONE"))) == 4
    assert {path: path.stat().st_mtime_ns for path in began} == began, "finished runs are not done again"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, text: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY.replace("steps = 4", "steps = 100000"))
    out = tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, "-m", "assay", "compare", tmp_path / "s.toml", "--data", text, "--out", out, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 90
    while not any('"train"' in path.read_text() for path in out.glob("runs/*/metrics.jsonl")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline, "no step within 90 s"
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=90)
    assert running.returncode == 130
    assert "Interrupted" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert list(out.glob("runs/*/checkpoints/step-*")), "a checkpoint to go on from"
