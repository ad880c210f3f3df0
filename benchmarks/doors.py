"""The doors by which sources enter: NIfTI and DICOM. Choices in, a damaged source made, read and prepared.

Valid files, some of them real where there are any, are damaged field by field or byte by byte. Whatever comes of it
is a volume or a CtloadError; anything else leaves `attempt`, and is a bug.
"""

import gzip
import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from benchmarks.choices import NUMBERS, Choices, edited
from ctload.errors import CtloadError
from ctload.packing.resample import prepare
from ctload.readers import read_source
from ctload.storage.preset import Preset

# Largest source and largest volume; a fuzzer's process is limited to a few times that.
MAX_BYTES = 1 << 24
SHAPE = (5, 6, 7)
UNITS = (None, "HU", "arbitrary")
FLOATS = (0.0, 1.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"))
TEXTS = ("", "x", "\\", "1\\2", "nan", "inf", "-0", "1e400", "CT\\LOCALIZER", "\0", "9" * 300)


class Door(Protocol):
    """Where bytes from outside enter."""

    def attempt(self, choices: Choices) -> None:
        """Make a damaged input and give it to the library.

        Raises:
            Exception: Anything that is no CtloadError, which `attempt` keeps to itself.
        """
        ...


def read_and_prepare(path: Path, choices: Choices) -> None:
    """What a pack does with a source before it writes."""
    preset = choices.pick((Preset.from_name("native"), Preset.from_name("merlin"), Preset.from_name("9x9x9mm")))
    try:
        volume = read_source(
            path, unit=choices.pick(UNITS), resample_irregular=bool(choices.number(2)), max_bytes=MAX_BYTES
        )
        prepare(volume, preset)
    except CtloadError:
        return


class NiftiDoor:
    """.nii and .nii.gz.

    Args:
        folder: Scratch.
        real: Real files; of each the header, with a few of its voxels.
    """

    def __init__(self, folder: Path, real: Sequence[Path] = ()) -> None:
        self._folder = folder
        affine = np.diag([-0.8, 0.8, 2.5, 1.0])
        kinds = ((nib.Nifti1Image, np.int16), (nib.Nifti2Image, np.float32), (nib.Nifti1Image, np.uint8))
        voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 251
        images = [kind(voxels.astype(dtype), affine) for kind, dtype in kinds]
        images[2].header["scl_slope"], images[2].header["scl_inter"] = 8, -1024
        images += [nib.load(path).slicer[:5, :6, :7] for path in real]  # type: ignore[attr-defined]
        self._valid = [_nifti_bytes(image) for image in images]

    def attempt(self, choices: Choices) -> None:
        header, voxels = choices.pick(self._valid)
        header = header.copy()
        for _ in range(choices.number(4)):
            _set_field(header, choices)
        content = header.binaryblock + bytes(4) + voxels
        if choices.number(2):
            content = edited(content, choices, stop=560)
        if choices.number(3) == 0:
            content = gzip.compress(content, 1)
            if choices.number(2):
                content = edited(content, choices)
        path = self._folder / ("a.nii.gz" if choices.number(2) else "a.nii")
        path.write_bytes(content)
        read_and_prepare(path, choices)
        path.unlink()


def _nifti_bytes(image: Any) -> tuple[Any, bytes]:
    header = image.header.copy()
    voxels = np.asanyarray(image.dataobj.get_unscaled() if nib.is_proxy(image.dataobj) else image.dataobj)
    header["magic"] = b"n+2" if isinstance(header, nib.Nifti2Header) else b"n+1"
    header["vox_offset"] = len(header.binaryblock) + 4
    return header, voxels.tobytes(order="F")


def _set_field(header: Any, choices: Choices) -> None:
    """Give a field of a NIfTI header a value that breaks parsers, or any bytes."""
    name = choices.pick(header.structarr.dtype.names)
    field = header.structarr[name].reshape(-1)  # a view, but of a scalar: write back below
    kind = field.dtype
    if kind.kind in "iu":
        value: Any = choices.pick(NUMBERS) % (1 << (8 * kind.itemsize))
        raw = value.to_bytes(kind.itemsize, "little")
    elif kind.kind == "f":
        value = choices.pick((0.0, -0.0, 1e-30, 1e30, np.nan, np.inf, -np.inf, 1.0, -1.0, 352.5, 1e5, 1e-3))
        raw = np.array(value, kind.newbyteorder("<")).astype(kind.newbyteorder("<")).tobytes()
    else:
        raw = choices.take(kind.itemsize)
    block = bytearray(header.binaryblock)
    start = header.structarr.dtype.fields[name][1] + kind.itemsize * choices.number(field.size)
    block[start : start + kind.itemsize] = raw
    header.structarr[...] = np.frombuffer(bytes(block), header.structarr.dtype)[0]


class DicomDoor:
    """A folder or a zip of one series, one of its files damaged.

    Args:
        folder: Scratch.
        real: Zips of real series with small files; larger ones are left out.
    """

    def __init__(self, folder: Path, real: Sequence[Path] = ()) -> None:
        self._folder = folder
        syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian)
        self._valid = [[_saved(_slice(number), syntax) for number in range(4)] for syntax in syntaxes]
        self._valid.append([_saved(_multi_frame(4), ExplicitVRLittleEndian)])
        for path in real:
            self._valid += _series_of_zip(path)

    def attempt(self, choices: Choices) -> None:
        files = list(choices.pick(self._valid))
        for _ in range(1 + choices.number(2)):
            at = choices.number(len(files))
            if choices.number(2):
                files[at] = _with_damaged_element(files[at], choices)
            else:
                files[at] = edited(files[at], choices, start=128)
        if choices.number(4) == 0:
            path = self._folder / "a.zip"
            path.write_bytes(_zipped(files, choices))
            read_and_prepare(path, choices)
            path.unlink()
            return
        folder = self._folder / "series"
        folder.mkdir()
        for number, content in enumerate(files):
            (folder / f"{number}.dcm").write_bytes(content)
        read_and_prepare(folder, choices)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _slice(number: int) -> FileDataset:
    """One axial CT slice of 6 x 8 pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", str(number)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [-12.0, -34.0, 2.5 * number]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.8]
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 6, 8, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = (np.arange(48, dtype=np.uint16) * 40 + number).tobytes()
    return dataset


def _multi_frame(num_frames: int) -> FileDataset:
    dataset = _slice(0)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    measures, plane, shared, frames = Dataset(), Dataset(), Dataset(), []
    measures.PixelSpacing, plane.ImageOrientationPatient = [0.7, 0.8], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    for number in range(num_frames):
        frame, position, transform = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-12, -34, 2.5 * number]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1024, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [transform]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.NumberOfFrames, dataset.PixelData = num_frames, dataset.PixelData * num_frames
    return dataset


def _saved(dataset: FileDataset, syntax: UID) -> bytes:
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _series_of_zip(path: Path) -> list[list[bytes]]:
    """Files of up to 64 KiB, at most five of each folder of a zip."""
    folders: dict[str, list[bytes]] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and info.file_size <= 1 << 16:
                folders.setdefault(str(Path(info.filename).parent), []).append(archive.read(info))
    return [files[:5] for files in folders.values()]


def _with_damaged_element(content: bytes, choices: Choices) -> bytes:
    """The file with one element's value replaced or the element deleted; as it was where that cannot be written."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            place = dataset
            while choices.number(4) == 0:
                sequences = [element for element in place if element.VR == "SQ" and element.value]
                if not sequences:
                    break
                place = choices.pick(choices.pick(sequences).value)
            element = choices.pick(list(place))
            if choices.number(4) == 0:
                del place[element.tag]
            else:
                element._value = _value(choices)
            out = io.BytesIO()
            dataset.save_as(out)
            return out.getvalue()
    except Exception:  # pydicom will not write everything; the bytes are edited then
        return edited(content, choices, start=128)


def _value(choices: Choices) -> Any:
    kind = choices.number(5)
    if kind == 0:
        return choices.pick(NUMBERS)
    if kind == 1:
        return choices.pick(TEXTS)
    if kind == 2:
        return choices.take(choices.number(64))
    if kind == 3:
        return [choices.pick(FLOATS) for _ in range(choices.number(9))]
    return None


def _zipped(files: list[bytes], choices: Choices) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(files):
            archive.writestr(f"{number}.dcm", content)
    return edited(out.getvalue(), choices) if choices.number(2) else out.getvalue()
