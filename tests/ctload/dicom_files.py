"""Small DICOM series for tests, written by pydicom."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

Change = Callable[[int, FileDataset], None]


def ct_slice(number: int, *, series: str = "a", height_mm: float | None = None, pixels: np.ndarray | None = None):
    """One axial CT slice of 6 x 8 pixels, 0.7 x 0.8 mm, 2.5 mm apart, stored 12 bits, intercept -1024."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["instance", series, str(number)])
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", series])
    dataset.PatientName, dataset.PatientID = "Planted^Name", "PLANTED-ID"
    dataset.SeriesDescription = "Planted description"
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = number + 1
    dataset.ImagePositionPatient = [-12.0, -34.0, 100.0 + 2.5 * number if height_mm is None else height_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.7, 0.8]  # between rows, between columns
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    set_pixels(dataset, stored_pixels(number) if pixels is None else pixels)
    return dataset


def stored_pixels(number: int) -> np.ndarray:
    """(6, 8) uint16 below 4096."""
    return np.random.default_rng(number).integers(0, 4096, (6, 8)).astype(np.uint16)


def set_pixels(dataset: FileDataset, pixels: np.ndarray, *, bits_stored: int = 12) -> None:
    """Uncompressed pixels, signed if their type is."""
    signed = np.issubdtype(pixels.dtype, np.signedinteger)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = pixels.astype(np.int16 if signed else np.uint16).tobytes()


def write_series(
    folder: Path, num_slices: int = 5, *, series: str = "a", change: Change | None = None, skip: tuple[int, ...] = ()
) -> Path:
    """A folder of slices; `change(number, dataset)` edits each before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_slices):
        if number not in skip:
            dataset = ct_slice(number, series=series)
            if change is not None:
                change(number, dataset)
            # Names say nothing about the order.
            dataset.save_as(folder / f"{series}{(7 * number + 3) % 101:03d}.dcm", enforce_file_format=True)
    return folder


def zipped(folder: Path) -> Path:
    """The folder as a zip beside it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def multi_frame(num_frames: int = 5, *, change: Change | None = None) -> FileDataset:
    """The slices of `ct_slice` as one enhanced CT object, frames in another order than along the normal."""
    dataset = ct_slice(0, series="enhanced")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(dataset, name)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, plane.ImageOrientationPatient = [0.7, 0.8], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    order = [(3 * index + 1) % num_frames for index in range(num_frames)]
    frames = []
    for number in order:
        frame, position, transform = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-12, -34, 100 + 2.5 * number]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1024 - number, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [transform]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = num_frames
    dataset.PixelData = b"".join(stored_pixels(number).tobytes() for number in order)
    if change is not None:
        change(0, dataset)
    return dataset
