"""Resume: a state of a few numbers brings back exactly the remaining batches, or refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctload.errors import ResumeMismatchError
from ctload.loading.loader import Loader
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, RandomCrop
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.twin import ShuffledTwin
from ctload.sampling.units import AlternatingUnits
from ctload.sampling.weighted import WeightedSampler
from ctload.storage.store import Store
from ctload.testing import assert_resumes_identically, batch_digest, synthetic_store

AUGMENT = Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(10, 0, 0), noise_sigma=(0, 0.1), gamma=(0.8, 1.2))
NORMALITY = {"abnormal": [0, 1, 1] * 3, "abnormal:report": [0, 1, 1] * 3, "abnormal:liver": [1, 0, 0] * 3}
WEIGHTS = {"weight": [1.0, 2.0, 0.5] * 3}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """9 studies, so that an epoch of batches of 2 leaves one out."""
    return synthetic_store(tmp_path_factory.mktemp("resume") / "nine.zarr", 9, (8, 16, 16), columns=NORMALITY | WEIGHTS)


def make(store: Store, **options: Any) -> Loader:
    chosen: dict[str, Any] = {
        "sampler": ShuffleSampler(batch_size=2, seed=5),
        "crop": RandomCrop((6, 12, 12)),
        "augment": AUGMENT,
        "num_threads": 1,
    }
    chosen.update(options)
    return Loader(chosen.pop("studies", store.studies), **chosen)


SAMPLERS = {
    "sequential": SequentialSampler(batch_size=4, drop_last=False),
    "shuffle": ShuffleSampler(batch_size=2, seed=5),
    "stratified": StratifiedSampler("abnormal", {"normal": 1, "abnormal": 2}, batch_size=3, seed=1),
    "fractional": StratifiedSampler("abnormal", {"normal": 25, "abnormal": 75}, batch_size=2, seed=1),
    "units": StratifiedSampler(
        "abnormal", {"normal": 1, "abnormal": 1}, batch_size=2, seed=1, units=AlternatingUnits(("liver",))
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_resume_at_any_step_repeats_the_remaining_batches(store: Store, name: str) -> None:
    assert_resumes_identically(lambda: make(store, sampler=SAMPLERS[name]), num_epochs=2)


def test_resume_at_any_step_repeats_the_remaining_batches_of_dali(store: Store) -> None:
    pytest.importorskip("nvidia.dali", reason="needs nvidia-dali")
    assert_resumes_identically(lambda: make(store, pipeline="dali", prefetch=4), num_epochs=2)


class CountsTooFar(Loader):
    """What a loader would save that counts batches read ahead instead of delivered ones."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "step": min(state["step"] + 1, self.num_batches - 1)}


class ForgetsTheEpoch(Loader):
    """What a loader would do that starts each run's epochs at 0."""

    def load_state_dict(self, state: Any, **options: Any) -> None:
        super().load_state_dict({**state, "epoch": 0}, **options)


@pytest.mark.parametrize("broken", [CountsTooFar, ForgetsTheEpoch])
def test_the_check_of_resuming_fails_for_a_loader_that_does_not(store: Store, broken: type[Loader]) -> None:
    def make_broken() -> Loader:
        return broken(store.studies, sampler=ShuffleSampler(2, seed=5), crop=RandomCrop((6, 12, 12)), num_threads=1)

    with pytest.raises(AssertionError, match="resumed after"):
        assert_resumes_identically(make_broken, num_epochs=2)


def test_a_state_saved_in_the_body_of_the_last_batch_begins_the_next_epoch(store: Store) -> None:
    with make(store) as loader:
        for batch in loader:
            state = loader.state_dict()
            assert batch.plan.epoch == 0
        after_the_loop = loader.state_dict()
        expected = [batch_digest(batch) for batch in loader]
    assert (state["epoch"], state["step"]) == (1, 0)
    assert state == after_the_loop
    with make(store) as loader:
        loader.load_state_dict(state)
        assert [batch_digest(batch) for batch in loader] == expected


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2)])
def test_another_number_of_ranks_goes_on_with_the_same_batches(store: Store, before: int, after: int) -> None:
    sampler = ShuffleSampler(batch_size=4, seed=5)
    with make(store, sampler=sampler) as loader:
        expected = [study for batch in loader for study in batch.study][4:]
    with make(store, sampler=sampler, rank=before - 1, world_size=before) as loader:
        next(iter(loader))
        state = loader.state_dict()
    got = []
    for rank in range(after):
        with make(store, sampler=sampler, rank=rank, world_size=after) as loader:
            loader.load_state_dict(state)
            got.append([batch.study for batch in loader])
    assert [study for step in zip(*got, strict=True) for part in step for study in part] == expected


ELASTIC: dict[str, Any] = {
    "shuffle": ShuffleSampler(batch_size=4, seed=5),
    "stratified": StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, batch_size=4, seed=1),
    "units": StratifiedSampler(
        "abnormal", {"normal": 1, "abnormal": 1}, batch_size=4, seed=1, units=AlternatingUnits(("liver",))
    ),
    "weighted": WeightedSampler("weight", batch_size=4, seed=2),
}
ELASTIC["twin"] = ShuffledTwin(ELASTIC["stratified"])
WORLDS = st.sampled_from([1, 2, 4])


def _drawn(loader: Loader, steps: range, epoch: int) -> list[list[Any]]:
    plans = [loader.plan(epoch, step) for step in steps]
    return [[plan.rows, plan.box_start, plan.flip, plan.warp, plan.noise_key, plan.gamma] for plan in plans]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(ELASTIC)), st.integers(0, 1), st.data(), WORLDS, WORLDS)
def test_resume_at_any_step_with_any_world_size_repeats_what_is_left(
    store: Store, name: str, epoch: int, data: st.DataObject, before: int, after: int
) -> None:
    def ranks(world_size: int) -> list[Loader]:
        return [make(store, sampler=ELASTIC[name], rank=rank, world_size=world_size) for rank in range(world_size)]

    with make(store, sampler=ELASTIC[name]) as whole:
        step = data.draw(st.integers(0, whole.num_batches - 1), label="step")
        expected = _drawn(whole, range(step, whole.num_batches), epoch)
    states = []
    for loader in ranks(before):
        with loader:
            loader.load_state_dict(loader.state_dict() | {"epoch": epoch, "step": step})
            states.append(loader.state_dict())
    parts = []
    for loader in ranks(after):
        with loader:
            loader.load_state_dict(states[-1])
            assert (loader.epoch, loader.step) == (epoch, step)
            parts.append(_drawn(loader, range(loader.step, loader.num_batches), loader.epoch))
    for whole_step, *ranks_step in zip(expected, *parts, strict=True):
        for field, *fields in zip(whole_step, *ranks_step, strict=True):
            np.testing.assert_array_equal(np.concatenate(fields), field)


def test_the_state_is_small_plain_and_the_same_on_all_ranks(store: Store) -> None:
    states = []
    for rank in range(2):
        with make(store, rank=rank, world_size=2) as loader:
            next(iter(loader))
            states.append(json.dumps(loader.state_dict()))
    assert states[0] == states[1]
    assert len(states[0]) < 3000


CHANGES = {
    "crop": {"crop": CenterCrop((6, 12, 12))},
    "window": {"window": HuWindow(-160, 240)},
    "augment": {"augment": None},
    "sampler": {"sampler": ShuffleSampler(batch_size=2, seed=6)},
}


@pytest.mark.parametrize("field", CHANGES)
def test_resume_with_something_changed_is_refused_by_name_unless_allowed(store: Store, field: str) -> None:
    with make(store) as loader:
        next(iter(loader))
        state = json.loads(json.dumps(loader.state_dict()))
    with make(store, **CHANGES[field]) as loader:
        with pytest.raises(ResumeMismatchError, match=rf"^{field} is not what it was: saved .*, now .*allow_mismatch"):
            loader.load_state_dict(state)
        assert loader.step == 0
        loader.load_state_dict(state, allow_mismatch=(field,))
        assert loader.step == 1
        assert len(list(loader)) == loader.num_batches - 1


def test_resume_with_other_studies_is_refused_unless_allowed(store: Store) -> None:
    with make(store) as loader:
        for _, _ in zip(range(3), loader, strict=False):
            state = loader.state_dict()
    fewer = store.studies.take([0, 1, 2, 3])
    with make(store, studies=fewer) as loader:
        with pytest.raises(ResumeMismatchError, match=r"^studies is not what it was: saved 9 studies.*now 4 studies"):
            loader.load_state_dict(state)
        loader.load_state_dict(state, allow_mismatch=("studies", "sampler"))
        assert (loader.epoch, loader.step) == (1, 0)  # the epoch is shorter now and was over


def test_resume_with_one_channel_more_is_refused(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "two.zarr", 3, (8, 16, 16), num_channels=2)
    with make(store) as loader:
        state = loader.state_dict()
    with make(store, channels=("0", "1")) as loader, pytest.raises(ResumeMismatchError, match=r"^channels"):
        loader.load_state_dict(state)


def test_equal_quotas_written_otherwise_are_the_same_sampler(store: Store) -> None:
    one = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 2}, batch_size=3, seed=1)
    other = StratifiedSampler("abnormal", {"abnormal": 200, "normal": 100}, batch_size=3, seed=1)
    with make(store, sampler=one) as loader:
        state = loader.state_dict()
    with make(store, sampler=other) as loader:
        loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "no loader state of format 1"),
        ({"format": 99, "epoch": 0, "step": 0, "fingerprints": {}, "quarantine": []}, "format=99"),
        ({"format": 1, "epoch": 0, "step": 0, "fingerprints": {}, "quarantine": []}, "saved nothing"),
    ],
)
def test_what_is_no_state_is_refused(store: Store, state: dict[str, Any], message: str) -> None:
    with make(store) as loader, pytest.raises(ResumeMismatchError, match=message):
        loader.load_state_dict(state)


def test_a_misspelt_allow_mismatch_is_refused(store: Store) -> None:
    with make(store) as loader, pytest.raises(ResumeMismatchError, match="allow_mismatch names"):
        loader.load_state_dict(loader.state_dict(), allow_mismatch=("crops",))
