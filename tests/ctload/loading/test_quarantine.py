"""Damaged studies: a typed error that names them, or a substitute that is recorded. Never silence."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctload.errors import ChecksumError, CtloadError, MissingChunkError, SamplerError
from ctload.loading.loader import Loader
from ctload.loading.quarantine import DamagedStudyWarning, from_state, merge
from ctload.planning.crop import CenterCrop, RandomCrop
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.storage.layout import shard_file, study_folder
from ctload.storage.store import Store, open_store
from ctload.testing import assert_resumes_identically, batch_digest, synthetic_store

SHAPE = (32, 40, 40)
VICTIM = "synthetic-0004"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """8 studies, the even ones normal."""
    columns = {"abnormal": [number % 2 for number in range(8)]}
    return synthetic_store(tmp_path / "eight.zarr", 8, SHAPE, columns=columns)


def shard_of(store: Store, study: str) -> Path:
    return store.path / study_folder(study) / shard_file("0")


def delete(store: Store, study: str = VICTIM) -> None:
    shard_of(store, study).unlink()


def flip_bit(store: Store, study: str = VICTIM) -> None:
    """Damage a byte in the middle of the shard: inside a chunk, where only the chunk's checksum can see it."""
    shard = shard_of(store, study)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 16
    shard.write_bytes(content)


def truncate(store: Store, study: str = VICTIM) -> None:
    shard = shard_of(store, study)
    os.truncate(shard, shard.stat().st_size // 2)


def exchange(store: Store, study: str = VICTIM) -> None:
    """Put another study's shard, whole and sound, in the place of this one's."""
    shard_of(store, study).write_bytes(shard_of(store, "synthetic-0006").read_bytes())


def zero_sector(store: Store, study: str = VICTIM) -> None:
    """512 bytes of nothing, as a file system leaves them that lost a write."""
    shard = shard_of(store, study)
    content = shard.read_bytes()
    shard.write_bytes(content[:4096] + bytes(512) + content[4608:])


def lengthen(store: Store, study: str = VICTIM) -> None:
    shard_of(store, study).write_bytes(shard_of(store, study).read_bytes() + b"\0")


def put_folder(store: Store, study: str = VICTIM) -> None:
    """A folder where the shard was."""
    shard_of(store, study).unlink()
    shard_of(store, study).mkdir()


def damage_metadata(store: Store, study: str = VICTIM) -> None:
    metadata = store.path / study_folder(study) / "0" / "zarr.json"
    metadata.write_bytes(metadata.read_bytes().replace(b"1024", b"1023"))


def delete_metadata(store: Store, study: str = VICTIM) -> None:
    (store.path / study_folder(study) / "zarr.json").unlink()


def delete_study(store: Store, study: str = VICTIM) -> None:
    shutil.rmtree(store.path / study_folder(study))


OF_SHARDS = (delete, flip_bit, truncate, exchange, zero_sector, lengthen, put_folder)
OF_METADATA = (damage_metadata, delete_metadata, delete_study)


def make(store: Store, **options: Any) -> Loader:
    chosen: dict[str, Any] = {"sampler": ShuffleSampler(4, seed=0), "crop": RandomCrop((16, 24, 24)), "num_threads": 1}
    chosen.update(options)
    return Loader(store.studies, poison_slots=True, **chosen)


def make_replacing(store: Store, **options: Any) -> Loader:
    return make(store, on_corrupt="replace", **options)


def whole(**options: Any) -> dict[str, Any]:
    """Options of a loader that reads every voxel, so that damage anywhere is met."""
    return {"crop": CenterCrop(SHAPE), **options}


@pytest.fixture
def expected_warnings() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedStudyWarning)
        yield caught


@pytest.mark.parametrize(
    ("damage", "error"),
    [(change, MissingChunkError if change is delete else ChecksumError) for change in OF_SHARDS],
)
def test_damage_is_raised_with_study_and_path_after_the_batches_before_it(
    store: Store, damage: Any, error: type[CtloadError]
) -> None:
    damage(store)
    with make(store, sampler=SequentialSampler(2), **whole()) as loader:
        seen: list[tuple[str, ...]] = []
        with pytest.raises(error) as caught:
            seen.extend(batch.study for batch in loader)
        assert caught.value.study == VICTIM
        assert str(shard_of(store, VICTIM)) in str(caught.value)
        assert len(seen) == 2  # studies 0 to 3
        assert (loader.epoch, loader.step) == (0, 2)


def test_a_shard_deleted_in_the_middle_of_a_run_is_raised_and_the_run_goes_on_when_it_is_back(store: Store) -> None:
    last = "synthetic-0007"  # farther off than any read-ahead
    with make(store, sampler=SequentialSampler(1), prefetch=1, **whole()) as loader:
        expected = [batch.volume for batch in loader]
        content = shard_of(store, last).read_bytes()
        iterator = iter(loader)
        got = [next(iterator).volume]
        delete(store, last)
        with pytest.raises(MissingChunkError, match=last):
            got.extend(batch.volume for batch in iterator)
        assert (loader.epoch, loader.step) == (1, len(got))
        shard_of(store, last).write_bytes(content)
        got.extend(batch.volume for batch in loader)
    np.testing.assert_array_equal(got, expected)  # the same order every epoch


@pytest.mark.parametrize("damage", [*OF_SHARDS, *OF_METADATA])
def test_replace_puts_a_member_of_the_same_stratum_in_its_place_and_says_so(
    store: Store, damage: Any, expected_warnings: list[warnings.WarningMessage]
) -> None:
    damage(store)
    store = open_store(store.path)
    sampler = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, batch_size=4, seed=0)
    with make_replacing(store, sampler=sampler, **whole()) as loader:
        batches = [batch for _ in range(3) for batch in loader]
        quarantine = loader.state_dict()["quarantine"]
        num_replaced = loader.stats().num_replaced
    assert all(VICTIM not in batch.study for batch in batches)
    is_abnormal = store.studies.column("abnormal")
    assert all(is_abnormal[batch.rows].sum() == 2 for batch in batches)
    assert sum(batch.num_replaced for batch in batches) == num_replaced == 3  # once an epoch
    assert [record["study"] for record in quarantine] == [VICTIM]
    first = next(batch for batch in batches if batch.num_replaced)
    assert quarantine[0]["substitute"] in first.study
    assert (quarantine[0]["epoch"], quarantine[0]["step"]) == (first.plan.epoch, first.plan.step)
    assert quarantine[0]["error"] in ("MissingChunkError", "ChecksumError")
    (warning,) = expected_warnings
    assert VICTIM in str(warning.message)
    assert warning.filename == __file__


def test_a_substitute_is_read_where_its_plan_says(store: Store, expected_warnings: list[Any]) -> None:
    delete(store)
    with make_replacing(store) as loader:
        batches = list(loader)
    assert len(expected_warnings) == 1
    batch = next(batch for batch in batches if batch.num_replaced)
    for at, study in enumerate(batch.study):
        z, y, x = batch.plan.box_start[at]
        stored = store.read(study)[z : z + 16, y : y + 24, x : x + 24]
        np.testing.assert_allclose(batch.volume[at, 0], np.clip((stored + 1000) / 2000, 0, 1), rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            batch.affine[at] @ [0, 0, 0, 1], store.studies.affines[batch.rows[at]] @ [z, y, x, 1], rtol=1e-12
        )


@pytest.mark.filterwarnings("ignore::ctload.loading.quarantine.DamagedStudyWarning")  # what these tests are about
@pytest.mark.parametrize("world_size", [2, 4])
def test_substitutes_do_not_depend_on_the_ranks(store: Store, world_size: int) -> None:
    delete(store)
    delete(store, "synthetic-0001")
    with make_replacing(store) as loader:
        expected = [batch.volume for _ in range(2) for batch in loader]
    ranks = []
    for rank in range(world_size):
        with make_replacing(store, rank=rank, world_size=world_size) as loader:
            ranks.append([batch.volume for _ in range(2) for batch in loader])
    for step, volume in enumerate(expected):
        np.testing.assert_array_equal(np.concatenate([batches[step] for batches in ranks]), volume)


@pytest.mark.filterwarnings("ignore::ctload.loading.quarantine.DamagedStudyWarning")
def test_resume_repeats_the_substitutes(store: Store) -> None:
    delete(store)
    flip_bit(store, "synthetic-0002")
    assert_resumes_identically(lambda: make_replacing(store, **whole()), num_epochs=3)


def test_resume_does_not_read_a_study_of_the_quarantine_again(
    store: Store, expected_warnings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(store)
    with make_replacing(store) as loader:
        list(loader)
        state = json.loads(json.dumps(loader.state_dict()))
        expected = [batch_digest(batch) for batch in loader]
    assert from_state(state["quarantine"])[0].study == VICTIM
    rows: list[int] = []
    start_read = Store.start_read

    def noted(self: Store, row: int, *args: Any, **options: Any) -> Any:
        rows.append(row)
        return start_read(self, row, *args, **options)

    monkeypatch.setattr(Store, "start_read", noted)
    with make_replacing(store) as loader:
        loader.load_state_dict(state)
        assert [batch_digest(batch) for batch in loader] == expected
    assert rows
    assert store.studies.row_of(VICTIM) not in rows
    assert len(expected_warnings) == 1  # said once, not again after the resume


def test_only_delivered_batches_enter_the_quarantine(store: Store, expected_warnings: list[Any]) -> None:
    delete(store, "synthetic-0007")
    with make_replacing(store, sampler=SequentialSampler(1), prefetch=7) as loader:
        for batch in loader:
            if batch.study == ("synthetic-0005",):  # the damaged one was met in reading ahead
                break
        assert loader.state_dict()["quarantine"] == []
        rest = list(loader)
        assert [record["study"] for record in loader.state_dict()["quarantine"]] == ["synthetic-0007"]
    assert [batch.num_replaced for batch in rest] == [0, 1]
    assert len(expected_warnings) == 1


def test_a_stratum_without_a_readable_member_is_an_error(store: Store) -> None:
    for study in store.studies.ids:
        delete(store, study)
    with make_replacing(store) as loader, pytest.raises(SamplerError, match="were tried; repair the store"):
        list(loader)


def test_other_errors_are_raised_whatever_on_corrupt_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise CtloadError("the disk is on fire", study="?")

    monkeypatch.setattr(Store, "start_read", fail)
    with make_replacing(store) as loader, pytest.raises(CtloadError, match="on fire"):
        list(loader)


def test_quarantines_of_ranks_merge_into_one() -> None:
    def record(study: str, step: int) -> dict[str, Any]:
        return {"study": study, "substitute": "x", "epoch": 0, "step": step, "error": "E", "message": "m"}

    merged = merge([[record("b", 3), record("a", 5)], [record("a", 1)], []])
    assert [(entry["study"], entry["step"]) for entry in merged] == [("a", 1), ("b", 3)]


def test_the_metadata_of_a_study_are_checked_too(store: Store) -> None:
    metadata = store.path / study_folder(VICTIM) / "0" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("1024", "1023"))
    with make(open_store(store.path)) as loader, pytest.raises(ChecksumError, match=VICTIM):
        list(loader)
