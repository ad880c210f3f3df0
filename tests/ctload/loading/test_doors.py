"""Damaged inputs at every door end in a value or a typed error; bombs are refused before memory is taken.

The short version of `python -m benchmarks.fuzz`: the same doors, with inputs that hypothesis draws.
"""

import io
import resource
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from benchmarks.choices import Choices
from benchmarks.fuzz import DOORS, attempt_of
from ctload.errors import GeometryError, IngestError
from ctload.readers import read_source, series
from tests.ctload.dicom_files import ct_slice, multi_frame, write_series
from tests.ctload.nifti_files import ramp, write_nifti

REPOSITORY = Path(__file__).resolve().parents[3]
SPARE_BYTES = 300 << 20  # what a child may take beyond what its imports took


@pytest.mark.parametrize("door", DOORS)
def test_whatever_comes_in_is_read_or_is_a_typed_error(tmp_path, door):
    attempt = attempt_of(door, tmp_path, None)

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.binary(min_size=1, max_size=200))
    def run(content: bytes) -> None:
        attempt(content)

    run()


def test_choices_are_within_their_bounds_and_end_in_the_first_option():
    choices = Choices(bytes(range(250, 256)) * 5)
    assert all(0 <= choices.number(count) < count for count in (1, 2, 255, 256, 257, 70_000))
    while not choices.is_over:
        choices.number(2)
    assert (choices.number(9), choices.pick("abc"), choices.take(2)) == (0, "a", b"\0\0")


def read_in_small_child(path: Path) -> str:
    """What reading a source says in a process that can take no more than SPARE_BYTES beyond its imports."""
    code = f"""
import resource, sys
from ctload.errors import CtloadError
from ctload.readers import dicom, nifti, read_source
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {SPARE_BYTES}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    read_source(sys.argv[1])
except CtloadError as error:
    print(error.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    return done.stdout.strip() or done.stderr[-500:]


def nifti_bomb(folder: Path) -> Path:
    """1 GiB of zeros behind a valid header of 210 voxels, in 1 MB."""
    path = write_nifti(folder / "a.nii", ramp((5, 6, 7)))
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    content = packer.compress(path.read_bytes())
    content += b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    bomb = folder / "bomb.nii.gz"
    bomb.write_bytes(content)
    return bomb


def absurd_nifti(folder: Path) -> Path:
    content = bytearray(write_nifti(folder / "a.nii", ramp((5, 6, 7))).read_bytes())
    content[42:48] = np.array([32_000, 32_000, 32_000], "<i2").tobytes()
    (folder / "absurd.nii").write_bytes(content)
    return folder / "absurd.nii"


def zip_bomb(folder: Path) -> Path:
    """Ten files of 1 GiB of zeros each."""
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("0.dcm", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 24))
        info = archive.infolist()[0]
    content = bytearray((folder / "bomb.zip").read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (9 << 30 & 0xFFFFFFFF).to_bytes(4, "little")
    assert info.file_size == 1 << 30
    (folder / "bomb.zip").write_bytes(content)
    return folder / "bomb.zip"


def deflated_dicom_bomb(folder: Path) -> Path:
    """A slice of the deflated syntax that inflates to 1 GiB."""
    dataset = ct_slice(0)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    content = out.getvalue()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    inner = packer.compress(zlib.decompress(content[start:], -zlib.MAX_WBITS))
    inner += b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    (folder / "s").mkdir()
    (folder / "s" / "a.dcm").write_bytes(content[:start] + inner)
    return folder / "s"


def absurd_rows(folder: Path) -> Path:
    def change(_, dataset):
        dataset.Rows = dataset.Columns = 65535

    return write_series(folder / "s", change=change)


def absurd_frames(folder: Path) -> Path:
    def change(_, dataset):
        dataset.NumberOfFrames = 2**31 - 1

    (folder / "s").mkdir()
    multi_frame(change=change).save_as(folder / "s" / "a.dcm", enforce_file_format=True)
    return folder / "s"


def absurd_frame_size(folder: Path) -> Path:
    def change(_, dataset):
        dataset.Rows = dataset.Columns = 65535

    (folder / "s").mkdir()
    multi_frame(change=change).save_as(folder / "s" / "a.dcm", enforce_file_format=True)
    return folder / "s"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure what imports took")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (nifti_bomb, "UNDECODABLE"),
        (absurd_nifti, "UNDECODABLE"),
        (zip_bomb, "UNDECODABLE"),
        (deflated_dicom_bomb, "UNDECODABLE"),
        (absurd_rows, "UNDECODABLE"),
        (absurd_frames, "NO_GEOMETRY"),
        (absurd_frame_size, "UNDECODABLE"),
    ],
)
def test_bombs_and_absurd_headers_are_refused_before_memory_is_taken(tmp_path, make, code):
    assert resource.getpagesize() > 0
    assert read_in_small_child(make(tmp_path)) == code


def test_an_honest_slice_of_the_deflated_syntax_is_read_and_the_limit_is_its_inflated_size(tmp_path, monkeypatch):
    def change(_, dataset):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    folder = write_series(tmp_path / "s", change=change)
    assert np.array_equal(read_source(folder).voxels, read_source(write_series(tmp_path / "t")).voxels)
    monkeypatch.setattr(series, "MAX_INFLATED_BYTES", 200)
    with pytest.raises(IngestError, match="inflates to more than"):
        read_source(folder)


def test_a_multi_frame_object_has_as_many_frames_as_groups(tmp_path):
    def change(_, dataset):
        dataset.NumberOfFrames = 6

    (tmp_path / "s").mkdir()
    multi_frame(5, change=change).save_as(tmp_path / "s" / "a.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError, match="6 frames are declared and 5"):
        read_source(tmp_path / "s")
