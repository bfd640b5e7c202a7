"""The six pairs: equal tokens and FLOPs, whose weights an adaptation begins from, results, and bad input."""

from pathlib import Path

import pytest
from tests.training.conftest import sample_text

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder
from assay.studies.six_pairs import beaten, flops_to, load_study, plan_units, six_pairs, study_file
from assay.studies.six_pairs_spec import PAIRS, SixPairs
from assay.training.accounting import FlopMeter
from assay.training.setup import make_loader
from assay.training.text import load_text, resolve


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SixPairs:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(sample_text(30_000), encoding="utf-8")
    return SixPairs.from_dict(
        {
            "model": {"width": 16, "layers": 2, "attention": {"heads": 2}},
            "data": {"source": str(tmp_path / "text.txt"), "tokenizer": "bytes", "heldout": 0.3},
            "tokens": 4000,
            "train": {"steps": 1, "batch_size": 4, "length": 64, "evaluations": 2},
            "tune": {"steps": 3, "batch_size": 4, "length": 96, "evaluations": 1, "heldout": 4},
            "tasks": ["copy"], "others": ["reverse"], "items": 6, "train_items": 30, "seeds": 1,
        }
    )  # fmt: skip


def test_the_file_has_its_forms_and_names_the_published_pairs() -> None:
    study = load_study(None)
    assert study_file().is_file() and set(study.forms) == {"quick", "standard"} and study.pairs == PAIRS
    quick, standard = study.form("quick"), study.form("standard")
    assert quick.tokens < standard.tokens < study.tokens and quick.seeds == standard.seeds == study.seeds == 3
    assert SixPairs.from_toml(quick.to_toml() + "\n") == quick
    with pytest.raises(UserError, match="Did you mean 'quick'"):
        study.form("quik")


def test_runs_are_equal_in_tokens_or_in_flops(study: SixPairs) -> None:
    text = load_text(study.data)
    first, second = plan_units(study, text)
    assert [u.name for u in first] == [*PAIRS, *PAIRS] and len({u.folder for u in first}) == 11
    causal, whole = first[0], {}
    for unit in first:
        run = resolve(unit.run)
        loader, meter = make_loader(run, text), FlopMeter(run.model)
        step, tokens, flops = 0, 0, 0.0
        while (step < run.train.steps) if run.train.steps else (flops < run.train.budget):
            count = meter.count(loader.batch(*loader.place(0, step)))
            step, tokens, flops, last = step + 1, tokens + count.inputs, flops + count.flops, count
        whole[unit.equal, unit.name] = (tokens, flops, last)
        if unit.equal == "tokens":
            assert abs(tokens - 4000) < 0.6 * last.inputs + 200, (unit.name, tokens)
    base = whole["tokens", causal.name][1]
    for name in PAIRS:
        flops, last = whole["flops", name][1:]
        assert -0.03 * base < flops - base < last.flops + 0.03 * base, (name, flops, base)
    assert [u.name for u in second] == ["causal:causal_lm -> prefix:mlm", "prefix:mlm -> causal:causal_lm"]
    assert second[0].start == causal.folder and second[0].run.objective.kind == "mlm"


def test_a_whole_study(study: SixPairs, tmp_path: Path) -> None:
    study = study.with_(pairs=["causal:causal_lm", "prefix:mlm"], equal=["tokens"])
    out = tmp_path / "out"
    said: list[str] = []
    found = six_pairs(study, out, workers=1, progress=lambda what, done, total: said.append(f"{done}/{total} {what}"))
    assert not found["failures"] and said[-1].startswith("4/4")
    assert [row["pair"] for row in found["rows"]] == list(study.pairs)
    for row in found["rows"]:
        assert 0 <= row["measures"]["zero"]["value"] <= 1 and row["measures"]["zero_chance"]["value"] == 0.25
        assert {"tuned:copy", "unseen:reverse", "zero:continuation", "zero:cloze"} <= set(row["measures"])
    for entry in found["adaptations"]:
        assert len(entry["adapted"][0]) == len(entry["scratch"][0]) == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert (
        "At equal tokens" in page
        and page.count("<svg") > len(found["adaptations"])
        and "From causal, causal LM to prefix, masked LM" in page
    )
    # An adaptation begins from the other pair's weights: before its first step it has that pair's loss.
    first, second = plan_units(study, load_text(study.data))
    folder = StudyFolder(out)
    back = folder.run(second[1].folder)
    assert back.read_json("start.json") == {"from": first[1].folder}
    start = next(row for row in back.metrics() if row["kind"] == "eval")["bits_per_byte"]
    fresh = next(row for row in folder.run(first[0].folder).metrics() if row["kind"] == "eval")["bits_per_byte"]
    assert start != fresh and RunFolder(back.path).done
    # Nothing is done twice.
    stamp = (back.path / "DONE").stat().st_mtime_ns
    assert (
        six_pairs(study, out, workers=1)["rows"] == found["rows"] and (back.path / "DONE").stat().st_mtime_ns == stamp
    )


def test_ranks_are_told_only_where_chance_is_beaten() -> None:
    from assay.report.six_pairs import _above, _rank

    order = [{"pair": "causal:mlm", "value": 0.4}, {"pair": "prefix:mlm", "value": 0.3, "high": -0.05}]
    rank = {"equal": "tokens", "stage": "zero", "order": order, "clear": True}
    for low, said in ((0.3, "causal, masked LM 0.400, ahead of all others"), (0.2, "no rank"), (None, "no rank")):
        measures = {"zero": {"value": 0.4, "low": low}, "zero_chance": {"value": 0.25}}
        data = {"rows": [{"equal": "tokens", "measures": measures}, {"equal": "flops", "measures": measures}]}
        assert said in _rank(rank, _above(data, rank))


def test_flops_to_a_loss() -> None:
    curve = [[0.0, 5.0], [10.0, 3.0], [20.0, 2.0]]
    assert flops_to(curve, 4.0) == 5.0 and flops_to(curve, 2.5) == 15.0 and flops_to(curve, 5.0) == 0.0
    assert flops_to(curve, 1.0) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pairs": ["encoder_decoder:causal_lm"]}, "nothing is left for the encoder to read.*goes with causal, prefix"),
        ({"pairs": ["encoder:mlm"]}, "writes no answers"),
        ({"pairs": ["casual:mlm"]}, "Did you mean 'causal'"),
        ({"tasks": ["coppy"]}, "Did you mean 'copy'"),
        ({"tasks": ["copy"], "others": ["copy"]}, "none that is among others"),
    ],
)
def test_bad_studies(fields: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SixPairs.from_dict(fields)


@pytest.mark.parametrize("stage", ["zero", "tuned"])
def test_tasks_count_where_all_runs_together_beat_chance(stage: str) -> None:
    def runs(cloze: list[float], copy: list[float]) -> list[dict[str, float]]:
        fixed = {"chance:cloze": 0.25, "items:cloze": 400, "chance:copy": 0.25, "items:copy": 100}
        # What another stage shows decides nothing.
        other = {"zero:copy": 0.9, "tuned:copy": 0.9}
        return [fixed | other | {f"{stage}:cloze": a, f"{stage}:copy": b} for a, b in zip(cloze, copy, strict=True)]

    def counted(cloze: list[float], copy: list[float]) -> list[str]:
        return beaten(runs(cloze, copy), stage, ("cloze", "copy"))

    assert counted([0.4, 0.5, 0.3, 0.45], [0.25, 0.2, 0.3, 0.26]) == ["cloze"]
    # All a little above chance on few shared items may be those items' doing.
    assert counted([0.4, 0.5, 0.3, 0.45], [0.30, 0.31, 0.30, 0.31]) == ["cloze"]
    assert counted([0.4, 0.5, 0.3, 0.45], [0.40, 0.41, 0.40, 0.41]) == ["cloze", "copy"]
    assert counted([0.2, 0.3, 0.25, 0.26], [0.25, 0.2, 0.3, 0.26]) == []
    assert beaten([], stage, ("cloze",)) == []
