"""DICOM beyond plain single frames: compressed syntaxes, enhanced multi-frame objects, tilt and varying gaps."""

import io
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from ctload.errors import GeometryError, IngestError
from ctload.readers import read_source
from tests.ctload.dicom_files import multi_frame, set_pixels, stored_pixels, write_series
from tests.ctload.nifti_files import write_nifti
from tests.shared_data import ct

SYNTAXES = "transfer_syntaxes_chest_slice/dicom.zip"

LOSSLESS = [
    "BigEndianExplicit", "DeflatedExplicit", "LittleEndianExplicit", "RLELossless", "JPEG2000LosslessOnly",
    "JPEGLSLossless", "JPEGProcess14Transfer", "JPEGProcess14SV1",
]  # fmt: skip

# Largest mean error in HU against the lossless pixels.
LOSSY = {"JPEG2000Transfer": 1, "JPEGLSLossy": 1, "JPEGProcess1Transfer": 25}

# No free decoder for 12 bits or for retired processes.
UNDECODABLE = ["JPEGProcess2_4", "JPEGProcess6_8", "JPEGProcess10_12"]


def series_of_three(folder, kind):
    """The one real slice of a transfer syntax, three times, 5 mm apart; its compressed bytes as they are."""
    with zipfile.ZipFile(ct(SYNTAXES)) as archive:
        name = next(name for name in archive.namelist() if kind in name)
        content = archive.read(name)
    folder.mkdir(exist_ok=True)
    for number in range(3):
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.SOPInstanceUID = generate_uid()
        dataset.ImagePositionPatient = [-161.4, -148.8, 5.0 * number]
        dataset.save_as(folder / f"{number}.dcm")
    return folder


@pytest.fixture(scope="module")
def uncompressed(tmp_path_factory):
    return read_source(series_of_three(tmp_path_factory.mktemp("plain"), "LittleEndianImplicit")).voxels


@pytest.fixture
def gdcm():
    return pytest.importorskip("gdcm", reason="needs python-gdcm (the dicom extra) for compressed pixels")


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_syntaxes_give_the_same_hu(tmp_path, kind, uncompressed, gdcm):
    volume = read_source(series_of_three(tmp_path / "s", kind))
    assert np.array_equal(volume.voxels, uncompressed)
    assert not volume.left_out


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_syntaxes_are_read_and_said_to_be_lossy(tmp_path, kind, uncompressed, gdcm):
    volume = read_source(series_of_three(tmp_path / "s", kind))
    assert 0 < np.abs(volume.voxels - uncompressed.astype(float)).mean() < LOSSY[kind]
    assert "lossy" in volume.left_out[0]


@pytest.mark.parametrize("kind", UNDECODABLE)
def test_what_cannot_be_decoded_is_refused(tmp_path, kind):
    with pytest.raises(IngestError, match="UNDECODABLE"):
        read_source(series_of_three(tmp_path / "s", kind))


@pytest.mark.parametrize("kind", ["RLELossless", "JPEG2000LosslessOnly", "JPEGLSLossless", "DeflatedExplicit"])
def test_a_truncated_compressed_slice_is_refused(tmp_path, kind, gdcm):
    folder = series_of_three(tmp_path / "s", kind)
    content = (folder / "1.dcm").read_bytes()
    for share in (0.5, 0.99):
        (folder / "1.dcm").write_bytes(content[: int(share * len(content))])
        with pytest.raises(IngestError, match=r"TRUNCATED|UNDECODABLE"):
            read_source(folder)


def test_absurd_sizes_are_refused_before_pixels_are_decoded(tmp_path):
    def change(_, dataset):
        dataset.Rows = dataset.Columns = 65535

    with pytest.raises(IngestError, match="GiB"):
        read_source(write_series(tmp_path / "s", change=change))


def saved(folder, dataset):
    folder.mkdir()
    dataset.save_as(folder / "a.dcm", enforce_file_format=True)
    return folder


def test_an_enhanced_object_is_read_frame_by_frame(tmp_path):
    volume = read_source(saved(tmp_path / "s", multi_frame()))
    expected = np.stack([stored_pixels(number).astype(int) - 1024 - number for number in range(5)])
    assert np.array_equal(volume.voxels, expected)
    assert np.allclose(volume.affine @ [2, 3, 4, 1], [12 - 4 * 0.8, 34 - 3 * 0.7, 105, 1])


def test_a_real_enhanced_object_equals_its_single_frames():
    path = ct("dcmqi_mini_multiframe/dicom.zip")
    with pytest.raises(IngestError, match="MULTI_SERIES") as raised:
        read_source(path)
    text = str(raised.value).split("volume: ")[1]
    volumes = [read_source(path, series=part.split()[0]) for part in text.split(", ")[:2]]
    assert sorted(volume.voxels.shape for volume in volumes) == [(3, 38, 24)] * 2
    assert np.array_equal(volumes[0].voxels, volumes[1].voxels)
    assert np.allclose(volumes[0].affine, volumes[1].affine, atol=1e-6)


def drop_per_frame(dataset):
    del dataset.PerFrameFunctionalGroupsSequence


def drop_shared(dataset):
    del dataset.SharedFunctionalGroupsSequence


def drop_a_frame(dataset):
    dataset.PerFrameFunctionalGroupsSequence.pop()


def drop_a_rescale(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence


def repeat_a_position(dataset):
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[1].PlanePositionSequence = frames[0].PlanePositionSequence


def cut_pixels(dataset):
    dataset.PixelData = dataset.PixelData[:-96]


@pytest.mark.parametrize(
    ("code", "edit"),
    [
        ("NO_GEOMETRY", drop_per_frame),
        ("NO_GEOMETRY", drop_shared),
        ("NO_GEOMETRY", drop_a_frame),
        ("MISSING_RESCALE", drop_a_rescale),
        ("DUPLICATE_POSITION", repeat_a_position),
        ("TRUNCATED", cut_pixels),
    ],
)
def test_what_is_wrong_with_an_enhanced_object_has_its_code(tmp_path, code, edit):
    folder = saved(tmp_path / "s", multi_frame(change=lambda _, dataset: edit(dataset)))
    with pytest.raises((IngestError, GeometryError), match=code):
        read_source(folder)


def test_several_enhanced_objects_in_one_series_are_refused(tmp_path):
    folder = saved(tmp_path / "s", multi_frame())
    dataset = multi_frame()
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(folder / "b.dcm", enforce_file_format=True)
    with pytest.raises(IngestError, match="MULTI_FRAME"):
        read_source(folder)


def linear_field(place):
    """HU that are linear in mm, LPS."""
    return 3.0 * place[..., 0] - 4.0 * place[..., 1] + 5.0 * place[..., 2] - 200


def field_series(folder, heights_mm, *, lean, sideways=0.0):
    """Slices of 6 x 8 that sample the field where they lie: `lean` mm of y and `sideways` mm of x per mm of height."""

    def change(number, dataset):
        position = np.array([-12 + sideways * heights_mm[number], -34 + lean * heights_mm[number], heights_mm[number]])
        rows, columns = np.meshgrid(np.arange(6), np.arange(8), indexing="ij")
        place = position + np.stack([0.8 * columns, 0.7 * rows, np.zeros((6, 8))], axis=-1)
        dataset.ImagePositionPatient = position.tolist()
        set_pixels(dataset, np.rint(linear_field(place) * 10).astype(np.int16), bits_stored=16)
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.1", 0

    return write_series(folder, len(heights_mm), change=change)


@pytest.mark.parametrize(
    ("heights_mm", "lean", "sideways"),
    [
        (2.5 * np.arange(8), 0.3, 0.0),
        (2.5 * np.arange(8), -0.3, 0.2),
        (np.cumsum([0, 2, 2, 2, 3.1, 3.1, 3.1, 3.1]), 0.0, 0.0),
        (np.cumsum([0, 2, 2, 2, 0.9, 3.1, 3.1, 3.1]), 0.25, -0.1),
    ],
)
def test_irregular_slices_are_resampled_to_where_they_lie(tmp_path, heights_mm, lean, sideways):
    folder = field_series(tmp_path / "s", heights_mm, lean=lean, sideways=sideways)
    with pytest.raises(GeometryError, match=r"GANTRY_TILT|NON_UNIFORM"):
        read_source(folder)
    volume = read_source(folder, resample_irregular=True)
    index = np.stack(np.meshgrid(*map(np.arange, volume.voxels.shape), indexing="ij"), axis=-1)
    place = (index @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    reached = volume.voxels != -1024
    assert reached.mean() > 0.1
    assert np.abs(volume.voxels - linear_field(place))[reached].max() <= 0.06  # stored in steps of 0.1 HU
    assert volume.affine[2, 0] * (len(volume.voxels) - 1) == pytest.approx(heights_mm[-1] - heights_mm[0])
    assert "resampled" in volume.left_out[-1]


def test_regular_slices_are_not_touched_by_asking_for_resampling(tmp_path):
    folder = write_series(tmp_path / "s")
    plain, asked = read_source(folder), read_source(folder, resample_irregular=True)
    assert np.array_equal(plain.voxels, asked.voxels)
    assert asked.voxels.dtype == np.int16


def test_missing_slices_are_not_invented(tmp_path):
    with pytest.raises(GeometryError, match="GAP"):
        read_source(write_series(tmp_path / "a", 7, skip=(3,)), resample_irregular=True)
    with pytest.raises(GeometryError, match="GAP"):
        read_source(field_series(tmp_path / "b", [0, 2.5, 5, 7.5, 60.2, 62.7], lean=0.2), resample_irregular=True)


def test_a_real_tilted_head_agrees_with_the_correction_of_dcm2niix():
    """Above -300 HU: median difference at most 5 HU, r at least 0.98, and worse when shifted by one row."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy (the train extra)")
    folder = ct("dcmqa_ge_head_tilt_varspacing")
    ours = read_source(folder / "dicom.zip", resample_irregular=True)
    theirs = read_source(folder / "nifti_dcm2niix" / "2__Tilt_Eq_1.nii.gz")
    index = np.stack(np.meshgrid(*map(np.arange, theirs.voxels.shape), indexing="ij"), axis=-1).reshape(-1, 3)[::11]
    expected = theirs.voxels[tuple(index.T)]
    index, expected = index[expected > -300], expected[expected > -300]
    places = np.c_[index, np.ones(len(index))] @ theirs.affine.T

    def difference(rows):
        moved = ours.affine.copy()
        moved[:, 3] += rows * moved[:, 1]
        found = ndimage.map_coordinates(
            ours.voxels, (places @ np.linalg.inv(moved).T)[:, :3].T, order=1, mode="nearest"
        )
        return np.median(np.abs(found - expected)), np.corrcoef(found, expected)[0, 1]

    median, r = difference(0)
    assert median <= 5
    assert r >= 0.98
    for rows in (-1, 1):
        assert difference(rows)[0] > 2 * median
        assert difference(rows)[1] < r


def test_a_label_map_in_another_axis_order_rides_along(tmp_path):
    """The image is DICOM, its label map a NIfTI with rows the other way round."""
    image = read_source(write_series(tmp_path / "s"))
    labels = np.arange(image.voxels.size).reshape(image.voxels.shape) % 200
    flipped = image.affine[:, [2, 1, 0, 3]].copy()  # (x, y, z)
    flipped[:3, 3] += flipped[:3, 1] * (image.voxels.shape[1] - 1)
    flipped[:3, 1] *= -1
    path = write_nifti(tmp_path / "labels.nii.gz", labels[:, ::-1].T.astype(np.uint8), sform=flipped)
    joined = read_source(tmp_path / "s", labels={"organs": path})
    back = np.linalg.inv(joined.affine) @ image.affine
    for place in ((0, 0, 0), (4, 5, 7), (2, 1, 6)):
        there = tuple(np.rint(back @ [*place, 1])[:3].astype(int))
        assert joined.labels["organs"][there] == labels[place]
        assert joined.voxels[there] == image.voxels[place]
