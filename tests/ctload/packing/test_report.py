"""The report of a pack: every source once, with its state, on the terminal and as JSON and CSV."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ctload.cli import main
from ctload.errors import CtloadError
from ctload.packing.packer import pack
from ctload.packing.report import PackReport, lines_of, write_report
from ctload.scanning.refusal import Refusal
from ctload.storage.preset import Preset
from ctload.storage.store import open_store
from tests.ctload.canonical_nifti import SHAPE, voxels_of, write_nifti
from tests.ctload.dicom_files import write_series
from tests.ctload.exports import in_study


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    low = np.zeros(SHAPE, np.int16)
    low[0, 0, :3], low[0, 1, :5] = -2000, 4000
    write_nifti(tmp_path / "in" / "clipped.nii", low)
    write_nifti(tmp_path / "in" / "plain.nii.gz", voxels_of(1))
    write_series(tmp_path / "in" / "gap", 7, series="gap", change=in_study("gap"), skip=(2,))
    write_series(tmp_path / "in" / "good", 5, series="good", change=in_study("good"))
    return tmp_path / "in"


CLIPPED = Preset("clipped", clip_hu=(-1024, 3071))


def test_json_has_one_entry_per_source_and_sums_that_fit(sources, tmp_path):
    pack([sources], tmp_path / "store", preset=CLIPPED)
    write_nifti(sources / "plain.nii.gz", voxels_of(2))
    report = pack([sources], tmp_path / "store", preset=CLIPPED)
    write_report(report, tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    states = {entry["study"]: entry["state"] for entry in told["studies"]}
    assert sorted(states.values()) == ["packed", "refused", "reused", "reused"]
    assert states["plain"] == "packed"
    assert told["counts"] == {
        "packed": len(report.packed), "reused": len(report.reused), "refused": 1, "in_store": 3,
    }  # fmt: skip
    assert told["refused_by_code"] == {"GAP": 1}
    assert (told["num_clipped_low"], told["num_clipped_high"]) == (3, 5)
    clipped = next(entry for entry in told["studies"] if entry["study"] == "clipped")
    assert (clipped["num_clipped_low"], clipped["depth"], clipped["unit"]) == (3, SHAPE[0], "HU")
    hashes = set(open_store(tmp_path / "store").studies.column("source"))
    assert hashes == {entry["source"] for entry in told["studies"] if entry["state"] != "refused"}


def test_csv_has_the_same_entries(sources, tmp_path):
    report = pack([sources], tmp_path / "store", preset=CLIPPED)
    for name in ("report.json", "report.csv"):
        write_report(report, tmp_path / name)
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads((tmp_path / "report.json").read_text())["studies"]
    assert [(row["study"], row["state"], row["code"]) for row in rows] == [
        (entry["study"], entry["state"], entry["code"]) for entry in told
    ]
    assert next(row for row in rows if row["study"] == "clipped")["num_clipped_high"] == "5"


def test_paths_are_in_a_report_only_when_asked_for(sources, tmp_path):
    report = pack([sources], tmp_path / "store", preset=CLIPPED)
    for suffix in ("json", "csv"):
        for shown in (False, True):
            write_report(report, tmp_path / f"r.{suffix}", show_paths=shown)
            assert (str(sources) in (tmp_path / f"r.{suffix}").read_text()) == shown


def test_a_report_that_cannot_be_written_stops_the_pack_before_it_begins(sources, tmp_path, capsys):
    words = ["pack", str(sources), "--out", str(tmp_path / "store"), "--preset", "native", "--report"]
    for place in (tmp_path / "report.txt", tmp_path / "nowhere" / "report.json"):
        assert main([*words, str(place)]) == 2
        assert not (tmp_path / "store").exists()
    assert "report" in capsys.readouterr().err
    with pytest.raises(CtloadError, match=r"\.json or \.csv"):
        write_report(PackReport(tmp_path, (), (), 0), tmp_path / "report")


def test_a_terminal_shows_the_first_refusals_and_counts_all():
    many = tuple(Refusal(f"s{number:03d}", "/p", "GAP", "a gap", "/p: a gap", "h") for number in range(250))
    lines = lines_of(PackReport(Path("store"), (), many, 0), show_paths=False)
    assert sum(line.startswith("refused [GAP]") for line in lines) == 100
    assert "... and 150 more refused; --report FILE lists them all" in lines
    assert "      250  refused: GAP" in lines
    assert lines[-1].startswith("store: packed 0, reused 0, refused 250; ")
    assert not any("/p" in line for line in lines)


def test_the_status_says_whether_anything_was_refused(sources, tmp_path):
    words = ["--out", str(tmp_path / "store"), "--preset", "native"]
    assert main(["pack", str(sources / "good"), *words]) == 0
    assert main(["pack", str(sources), *words]) == 1
    assert main(["pack", str(sources / "good"), *words]) == 0
