"""ScannedSeries: what a scan found of one series or file, as plain values. One row of the table of series."""

from dataclasses import dataclass
from pathlib import Path

# Codes of series that are no volume at all: they stand beside the volumes of every study and are no loss.
NO_VOLUME = ("LOCALIZER", "NON_CT", "TOO_FEW_SLICES", "NOT_A_VOLUME")

# What `resample_irregular` corrects.
IRREGULAR = ("GANTRY_TILT", "NON_UNIFORM")


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be read: its name in the source, the code and the reason."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True)
class ScannedSeries:
    """One series, one NIfTI file, or one file or folder that cannot be read.

    Attributes:
        study: Keyed hash of StudyInstanceUID; the stem of a NIfTI file; "" where none can be told.
        series: Keyed hash of SeriesInstanceUID; the stem of a NIfTI file.
        patient: Keyed hash of PatientID, "" where there is none.
        kind: "dicom", "dicom-zip", "nifti" or "npz".
        modality, description, kernel, phase: As the headers say; phase is the words of `phase_words`.
        num_slices, height, width: Slices (or frames) and pixels; 0 where they cannot be told.
        spacing_z_mm, spacing_y_mm, spacing_x_mm: Spacing; z is the median gap where gaps vary, None where unknown.
        thickness_mm: SliceThickness, the largest of the slices.
        code, reason: Why it cannot be packed as it is; "" if headers show nothing against it.
        source: Path relative to the folder that SOURCE lies in.
        path: Folder, zip or file to read.
        files: Names below `path` that belong to it; empty for a NIfTI file.
        left_out: Objects of the series that are no slices, one sentence each.
        study_uid, series_uid, patient_id, accession, study_date: The identifiers themselves.
    """

    study: str
    series: str
    kind: str
    path: Path
    source: str
    patient: str = ""
    modality: str = ""
    description: str = ""
    kernel: str = ""
    phase: str = ""
    num_slices: int = 0
    height: int = 0
    width: int = 0
    spacing_z_mm: float | None = None
    spacing_y_mm: float | None = None
    spacing_x_mm: float | None = None
    thickness_mm: float | None = None
    code: str = ""
    reason: str = ""
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    study_uid: str = ""
    series_uid: str = ""
    patient_id: str = ""
    accession: str = ""
    study_date: str = ""

    @property
    def num_files(self) -> int:
        return max(len(self.files), 1)

    def is_candidate(self, *, resample_irregular: bool) -> bool:
        """Whether headers let it be packed."""
        return not self.code or (resample_irregular and self.code in IRREGULAR)
