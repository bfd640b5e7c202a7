import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.synthetic import write_run, write_study

from assay.errors import UserError
from assay.report.compare import write_report
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import StudySpec

VOID = {"meta", "link", "br", "path", "rect", "circle", "line", "img", "hr", "input"}
HOSTILE = "<script>alert('x')</script>\"'&amp;</style><img src=//evil.example/a onerror=alert(1)>"


class Page(HTMLParser):
    """Elements, attributes and text of a page; `faults` holds tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID or tag in ("path", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_page_is_well_formed_and_small(page: Page, study_folder: Path) -> None:
    assert not page.faults and not page.open
    path = write_report(study_folder)
    assert path == study_folder / "report.html"
    assert path.stat().st_size < 2_500_000


def test_page_loads_nothing(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])


def test_page_has_no_outside_address_but_name_spaces(study_folder: Path) -> None:
    html = write_report(study_folder).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<)]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_page_holds_everything_that_a_report_owes(page: Page) -> None:
    for words in (
        "causal has the lowest held-out loss",
        "What was held equal",
        "Held-out loss against compute",
        "Supervised tokens per GFLOP",
        "Peak memory",
        "Parameters by part",
        "Differences, paired by seed",
        "Loss by place in the continuation",
        "Training loss, every seed",
        "Cross-attention: bidirectional",
        "Encoder block, 2 layers",
        "assay compare --seeds 3 --budget 3e12 --out demo",
        "5d0f3c9a1b2e4d67",
        "byte-level BPE, 2,048 ids",
        "torch ",
        "9 of 9 runs finished",
        "9 runs, seeds 0, 1, 2",
        "Every field, as TOML",
        "[vary]",
    ):
        assert words in page.text, words


def test_configuration_reads_back(study_folder: Path) -> None:
    html = write_report(study_folder).read_text(encoding="utf-8")
    pre = re.search(r"Every field, as TOML</summary>.*?<pre[^>]*>(.*?)</pre>", html, re.S)
    assert pre
    import html as h

    written = StudySpec.from_toml(StudyFolder(study_folder).study_toml + "\n")
    assert StudySpec.from_toml(h.unescape(pre[1])) == written


def test_every_picture_has_a_title_and_every_anchor_a_target(page: Page) -> None:
    assert len(page.all("svg")) > 10
    assert all(svg.get("role") == "img" for svg in page.all("svg"))
    first_inside = [page.elements[i + 1][0] for i, (tag, _) in enumerate(page.elements) if tag == "svg"]
    assert set(first_inside) == {"title"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert str(link["href"]).removeprefix("#") in ids
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_each_distinct_picture_stands_once(page: Page) -> None:
    assert sum(svg.get("class") == "mask" for svg in page.all("svg")) == 5
    assert sum(svg.get("class") == "block" for svg in page.all("svg")) == 3


def test_pictures_are_named_by_what_their_combinations_share(tmp_path: Path) -> None:
    vary = {"norm": ["layernorm", "rmsnorm"], "family": ["causal", "prefix", "encoder"]}
    study = StudySpec.from_dict({"vary": vary, "seeds": 1, "objective": {"kind": "prefix_lm"}})
    write_study(tmp_path, study)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "Self-attention: causal or prefix family prefix" in text
    assert "Self-attention: causal family causal" in text
    assert "Block, 4 layers norm layernorm" in text


def test_text_from_data_cannot_become_markup(tmp_path: Path) -> None:
    study = write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre", "post"]}, "seeds": 2}))
    for run in study.runs():
        folder = RunFolder(tmp_path / "runs" / run.hash)
        told = folder.read_json("run.json")
        told["labels"] = {HOSTILE: f"{run.labels['placement']}{HOSTILE}"}
        told["data"] = dict.fromkeys(["source", "name", "hash", "tokenizer", "tokenizer_hash"], HOSTILE)
        told["command"] = HOSTILE
        told["provenance"]["versions"] = {HOSTILE: HOSTILE}
        told["provenance"]["hardware"] = {"cpu": HOSTILE, "os": HOSTILE, "accelerators": [HOSTILE]}
        told["provenance"]["time"] = HOSTILE
        folder.write_json("run.json", told)
        folder.write_json("spec.json", {**folder.read_json("spec.json"), "name": HOSTILE})
        folder.mark_done({**folder.result, "compiled": HOSTILE, "parameters": {"embedding": 1, HOSTILE: 2}})
    (tmp_path / "study.toml").write_text(f"# {HOSTILE}\nnot = toml = at all")
    last = RunFolder(tmp_path / "runs" / study.runs()[3].hash)
    (last.path / "DONE").unlink()
    last.mark_failed(HOSTILE)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert not page.faults and not page.open
    assert len(page.all("script")) == 1 and len(page.all("style")) > 0
    assert not page.all("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('x')</script>") > 10  # shown as text


def test_unfinished_and_failed_runs_are_shown_as_such(tmp_path: Path) -> None:
    study = StudySpec.from_dict({"vary": {"placement": ["pre", "post", "reordered"]}, "seeds": 2})
    folder = StudyFolder(tmp_path)
    folder.write_study(study.to_toml())
    runs = study.runs()
    for run in (runs[0], runs[1], runs[4]):
        write_run(folder.run(run.hash), run, 2.3)
    write_run(folder.run(runs[2].hash), runs[2], 2.5, until=0.5)
    folder.run(runs[2].hash).mark_failed("diverged at step 200: the loss is nan")
    write_run(folder.run(runs[3].hash), runs[3], 2.5, until=0.3)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "3 of 6 runs finished, 1 failed, 1 unfinished, 1 not started" in text
    assert f"post, seed 0 ( {runs[2].hash} ): diverged at step 200" in text
    assert "post, seed 1 stopped at step 120" in text
    assert "reordered, seed 1 not started" in text
    assert "too few to tell it from the others" in text


def test_a_folder_without_finished_runs_keeps_its_earlier_report(tmp_path: Path) -> None:
    study = write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 1}))
    before = write_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "runs" / study.runs()[0].hash / "DONE").unlink()
    with pytest.raises(UserError, match="no run is finished"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_old_runs_that_lack_fields_still_make_a_report(study_folder: Path) -> None:
    for run in StudyFolder(study_folder).runs():
        told = run.read_json("run.json")
        run.write_json("run.json", {"labels": told["labels"], "seed": told["seed"]})
        run.mark_done({"bits_per_byte": run.result["bits_per_byte"]})
        (run.path / "metrics.jsonl").unlink()
    page = Page(write_report(study_folder).read_text(encoding="utf-8"))
    assert not page.faults
    assert "The runs hold no curves." in page.text
