"""A phantom as a DICOM CT series, one file per slice; pydicom is imported here alone.

The headers say that it is synthetic (patient name, descriptions, comments, manufacturer). UIDs are hashes of the seed
and the study's name under pydicom's own root, so the same study gives the same bytes.
"""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctclip.phantom.rendering import Rendered
from ctclip.phantom.study import PhantomStudy
from ctload.geometry import spacing_of

INTERCEPT = -1024
NOTE = "Synthetic phantom, not a patient"


def write_dicom(folder: Path, study: PhantomStudy, rendered: Rendered, *, series: str) -> None:
    """Write one series into `folder`, which is made.

    Args:
        folder: One file per slice goes there.
        study: What it is; phase and kernel go into the headers.
        rendered: The voxels, RAS+; they are stored as scanners do, in LPS rows and columns.
        series: Suffix that tells this series from the study's others.
    """
    folder.mkdir(parents=True)
    pixels = rendered.voxels[:, ::-1, ::-1]  # rows run to posterior, columns to the left
    corner = rendered.affine @ (0, rendered.voxels.shape[1] - 1, rendered.voxels.shape[2] - 1, 1)
    slice_mm = spacing_of(rendered.affine)[0]
    for k in range(len(pixels)):
        position = (-corner[0], -corner[1], corner[2] + k * slice_mm)
        dataset = _header(study, rendered, series)
        dataset.InstanceNumber = k + 1
        uid = _uid(study, series, str(k))
        dataset.SOPInstanceUID = uid
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
        dataset.SliceLocation = f"{position[2]:.6g}"
        dataset.PixelData = (pixels[k].astype(np.int32) - INTERCEPT).astype("<u2").tobytes()
        dataset.save_as(folder / f"{k + 1:04d}.dcm", enforce_file_format=True)


def _uid(study: PhantomStudy, *parts: str) -> UID:
    return generate_uid(entropy_srcs=["ctclip phantom", str(study.seed), study.name, *parts])


def _header(study: PhantomStudy, rendered: Rendered, series: str) -> Dataset:
    """What all slices share."""
    slice_mm, row_mm, column_mm = spacing_of(rendered.affine)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.Manufacturer = "synthetic phantom"
    dataset.PatientName = "PHANTOM^SYNTHETIC"
    dataset.PatientID = study.patient_name
    dataset.PatientSex = "M" if study.patient.is_male else "F"
    dataset.PatientAge = f"{study.patient.age:03d}Y"
    dataset.PatientPosition = "HFS"
    dataset.StudyDescription = NOTE
    dataset.SeriesDescription = f"{NOTE}: {study.phase}, {'sharp' if study.is_sharp else 'soft'} kernel"
    dataset.ImageComments = NOTE
    dataset.StudyID = study.name[-16:]
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.PatientBirthDate = ""
    dataset.ConvolutionKernel = "SHARP" if study.is_sharp else "SOFT"
    dataset.StudyInstanceUID = _uid(study)
    dataset.SeriesInstanceUID = _uid(study, "series", series)
    dataset.FrameOfReferenceUID = _uid(study, "frame")
    dataset.SeriesNumber = {"": 1, "_kernel": 2, "_phase": 3}[series]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [f"{row_mm:.8g}", f"{column_mm:.8g}"]
    dataset.SliceThickness = f"{slice_mm:.8g}"
    dataset.SpacingBetweenSlices = f"{slice_mm:.8g}"
    dataset.Rows, dataset.Columns = rendered.voxels.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, INTERCEPT, "HU"
    return dataset
