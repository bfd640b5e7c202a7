"""How a run is spread over processes is described, and is no part of what the run is."""

import pytest

from assay.errors import UserError
from assay.spec.study import StudySpec
from assay.spec.training import ParallelKind, TrainSpec

PARALLEL = ({}, {"kind": "none"}, {"kind": "ddp"}, {"kind": "fsdp"}, {"kind": "hsdp", "shard": 2})


def test_how_a_run_is_spread_changes_no_hash() -> None:
    def hashes(parallel: dict[str, object]) -> tuple[str, str]:
        train = {"steps": 3, "parallel": parallel}
        study = StudySpec.from_dict({"train": train, "vary": {"family": ["causal"]}, "seeds": 1})
        return TrainSpec.from_dict(train).hash, study.runs()[0].hash

    assert len({hashes(parallel) for parallel in PARALLEL}) == 1
    # Known before the field was: the hash of a run that is described by its steps alone.
    without = StudySpec.from_dict({"train": {"steps": 3}, "vary": {"family": ["causal"]}, "seeds": 1})
    fields = without.runs()[0]._hashed()
    assert "parallel" not in fields["train"]
    # Negative control: a field beside it does count.
    assert TrainSpec(steps=3).hash != TrainSpec(steps=3, accumulation=2).hash


def test_it_round_trips_and_takes_its_kind_alone() -> None:
    assert TrainSpec.from_dict({"steps": 3, "parallel": "ddp"}).parallel.kind is ParallelKind.ddp
    for parallel in PARALLEL:
        spec = TrainSpec.from_dict({"steps": 3, "parallel": parallel})
        assert TrainSpec.from_toml(spec.to_toml()) == spec
        assert TrainSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("parallel", "said"),
    [
        ({"kind": "fdsp"}, r"parallel\.kind = 'fdsp'.*Did you mean 'fsdp'"),
        ({"kind": "fsdp", "shard": 2}, r"parallel\.shard: 2 .* hsdp alone"),
        ({"kind": "hsdp", "shard": 0}, r"parallel\.shard = 0"),
    ],
)
def test_what_cannot_be(parallel: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TrainSpec.from_dict({"steps": 3, "parallel": parallel})
