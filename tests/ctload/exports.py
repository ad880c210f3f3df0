"""Synthetic exports for the tests of scan, pack and merge."""

from pathlib import Path

from pydicom.uid import generate_uid

from tests.ctload.dicom_files import Change, write_series


def in_study(study: str, *, kernel: str = "B30f", thickness_mm: float = 2.5, more: Change | None = None) -> Change:
    """A change that puts each slice into a study of its own patient."""

    def change(number, dataset):
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", study])
        dataset.PatientID = f"patient of {study}"
        dataset.ConvolutionKernel, dataset.SliceThickness = kernel, thickness_mm
        if more is not None:
            more(number, dataset)

    return change


def tilted(number, dataset):
    """A stack that leans."""
    dataset.ImagePositionPatient = [-12, 2 * number, 100 + 2.5 * number]


def write_export(top: Path) -> Path:
    """Four studies: one of three series in one folder, one of one series, one tilted, one with a gap."""
    write_series(top / "flat", 6, series="soft", change=in_study("one"))
    write_series(top / "flat", 6, series="sharp", change=in_study("one", kernel="B70f"))
    write_series(top / "flat", 4, series="thick", change=in_study("one", thickness_mm=5))
    write_series(top / "b" / "only", 5, series="only", change=in_study("two"))
    write_series(top / "c" / "lean", 5, series="lean", change=in_study("three", more=tilted))
    write_series(top / "d" / "gap", 7, series="gap", change=in_study("four"), skip=(2,))
    return top
