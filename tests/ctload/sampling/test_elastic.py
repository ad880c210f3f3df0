"""Going on with another batch size: every study of the epoch once, whatever the sizes, and strata are refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import ResumeMismatchError, SamplerError
from ctload.loading.loader import Loader
from ctload.sampling.elastic import num_batches_of, resume_at, shift_in
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.units import AlternatingUnits
from ctload.sampling.weighted import WeightedSampler
from ctload.storage.store import Store
from ctload.testing import assert_resumes_identically, synthetic_store
from tests.ctload.studies import make_studies


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    num=st.integers(6, 60),
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    taken=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    kind=st.sampled_from(["shuffle", "sequential", "sequential, short last"]),
    epoch=st.integers(0, 3),
)
def test_an_epoch_cut_at_several_batch_sizes_has_every_study_once(
    num: int, sizes: list, taken: list, kind: str, epoch: int
) -> None:
    studies = make_studies(num)

    def bound_of(size: int) -> Any:
        if kind == "shuffle":
            return ShuffleSampler(size, seed=5).bind(studies)
        return SequentialSampler(size, drop_last=kind == "sequential").bind(studies)

    whole = bound_of(1)
    expected = [int(whole.draw(epoch, step).rows[0]) for step in range(num)]
    got: list[int] = []
    for number, size in enumerate(sizes):
        bound, step = resume_at(bound_of(size), epoch, len(got))
        last = num_batches_of(bound, epoch)
        stop = last if number == len(sizes) - 1 else min(step + taken[number], last)
        for at in range(step, stop):
            got += bound.draw(epoch, at).rows.tolist()
        assert at_most_one_batch_off(shift_in(bound, epoch), size)
        assert shift_in(bound, epoch + 1) == 0
        np.testing.assert_array_equal(bound.draw(epoch + 1, 0).rows, bound_of(size).draw(epoch + 1, 0).rows)
    assert got == expected[: len(got)]
    assert num - len(got) < (1 if kind == "sequential, short last" else sizes[-1])


def at_most_one_batch_off(shift: int, size: int) -> bool:
    return -size < shift <= 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    columns = {"abnormal": [0, 1] * 10, "w": [1.0] * 20, "abnormal:report": [0, 1] * 10}
    return synthetic_store(tmp_path_factory.mktemp("elastic") / "twenty.zarr", 20, (4, 8, 8), columns=columns)


def studies_of(loader: Loader, num: int | None = None) -> list[str]:
    return [study for _, batch in zip(range(num or 1000), loader, strict=False) for study in batch.study]


@pytest.mark.parametrize(("before", "after", "ranks"), [(4, 6, 1), (6, 4, 2), (5, 2, 1), (3, 8, 4)])
def test_the_loader_goes_on_with_the_studies_that_are_left(store: Store, before: int, after: int, ranks: int) -> None:
    with Loader(store.studies, sampler=ShuffleSampler(1, seed=7)) as loader:
        expected, following = studies_of(loader), studies_of(loader)
    with Loader(store.studies, sampler=ShuffleSampler(before, seed=7)) as loader:
        done = studies_of(loader, 2)
        state = json.loads(json.dumps(loader.state_dict()))
    parts = []
    for rank in range(ranks):
        with Loader(store.studies, sampler=ShuffleSampler(after, seed=7), rank=rank, world_size=ranks) as loader:
            loader.load_state_dict(state)
            parts.append([batch.study for batch in loader])
            assert loader.epoch == 1
            parts[-1] += [batch.study for batch in loader]
    rest = [study for step in zip(*parts, strict=True) for part in step for study in part]
    num_left = (20 - len(done)) // after * after
    assert done + rest[:num_left] == expected[: len(done) + num_left]
    assert rest[num_left:] == following[: 20 // after * after]


def test_a_run_that_changed_its_batch_size_resumes_exactly(store: Store) -> None:
    with Loader(store.studies, sampler=ShuffleSampler(4, seed=7)) as loader:
        studies_of(loader, 1)
        state = loader.state_dict()

    def make() -> Loader:
        loader = Loader(store.studies, sampler=ShuffleSampler(3, seed=7))
        loader.load_state_dict(state)
        return loader

    assert_resumes_identically(make, num_epochs=2)


def test_another_seed_or_a_batch_that_ranks_cannot_share_is_still_refused(store: Store) -> None:
    with Loader(store.studies, sampler=SequentialSampler(4, drop_last=False)) as loader:
        studies_of(loader, 3)
        state = loader.state_dict()
    sampler = SequentialSampler(6, drop_last=False)
    with (
        Loader(store.studies.take(range(18)), sampler=sampler, world_size=2) as loader,
        pytest.raises(ResumeMismatchError, match=r"^studies"),
    ):
        loader.load_state_dict(state)
    with Loader(store.studies, sampler=ShuffleSampler(4, seed=0)) as loader:
        state = loader.state_dict()
    with (
        Loader(store.studies, sampler=ShuffleSampler(2, seed=1)) as loader,
        pytest.raises(ResumeMismatchError, match=r"^sampler is not what it was"),
    ):
        loader.load_state_dict(state)
    with Loader(store.studies, sampler=SequentialSampler(5)) as loader:
        studies_of(loader, 1)
        state = loader.state_dict()
    with Loader(store.studies, sampler=SequentialSampler(10, drop_last=True), world_size=5) as loader:
        loader.load_state_dict(state)
        assert len(loader) == 2
        assert len(studies_of(loader)) == 2
    with Loader(store.studies, sampler=SequentialSampler(1, drop_last=False)) as loader:
        studies_of(loader, 3)
        state = loader.state_dict()
    with Loader(store.studies, sampler=SequentialSampler(2, drop_last=False), world_size=2) as loader:
        with pytest.raises(SamplerError, match="cannot share a batch of 1"):
            loader.load_state_dict(state)
        assert loader.step == 0


SAMPLERS: dict[str, Any] = {
    "fractional quotas": lambda size: StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, size, seed=0),
    "units": lambda size: ShuffleSampler(size, seed=0, by="abnormal", units=AlternatingUnits((), schedule="full")),
    "weights": lambda size: WeightedSampler("w", size, seed=0),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_batch_size_is_refused_with_the_reason_where_batches_are_counted(store: Store, name: str) -> None:
    with Loader(store.studies, sampler=SAMPLERS[name](2)) as loader:
        state = loader.state_dict()
    with (
        Loader(store.studies, sampler=SAMPLERS[name](4)) as loader,
        pytest.raises(ResumeMismatchError, match="quotas, units and weights count in batches of one size"),
    ):
        loader.load_state_dict(state)
