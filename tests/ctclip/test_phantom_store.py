"""Phantoms and their store, made where they are missing."""

import pytest

from ctclip.errors import ConfigError
from ctclip.phantom.knobs import DEMO_FINDINGS, DEMO_SECTIONS
from ctclip.phantom_store import PhantomOrder, ensure_phantoms, ensure_store
from ctclip.reports.sections import SECTIONS
from ctload.storage.store import open_store


def test_what_is_there_is_not_made_again_and_what_was_interrupted_is(tmp_path):
    order = PhantomOrder(tmp_path / "ph", 4, 2, 2, workers=1)
    left = tmp_path / "ph.partial"
    left.mkdir()
    (left / "half").write_text("left by an interrupted call")
    cohort = ensure_phantoms(order)
    assert set(cohort.findings) == set(DEMO_FINDINGS)
    assert cohort.split_counts() == {"train": 4, "val": 2, "test": 2}
    assert not left.exists()
    before = {path: path.stat().st_mtime_ns for path in order.folder.rglob("*")}
    again = ensure_phantoms(order)
    assert again.table.equals(cohort.table)
    assert {path: path.stat().st_mtime_ns for path in order.folder.rglob("*")} == before
    store = ensure_store(order.folder, tmp_path / "ph.zarr", workers=1)
    assert sorted(open_store(store).studies.ids) == sorted(cohort.studies)


@pytest.mark.parametrize("knobs", ["loud", "planted", "planted:10:90", "demo:25:75", ""])
def test_knobs_of_another_name_are_refused_before_anything_is_written(tmp_path, knobs):
    with pytest.raises(ConfigError, match="no phantom knobs"):
        ensure_phantoms(PhantomOrder(tmp_path / "ph", 2, 1, 1, knobs=knobs))
    assert not list(tmp_path.iterdir())


def test_a_planted_cohort_has_the_studys_knobs_and_its_ratio(tmp_path):
    order = PhantomOrder(tmp_path, 1, 1, 1, knobs="planted:75:25")
    assert order.chosen_knobs().planted == "75:25"
    study = PhantomOrder(tmp_path, 1, 1, 1, knobs="study").chosen_knobs()
    assert order.chosen_knobs().normal_share == study.normal_share == 0.3
    assert order.sections() == DEMO_SECTIONS
    assert PhantomOrder(tmp_path, 1, 1, 1, knobs="realistic").sections() == SECTIONS
