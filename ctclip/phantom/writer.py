"""One study to disk: volume, masks and further series, and its row of the table.

A row is a pure function of (seed, patient, study, knobs, grid), whichever process makes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS, INCIDENTAL_SECTIONS, bit_of
from ctclip.phantom.grid import Grid, NativeGrid, grid_of
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.nifti import write_nifti
from ctclip.phantom.organs import PHASES
from ctclip.phantom.planting import told_study
from ctclip.phantom.rendering import Rendered, render, visible_truth
from ctclip.phantom.report import Report, Style, write_report
from ctclip.phantom.study import PhantomStudy, draw_patient, draw_study
from ctclip.phantom.wording import HEADINGS

FORMATS = ("nii.gz", "nii", "dicom")
SECTIONS = tuple(HEADINGS)
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class StudyOrder:
    """All that a process needs to make one study.

    Args:
        out: Folder of the cohort.
        seed: Seed of the cohort.
        patient: Index of the patient.
        index: Index of the study within the patient.
        split: train, val or test.
        knobs: Knobs of the cohort.
        grid: Voxels.
        format: One of FORMATS.
        has_masks: Write organ and finding masks.
    """

    out: Path
    seed: int
    patient: int
    index: int
    split: str
    knobs: Knobs
    grid: Grid | NativeGrid
    format: str
    has_masks: bool


def write_study(order: StudyOrder) -> tuple[Row, list[Row]]:
    """Render and write a study; its row of studies.csv, and one row of series.csv per series."""
    patient = draw_patient(order.seed, order.patient, order.knobs)
    study = draw_study(order.seed, patient, order.index, order.knobs)
    grid = grid_of(study, order.grid)
    rendered = render(study, grid)
    truth = visible_truth(study, rendered)
    told, told_truth = told_study(study, truth, order.knobs)
    style = Style(order.knobs.omission, order.knobs.denial, order.knobs.variety)
    report = write_report(told, told_truth, style, rng=study.study_stream("report"))
    path = _write_series(order, study, rendered, "")
    row: Row = {
        "study": study.name,
        "patient": study.patient_name,
        "path": path,
        "report": report.text,
        "split": order.split,
        "synthetic": 1,
        **_traits(study, grid),
        **_write_masks(order, study, rendered),
        **labels(study, truth, report),
    }
    return row, [_series_row(study, "first", path, grid), *_write_further_series(order, study, grid)]


def labels(study: PhantomStudy, truth: Mapping[str, int], report: Report) -> dict[str, int]:
    """Label columns: the truth, what the report says, and the normality of report and sections.

    "abnormal:<section>" is the truth's (1 or 0), and -1 where the report has no such section.
    """
    abnormal = {CATALOGUE[finding].section for finding in FINDINGS if truth[finding] == 1}
    abnormal |= {
        INCIDENTAL_SECTIONS[name] for name in study.incidentals if INCIDENTAL_SECTIONS[name] in report.sections
    }
    units = {f"abnormal:{s}": int(s in abnormal) if s in report.sections else -1 for s in SECTIONS}
    return {
        **{finding: truth[finding] for finding in FINDINGS},
        **{f"report:{finding}": report.says[finding] for finding in FINDINGS},
        "abnormal:report": int(bool(abnormal)),
        **units,
    }


def _traits(study: PhantomStudy, grid: Grid) -> Row:
    return {
        "sex": "M" if study.patient.is_male else "F",
        "age": study.patient.age,
        "phase": study.phase,
        "kernel": "sharp" if study.is_sharp else "soft",
        "spacing_mm": " ".join(f"{s:g}" for s in grid.spacing_mm),
    }


def _write_masks(order: StudyOrder, study: PhantomStudy, rendered: Rendered) -> Row:
    if not order.has_masks:
        return {}
    names = {"organ_mask": f"masks/{study.name}_organs.nii.gz", "finding_mask": f"masks/{study.name}_findings.nii.gz"}
    write_nifti(order.out / names["organ_mask"], rendered.organs, rendered.affine)
    write_nifti(order.out / names["finding_mask"], rendered.findings, rendered.affine)
    labels: Row = {"label:organs": names["organ_mask"]}  # from where `ctload pack` takes label maps
    return {**names, **labels, **_write_finding_maps(order, study, rendered)}


def _write_finding_maps(order: StudyOrder, study: PhantomStudy, rendered: Rendered) -> Row:
    """One label map per finding that is there, in the columns from which `ctload pack` takes label maps."""
    row: Row = {}
    for finding in FINDINGS:
        mask = (rendered.findings >> np.uint32(bit_of(finding)) & np.uint32(1)).astype(np.uint8)
        name = f"masks/{study.name}_{finding}.nii.gz" if mask.any() else ""
        if name:
            write_nifti(order.out / name, mask, rendered.affine)
        row[f"label:{finding}"] = name
    return row


def _write_further_series(order: StudyOrder, study: PhantomStudy, grid: Grid) -> list[Row]:
    """The series that `knobs.series` asks for: the same acquisition with the other kernel, or another phase."""
    rows = []
    if "kernel" in order.knobs.series:
        other = replace(study, is_sharp=not study.is_sharp)
        rows.append(_series_row(other, "kernel", _write_series(order, other, render(other, grid), "_kernel"), grid))
    if "phase" in order.knobs.series:
        other = replace(study, phase=PHASES[(PHASES.index(study.phase) + 1) % len(PHASES)])
        rows.append(_series_row(other, "phase", _write_series(order, other, render(other, grid), "_phase"), grid))
    return rows


def _series_row(study: PhantomStudy, series: str, path: str, grid: Grid) -> Row:
    return {"study": study.name, "series": series, "path": path, "synthetic": 1, **_traits(study, grid)}


def _write_series(order: StudyOrder, study: PhantomStudy, rendered: Rendered, suffix: str) -> str:
    """Write a volume; its path relative to the cohort's folder. Further series lie apart, one folder for each kind."""
    folder = "volumes" + suffix
    if order.format == "dicom":
        from ctclip.phantom.dicom import write_dicom

        name = f"{folder}/{study.name}"
        write_dicom(order.out / name, study, rendered, series=suffix)
        return name
    name = f"{folder}/{study.name}.{order.format}"
    voxels, affine = rendered.voxels, rendered.affine
    if isinstance(order.grid, NativeGrid):
        voxels, affine = _turned(study, voxels, affine)
    write_nifti(order.out / name, voxels, affine)
    return name


def _turned(study: PhantomStudy, voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored in another orientation, as files from other converters are; the affine follows."""
    flips = study.study_stream("orientation").random(3) < (0.2, 0.5, 0.6)
    affine = affine.copy()
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    index = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    return voxels[index], affine
