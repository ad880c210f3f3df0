"""Which series of a study is packed: by a rule, by an edited table, or refused; never guessed."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctload.cli import main
from ctload.errors import CtloadError, ManifestError, SeriesRuleError
from ctload.packing.packer import pack
from ctload.storage.store import open_store
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti
from tests.ctload.dicom_files import stored_pixels, write_series, zipped
from tests.ctload.exports import in_study, write_export


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


def refused(report) -> list[str]:
    return sorted(refusal.code for refusal in report.refused)


def scan_table(export: Path, *options: str) -> Path:
    table = export.parent / "series.csv"
    assert main(["scan", str(export), "--out", str(table), *options]) == 0
    return table


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_without_a_rule_a_study_of_several_series_is_refused(export, tmp_path):
    report = pack([export], tmp_path / "store", preset="native")
    assert refused(report) == ["GANTRY_TILT", "GAP", "MULTI_SERIES"]
    assert len(report.packed) == 1
    tie = next(refusal for refusal in report.refused if refusal.code == "MULTI_SERIES")
    assert "3 series may be the volume" in tie.reason
    assert "--series-rule" in tie.reason


def test_series_of_one_study_in_folders_of_their_own_are_still_one_study(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / name, 5, series=name, change=in_study("same"))
    report = pack([tmp_path / "a", tmp_path / "b"], tmp_path / "store", preset="native")
    assert refused(report) == ["MULTI_SERIES"]


@pytest.mark.parametrize(
    ("rule", "packed", "codes"),
    [
        ("kernel=B30f; most slices", 2, ["GANTRY_TILT", "GAP"]),
        ("thickness<=3", 1, ["GANTRY_TILT", "GAP", "MULTI_SERIES"]),
        ("kernel=B70f", 1, ["GANTRY_TILT", "GAP", "NO_SERIES"]),
        ("prefer kernel=B70f", 2, ["GANTRY_TILT", "GAP"]),
        ("all", 4, ["GANTRY_TILT", "GAP"]),
    ],
)
def test_a_rule_chooses_and_what_it_cannot_decide_is_refused(export, tmp_path, rule, packed, codes):
    report = pack([export], tmp_path / "store", preset="native", series_rule=rule)
    assert (len(report.packed), refused(report)) == (packed, codes)
    assert verify(tmp_path / "store").is_sound


def test_the_chosen_series_is_the_one_whose_voxels_are_stored(export, tmp_path):
    report = pack([export / "flat"], tmp_path / "store", preset="native", series_rule="thickness=5")
    store = open_store(tmp_path / "store")
    voxels = store.read(report.packed[0])
    expected = np.stack([stored_pixels(number) for number in range(4)]).astype(int) - 1024
    np.testing.assert_array_equal(voxels, expected[:, ::-1, ::-1])


def test_another_choice_later_takes_the_place_of_the_earlier_one_only_when_it_is_dropped(export, tmp_path):
    words = ["pack", str(export / "flat"), "--out", str(tmp_path / "store"), "--preset", "native", "--series-rule"]
    assert main([*words, "thickness=5"]) == 0
    (study,) = open_store(tmp_path / "store").studies.ids
    assert main([*words, "kernel=B70f"]) == 1  # DUPLICATE_STUDY: another source under this id
    assert open_store(tmp_path / "store").read(study).shape[0] == 4
    assert main(["drop", str(tmp_path / "store"), study]) == 0
    assert main([*words, "kernel=B70f"]) == 0
    assert open_store(tmp_path / "store").read(study).shape[0] == 6


def test_a_series_is_not_stored_a_second_time_under_another_id(export, tmp_path):
    pack([export / "b"], tmp_path / "store", preset="native", series_rule="most slices")
    report = pack([export / "b"], tmp_path / "store", preset="native", series_rule="all")
    assert refused(report) == ["DUPLICATE_STUDY"]
    assert report.num_studies == 1


def test_irregular_slices_are_resampled_only_when_asked_and_that_is_told(export, tmp_path):
    store = tmp_path / "store"
    report = pack([export], store, preset="native", series_rule="kernel=B30f; most slices", resample_irregular=True)
    assert refused(report) == ["GAP"]
    assert [sentence for _, sentence in report.left_out if "resampled" in sentence] == [
        "resampled to even, upright slices: GANTRY_TILT"
    ]
    again = pack([export], store, preset="native", series_rule="kernel=B30f; most slices", resample_irregular=True)
    assert again.reused == report.packed
    # Regular series do not change with the option; the tilted one is refused, and stays until it is dropped.
    without = pack([export], store, preset="native", series_rule="kernel=B30f; most slices")
    assert len(without.reused) == 2
    assert ["the store keeps" in each.reason for each in without.refused if each.code == "GANTRY_TILT"] == [True]
    assert refused(without) == ["GANTRY_TILT", "GAP"]


def test_a_scan_table_and_its_sources_give_the_same_store(export, tmp_path):
    table = scan_table(export)
    by_table = pack([table], tmp_path / "one", preset="native", series_rule="most slices; kernel=B30f")
    direct = pack(
        [export], tmp_path / "two", preset="native", series_rule="most slices; kernel=B30f",
        keys=tmp_path / "series.csv.keys.json",
    )  # fmt: skip
    assert by_table.packed == direct.packed
    one, two = (open_store(tmp_path / name).studies.table for name in ("one", "two"))
    assert one.equals(two)
    again = pack([export], tmp_path / "one", preset="native", series_rule="most slices; kernel=B30f")
    assert again.reused == direct.packed


def test_an_edited_table_chooses_names_and_adds_columns(export, tmp_path):
    table = scan_table(export)
    rows = [row for row in rows_of(table) if row["kernel"] == "B70f" or row["path"].endswith("only")]
    for number, row in enumerate(rows):
        row["study"], row["split"] = f"study-{number}", "train"
    write_rows(table, rows)
    report = pack([table], tmp_path / "store", preset="native", carry=("kernel", "patient"))
    assert (report.packed, report.refused) == (("study-0", "study-1"), ())
    studies = open_store(tmp_path / "store").studies
    assert studies.column("split").tolist() == ["train", "train"]
    assert sorted(studies.column("kernel")) == ["B30f", "B70f"]
    assert set(studies.table.column_names).isdisjoint({"description", "reason", "kind", "code"})


def test_label_maps_named_in_a_scan_table_ride_along(tmp_path):
    voxels = voxels_of(1)
    write_nifti(tmp_path / "in" / "scan.nii.gz", voxels)
    labels = (voxels > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), np.diag([0.8, 0.8, 2.5, 1.0])), tmp_path / "liver.nii.gz")
    table = scan_table(tmp_path / "in")
    rows = [row | {"label:liver": "liver.nii.gz"} for row in rows_of(table)]
    write_rows(table, rows)
    assert pack([table], tmp_path / "store", preset="native").packed == ("scan",)
    np.testing.assert_array_equal(open_store(tmp_path / "store").read("scan", array="labels/liver"), labels)


def test_channels_named_in_a_scan_table_are_sibling_arrays_and_count_as_a_change(tmp_path):
    voxels, late = voxels_of(1), voxels_of(2)
    write_nifti(tmp_path / "in" / "scan.nii.gz", voxels)
    write_nifti(tmp_path / "late.nii.gz", late)
    table = scan_table(tmp_path / "in")
    write_rows(table, [row | {"channel:late": "late.nii.gz"} for row in rows_of(table)])
    assert pack([table], tmp_path / "store", preset="native").packed == ("scan",)
    store = open_store(tmp_path / "store")
    assert store.studies.table["channels"].to_pylist() == [["0", "1"]]
    np.testing.assert_array_equal(store.read("scan"), voxels)
    np.testing.assert_array_equal(store.read("scan", array="1"), late)
    assert pack([table], tmp_path / "store", preset="native").reused == ("scan",)
    write_nifti(tmp_path / "late.nii.gz", voxels_of(3))
    assert pack([table], tmp_path / "store", preset="native").packed == ("scan",)
    np.testing.assert_array_equal(open_store(tmp_path / "store").read("scan", array="1"), voxels_of(3))


def test_a_series_that_is_gone_since_the_scan_is_refused(export, tmp_path):
    table = scan_table(export)
    for file in (export / "b" / "only").iterdir():
        file.unlink()
    report = pack([table], tmp_path / "store", preset="native", series_rule="all")
    assert refused(report) == ["GANTRY_TILT", "GAP", "NOT_A_VOLUME"]


def test_a_scan_table_needs_its_key(export, tmp_path):
    table = scan_table(export)
    table.with_name("series.csv.keys.json").unlink()
    with pytest.raises(CtloadError, match="no key map here"):
        pack([table], tmp_path / "store", preset="native")


def test_tables_of_two_keys_and_a_foreign_key_are_refused(export, tmp_path):
    first = scan_table(export)
    second = tmp_path / "other.csv"
    assert main(["scan", str(export), "--out", str(second)]) == 0
    with pytest.raises(ManifestError, match="different keys"):
        pack([first, second], tmp_path / "store", preset="native")
    with pytest.raises(CtloadError, match="leave --keys out"):
        pack([first], tmp_path / "store", preset="native", keys=tmp_path / "other.csv.keys.json")
    pack([first], tmp_path / "store", preset="native", series_rule="all")
    with pytest.raises(CtloadError, match="another key"):
        pack([second], tmp_path / "store", preset="native", series_rule="all")


def test_one_series_of_a_zip_of_several_is_read_alone(tmp_path):
    write_series(tmp_path / "x", 5, series="a", change=in_study("one"))
    write_series(tmp_path / "x", 7, series="b", change=in_study("one"))
    report = pack([zipped(tmp_path / "x")], tmp_path / "store", preset="native", series_rule="least slices")
    assert [each.row["depth"] for each in report.studies] == [5]


def test_a_table_with_a_rule_for_a_column_that_is_not_there_is_an_error(export, tmp_path):
    with pytest.raises(SeriesRuleError, match="'quality'"):
        pack([export], tmp_path / "store", preset="native", series_rule="quality=good")
    assert not (tmp_path / "store").exists()


def test_a_column_that_the_user_added_can_be_asked_for(export, tmp_path):
    table = scan_table(export)
    write_rows(table, [row | {"quality": "good" if row["kernel"] == "B70f" else "fair"} for row in rows_of(table)])
    report = pack([table], tmp_path / "store", preset="native", series_rule="prefer quality=good")
    assert sorted(each.row["depth"] for each in report.studies) == [5, 6]


@pytest.mark.parametrize("name", ["description", "path", "patient_id", "nonsense"])
def test_what_may_name_a_patient_is_not_carried(export, tmp_path, name):
    with pytest.raises(CtloadError, match="cannot be carried"):
        pack([export], tmp_path / "store", preset="native", carry=(name,))


def test_ids_of_nifti_files_can_be_hashed(tmp_path):
    write_nifti(tmp_path / "in" / "jane_doe.nii.gz", voxels_of(1))
    report = pack([tmp_path / "in"], tmp_path / "store", preset="native", hash_ids=True)
    (study,) = report.packed
    assert len(study) == 16
    table = scan_table(tmp_path / "in", "--hash-ids", "--keys", str(tmp_path / "store.keys.json"))
    assert [row["study"] for row in rows_of(table)] == [study]
    assert pack([table], tmp_path / "store", preset="native").reused == (study,)


def ct_rate_table(path: Path, *names: str) -> Path:
    head = "VolumeName,RescaleSlope,RescaleIntercept,XYSpacing,ZSpacing,ImagePositionPatient,ImageOrientationPatient\n"
    row = '{},1,-8192,"[0.7, 0.7]",1.5,"[-100.0, -120.0, 30.0]","[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]"\n'
    path.write_text(head + "".join(row.format(name) for name in names))
    return path


def test_the_metadata_of_ct_rate_gives_rescale_and_geometry_and_counts_as_a_change(tmp_path):
    stored = (voxels_of(1) + 8192).astype(np.int16)
    for name in ("train_1_a_1", "train_2_a_1"):
        path = tmp_path / "in" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        image = nib.Nifti1Image(stored.transpose(2, 1, 0), None)  # no sform and no qform, as in the first release
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nib.save(image, path)
    table = ct_rate_table(tmp_path / "metadata.csv", "train_1_a_1.nii.gz")
    store = tmp_path / "store"
    report = pack([tmp_path / "in"], store, preset="native", ct_rate_metadata=table)
    assert report.packed == ("train_1_a_1",)
    assert [(each.study, each.code) for each in report.refused] == [("train_2_a_1", "NOT_HU")]
    assert report.studies[0].row["spacing_z_mm"] == pytest.approx(1.5)
    np.testing.assert_array_equal(
        np.sort(open_store(store).read("train_1_a_1"), axis=None), np.sort(voxels_of(1), axis=None)
    )
    assert pack([tmp_path / "in"], store, preset="native", ct_rate_metadata=table).reused == ("train_1_a_1",)
    table.write_text(table.read_text().replace("1.5,", "2.0,"))
    assert pack([tmp_path / "in"], store, preset="native", ct_rate_metadata=table).packed == ("train_1_a_1",)


def test_eight_bit_values_are_packed_only_as_what_the_user_says(tmp_path, capsys):
    write_nifti(tmp_path / "grey.nii.gz", voxels_of(3).astype(np.uint8))
    words = ["pack", str(tmp_path / "grey.nii.gz"), "--out", str(tmp_path / "store"), "--preset", "native"]
    assert main(words) == 1
    assert main([*words, "--assume-hu"]) == 0
    assert main([*words, "--unit", "arbitrary"]) == 0
    assert open_store(tmp_path / "store").studies.column("unit").tolist() == ["arbitrary"]
    assert "packed 1, reused 0, refused 0" in capsys.readouterr().out.splitlines()[-1]
