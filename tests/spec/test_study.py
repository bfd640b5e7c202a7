"""A study's runs: all combinations, equal but for what varies, named by what they are."""

import pytest

from assay.errors import UserError
from assay.spec.axes import Family, NormKind
from assay.spec.model import ModelSpec
from assay.spec.study import StudySpec
from assay.spec.training import TrainSpec


def test_the_default_is_three_families_and_three_seeds() -> None:
    runs = StudySpec().runs()
    assert len(runs) == 9
    assert {run.labels["family"] for run in runs} == {"causal", "prefix", "encoder_decoder"}
    assert {run.seed for run in runs} == {0, 1, 2}
    assert {run.train.budget for run in runs} == {3e12}
    assert len({run.hash for run in runs}) == 9
    objectives = {run.model.family: str(run.objective.kind) for run in runs}
    assert objectives == {
        Family.causal: "causal_lm",
        Family.prefix: "prefix_lm",
        Family.encoder_decoder: "prefix_lm",
    }


def test_all_combinations_run() -> None:
    study = StudySpec.from_dict(
        {"vary": {"norm": ["layernorm", "rmsnorm"], "placement": ["pre", "post", "deepnet"]}, "seeds": 2}
    )
    runs = study.runs()
    assert len(runs) == 2 * 3 * 2
    assert {(run.model.norm.kind, str(run.model.placement.kind)) for run in runs} == {
        (norm, placement) for norm in (NormKind.layernorm, NormKind.rmsnorm) for placement in ("pre", "post", "deepnet")
    }


def test_axes_outside_the_model() -> None:
    study = StudySpec.from_dict(
        {
            "vary": {
                "train.optimizer.learning_rate": [1e-3, 3e-3],
                "objective": ["causal_lm", "prefix_lm"],
                "data.heldout": [0.2],
                "attention.kv_heads": [1],
            },
            "seeds": 1,
        }
    )
    runs = study.runs()
    assert {run.train.optimizer.learning_rate for run in runs} == {1e-3, 3e-3}
    assert {str(run.objective.kind) for run in runs} == {"causal_lm", "prefix_lm"}
    assert {run.data.heldout for run in runs} == {0.2}
    assert {run.model.attention.kv_heads for run in runs} == {1}


def test_parameters_or_flops_are_matched_between_families() -> None:
    def model(match: str) -> tuple[ModelSpec, ModelSpec]:
        runs = StudySpec.from_dict({"match": match, "seeds": 1}).runs()
        by = {run.model.family: run.model for run in runs}
        return by[Family.causal], by[Family.encoder_decoder]

    one, two = model("parameters")
    assert (two.layers, two.encoder.layers) == (2, 2)
    assert two.parameters() == pytest.approx(one.parameters(), rel=0.25)
    one, two = model("flops")
    assert two.depth("encoder") == two.depth("decoder") == one.layers


def test_labels_and_names_are_no_part_of_a_runs_identity() -> None:
    family = StudySpec.from_dict({"vary": {"family": ["causal"]}, "seeds": 1}).runs()[0]
    norm = StudySpec.from_dict({"vary": {"norm": ["rmsnorm"]}, "seeds": 1}).runs()[0]
    assert family.labels != norm.labels
    assert family.hash == norm.hash, "a run that another study did is found again"


def test_an_impossible_combination_is_named() -> None:
    study = StudySpec.from_dict({"vary": {"attention.heads": [4, 5]}})
    with pytest.raises(UserError, match=r"attention\.heads = 5 cannot run.*do not divide width"):
        study.runs()
    with pytest.raises(UserError, match=r"nrom"):
        StudySpec.from_dict({"vary": {"nrom": ["rmsnorm"]}}).runs()
    with pytest.raises(UserError, match=r"train"):
        StudySpec.from_dict({"vary": {"train.batchsize": [4]}}).runs()


def test_a_study_file_says_only_what_differs() -> None:
    study = StudySpec(model=ModelSpec(width=64), train=TrainSpec(steps=10), seeds=1)
    text = study.to_toml()
    assert "width = 64" in text
    assert "steps = 10" in text
    assert "vocab_size" not in text
