"""DICOM folders and zips to volumes: values, geometry, and every way in which a series can be wrong."""

import random

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from ctload.errors import CtloadError, GeometryError, IngestError
from ctload.readers import find_sources, read_source
from tests.ctload.dicom_files import ct_slice, set_pixels, stored_pixels, write_series, zipped


def refusal(path, code, **options):
    """The error of a refused source; it names the source and nothing of the patient."""
    with pytest.raises((IngestError, GeometryError)) as raised:
        read_source(path, **options)
    assert raised.value.code == code
    assert str(path) in str(raised.value)
    assert "planted" not in str(raised.value).lower()
    return raised.value


def setting(**fields):
    """A change that sets these attributes on every slice, or on slice `only`."""
    only = fields.pop("only", None)

    def change(number, dataset):
        if only in (None, number):
            for name, value in fields.items():
                setattr(dataset, name, value) if value is not None else delattr(dataset, name)

    return change


def test_slices_are_ordered_by_position_and_rescaled(tmp_path):
    volume = read_source(write_series(tmp_path / "s"))
    expected = np.stack([stored_pixels(number).astype(int) - 1024 for number in range(5)])
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, expected)
    assert volume.unit == "HU"
    # (z, y, x) to RAS: x and y of LPS change sign.
    assert np.allclose(volume.affine @ [0, 0, 0, 1], [12, 34, 100, 1])
    assert np.allclose(volume.affine @ [2, 3, 4, 1], [12 - 4 * 0.8, 34 - 3 * 0.7, 105, 1])


def test_a_zip_and_nested_folders_give_the_same_volume(tmp_path):
    folder = write_series(tmp_path / "s" / "deep" / "er")
    (folder.parent / "notes.txt").write_text("not DICOM")
    (folder / ".hidden.dcm").write_text("not DICOM")
    plain, packed = read_source(tmp_path / "s"), read_source(zipped(tmp_path / "s"))
    assert np.array_equal(plain.voxels, packed.voxels)
    assert np.array_equal(plain.affine, packed.affine)


@pytest.mark.parametrize("bits_stored", [12, 16])
def test_signed_pixels_and_fill_values_are_kept(tmp_path, bits_stored):
    def change(number, dataset):
        pixels = stored_pixels(number).astype(np.int16) - 2048
        pixels[0, :2] = -2000
        set_pixels(dataset, pixels, bits_stored=bits_stored)
        dataset.PixelPaddingValue = -2000

    volume = read_source(write_series(tmp_path / "s", change=change))
    assert (volume.voxels[:, 0, :2] == -3024).all()
    assert volume.voxels[3, 4, 5] == int(stored_pixels(3)[4, 5]) - 2048 - 1024


def test_a_rescale_is_applied_slice_by_slice(tmp_path):
    def change(number, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = number + 1, -1000 * number

    volume = read_source(write_series(tmp_path / "s", change=change))
    expected = np.stack([stored_pixels(number).astype(int) * (number + 1) - 1000 * number for number in range(5)])
    assert np.array_equal(volume.voxels, expected)


def test_fractional_hu_stay_fractional(tmp_path):
    volume = read_source(write_series(tmp_path / "s", change=setting(RescaleSlope="0.1", only=2)))
    assert volume.voxels.dtype == np.float32
    assert np.allclose(volume.voxels[2], stored_pixels(2) * 0.1 - 1024, atol=1e-4)
    assert np.array_equal(volume.voxels[1], stored_pixels(1).astype(int) - 1024)


def test_hu_beyond_int16_become_int32(tmp_path):
    volume = read_source(write_series(tmp_path / "s", change=setting(RescaleIntercept=70_000, only=2)))
    assert volume.voxels.dtype == np.int32
    assert np.array_equal(volume.voxels[2], stored_pixels(2).astype(int) + 70_000)


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("MISSING_RESCALE", {"RescaleSlope": None, "only": 2}),
        ("MISSING_RESCALE", {"RescaleIntercept": None}),
        ("NOT_HU", {"RescaleType": "Z_EFF"}),
        ("UNDECODABLE", {"RescaleSlope": 0}),
        ("NO_GEOMETRY", {"ImagePositionPatient": None, "only": 1}),
        ("NO_GEOMETRY", {"PixelSpacing": None}),
        ("NO_GEOMETRY", {"ImageOrientationPatient": None}),
        ("MIXED_ORIENTATION", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "only": 1}),
        ("MIXED_SPACING", {"PixelSpacing": [0.7, 0.9], "only": 1}),
        ("DUPLICATE_POSITION", {"ImagePositionPatient": [-12, -34, 100], "only": 1}),
        ("NON_UNIFORM", {"ImagePositionPatient": [-12, -34, 103], "only": 1}),
        ("NON_CT", {"Modality": "MR"}),
        ("NON_CT", {"SamplesPerPixel": 3}),
        ("NON_CT", {"SOPClassUID": SecondaryCaptureImageStorage}),
        ("LOCALIZER", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("NOT_A_VOLUME", {"Rows": None}),
        ("MULTI_FRAME", {"NumberOfFrames": 4}),
        ("TRUNCATED", {"PixelData": bytes(20), "only": 3}),
        ("TRUNCATED", {"PixelData": None, "only": 3}),
        ("UNDECODABLE", {"SeriesInstanceUID": None, "only": 3}),
    ],
)
def test_what_is_wrong_with_a_series_has_its_code(tmp_path, code, fields):
    refusal(write_series(tmp_path / "s", change=setting(**fields)), code)


def test_missing_tilted_and_too_few_slices_have_their_codes(tmp_path):
    def lean(number, dataset):
        dataset.ImagePositionPatient = [-12, -34 + number, 100 + 2.5 * number]

    refusal(write_series(tmp_path / "gap", 6, skip=(2,)), "GAP")
    refusal(write_series(tmp_path / "tilt", change=lean), "GANTRY_TILT")
    refusal(write_series(tmp_path / "few", 2), "TOO_FEW_SLICES")


def test_localizers_screens_and_other_modalities_are_left_out_and_named(tmp_path):
    folder = write_series(tmp_path / "s")
    write_series(folder, 1, series="b", change=setting(ImageType=["DERIVED", "PRIMARY", "LOCALIZER"]))
    write_series(folder, 4, series="c", change=setting(Modality="SR", Rows=None))
    write_series(folder, 6, change=setting(ImageType=["DERIVED", "SECONDARY", "SCOUT"]), skip=tuple(range(5)))
    volume = read_source(folder)
    assert len(volume.voxels) == 5
    assert sorted(sentence.rsplit(": ", 1)[1] for sentence in volume.left_out) == [
        "LOCALIZER",
        "LOCALIZER",
        "NOT_A_VOLUME",
    ]


def test_several_series_are_refused_until_one_is_chosen(tmp_path):
    folder = write_series(tmp_path / "s", 5)
    write_series(folder, 7, series="b")
    error = refusal(folder, "MULTI_SERIES")
    alone = {size: find_sources(write_series(tmp_path / name, size, series=name))[0].study
             for name, size in (("a", 5), ("b", 7))}  # fmt: skip
    assert all(study in str(error) for study in alone.values())
    for size, study in alone.items():
        assert len(read_source(folder, series=study).voxels) == size
    assert len(read_source(folder, series=ct_slice(0, series="b").SeriesInstanceUID).voxels) == 7
    refusal(folder, "NOT_A_VOLUME", series="1.2.3")


def test_a_broken_series_beside_a_good_one_is_no_reason_to_take_the_good_one(tmp_path):
    folder = write_series(tmp_path / "s", 5)
    write_series(folder, 7, series="b", skip=(3,))
    refusal(folder, "MULTI_SERIES")


def test_an_mr_series_is_read_in_an_arbitrary_unit(tmp_path):
    change = setting(Modality="MR", RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    volume = read_source(write_series(tmp_path / "s", change=change), unit="arbitrary")
    assert volume.unit == "arbitrary"
    assert np.array_equal(volume.voxels[1], stored_pixels(1))


def test_ids_depend_on_the_series_and_the_key_alone(tmp_path):
    first, again = write_series(tmp_path / "one"), zipped(write_series(tmp_path / "two"))
    other = write_series(tmp_path / "three", series="b")
    ids = [find_sources(path)[0].study for path in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert find_sources(first, key=b"secret")[0].study != ids[0]
    assert [source.study for source in find_sources(tmp_path) if source.kind == "dicom"] == [ids[0], ids[2], ids[0]]


def test_a_refused_dicom_source_is_still_found(tmp_path):
    write_series(tmp_path / "a" / "one")
    write_series(tmp_path / "a" / "two", 2, series="b")
    (tmp_path / "a" / "bad.zip").write_bytes(b"PK\x03\x04 not a zip")
    found = find_sources(tmp_path / "a")
    assert [source.relative for source in found] == ["bad.zip", "one", "two"]
    assert len({source.study for source in found}) == 3
    refusal(found[0].path, "TRUNCATED")
    refusal(found[2].path, "TOO_FEW_SLICES")


def test_damaged_dicom_is_never_ignored(tmp_path):
    folder = write_series(tmp_path / "s", 7)
    file = sorted(folder.glob("*.dcm"))[3]
    whole = file.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[:300], whole[:500], whole[:-1]):
        file.write_bytes(content)
        with pytest.raises((IngestError, GeometryError)):
            read_source(folder)


def test_flipped_bits_give_the_same_volume_or_a_typed_error_or_only_other_pixels(tmp_path):
    """Plain DICOM has no checksum: a flip among pixels cannot be seen, one among headers must not crash."""
    folder = write_series(tmp_path / "s")
    file = sorted(folder.glob("*.dcm"))[2]
    whole, chosen, num_refused = file.read_bytes(), random.Random(3), 0
    for _ in range(250):
        bit = chosen.randrange(8 * 132, 8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            assert read_source(folder).voxels.ndim == 3
        except CtloadError:
            num_refused += 1
    assert num_refused > 20


def test_flipped_bits_of_a_zip_never_change_the_volume_unseen(tmp_path):
    path = zipped(write_series(tmp_path / "s"))
    truth, whole, chosen = read_source(path), path.read_bytes(), random.Random(4)
    num_refused = 0
    for _ in range(250):
        bit = chosen.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            volume = read_source(path)
        except CtloadError:
            num_refused += 1
        else:  # a flip in a time stamp or in a name
            assert np.array_equal(volume.voxels, truth.voxels)
            assert np.array_equal(volume.affine, truth.affine)
    assert num_refused > 150


def test_a_truncated_zip_and_a_sum_of_sizes_beyond_the_limit_are_refused(tmp_path):
    path = zipped(write_series(tmp_path / "s"))
    refusal(path, "UNDECODABLE", max_bytes=1000)
    path.write_bytes(path.read_bytes()[:-40])
    refusal(path, "TRUNCATED")


def test_a_folder_without_dicom_is_no_volume(tmp_path):
    (tmp_path / "notes.txt").write_text("no DICOM")
    refusal(tmp_path, "NOT_A_VOLUME")
    refusal(tmp_path / "absent", "NOT_A_VOLUME")
    refusal(tmp_path / "notes.txt", "NOT_A_VOLUME")
    with pytest.raises(IngestError, match="NOT_A_VOLUME"):
        find_sources(tmp_path)
