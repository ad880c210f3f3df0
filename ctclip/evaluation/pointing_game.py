"""The pointing game of a run: does the image tower look at a finding where its label map lies?

Enter a run, a store whose label maps bear the names of findings, and prompts. Leaves a dict for JSON. It reads voxels,
as no other score does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import EvaluationError
from ctclip.evaluation.pointing import EMPTY, NOT_ASKED, is_hit, pointing_report, similarity_map
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.token_map import TokenMap, token_maps
from ctclip.evaluation.zeroshot import EmbedTexts, unit_rows
from ctclip.texts.prompts import PromptSet
from ctload.storage.store import Store, open_store

MASK_KINDS = ("finding", "organ")


@dataclass(frozen=True)
class PointingOptions:
    """How to play.

    Attributes:
        mask_kind: finding (a map shows the lesion) or organ (it shows the organ; the score is then of the anatomy).
        tolerance_mm: How far outside the mask still counts.
        batch_size: Studies at once; None takes the training's.
        pipeline: auto | numba | dali | reference.
    """

    mask_kind: str = "finding"
    tolerance_mm: float = 0.0
    batch_size: int | None = None
    pipeline: str = "auto"

    def __post_init__(self) -> None:
        if self.mask_kind not in MASK_KINDS or not self.tolerance_mm >= 0:
            raise EvaluationError(
                f"mask_kind={self.mask_kind!r} must be one of {', '.join(MASK_KINDS)} and "
                f"tolerance_mm={self.tolerance_mm} 0 or more"
            )


def play_pointing_game(
    run: str | Path,
    cohort: Cohort,
    *,
    store: str | Path,
    prompts: PromptSet,
    embed_texts: EmbedTexts,
    options: EvaluateOptions,
    pointing: PointingOptions,
    device: str = "auto",
    is_quiet: bool = False,
) -> dict[str, Any]:
    """Point at every present finding that has a prompt and a label map of its name.

    The map of a finding is the cosine of each projected token to the normalised mean of its positive prompts.

    Args:
        run: The run, or one of its checkpoints.
        cohort: The split that is judged.
        store: Its volumes with their label maps.
        prompts: Texts by finding.
        embed_texts: The text tower of the same checkpoint.
        options: Draws, seed and level of the intervals.
        pointing: How to play.
        device: auto | cpu | cuda.
        is_quiet: Show no progress.

    Returns:
        As `ctclip.evaluation.pointing.pointing_report`, with "mask_kind", "tolerance_mm" and "token_grid".

    Raises:
        EvaluationError: No study of the split has a label map of a finding with prompts.
    """
    opened = open_store(store)
    findings = [name for name in cohort.findings if name in prompts.prompts]
    directions = _directions(prompts, findings, embed_texts)
    masked = _masked_findings(opened, cohort, findings)
    if not masked:
        raise EvaluationError(
            f"no study of cohort {cohort.name!r} has a label map that bears the name of one of its findings; pack the "
            "masks as columns label:<finding> (`ctclip phantom --masks` writes such a table), or leave pointing out",
            path=store,
        )
    studies = opened.studies.take([opened.studies.row_of(study) for study in masked])
    maps = token_maps(
        run, studies, device=device, batch_size=pointing.batch_size or min(len(studies), 8), pipeline=pointing.pipeline
    )
    hits = np.full((len(masked), len(findings)), NOT_ASKED, np.int8)
    chances = np.zeros(hits.shape)
    grid: tuple[int, ...] = ()
    for row, one in enumerate(tqdm(maps, total=len(masked), desc="point", unit="study", disable=is_quiet)):
        grid = one.tokens.shape[:3]
        for name in masked[one.study]:
            column = findings.index(name)
            hits[row, column], chances[row, column] = _point(opened, one, name, directions[name], pointing)
    patient_of = dict(zip(cohort.studies, cohort.patients, strict=True))
    report = pointing_report(
        hits, chances, findings=findings, patients=[patient_of[study] for study in masked],
        num_bootstraps=options.num_bootstraps, seed=options.seed, level=options.level,
    )  # fmt: skip
    return {**report, "mask_kind": pointing.mask_kind, "tolerance_mm": pointing.tolerance_mm, "token_grid": list(grid)}


def _directions(prompts: PromptSet, findings: Sequence[str], embed_texts: EmbedTexts) -> dict[str, np.ndarray]:
    """Finding -> (E,) mean of the unit vectors of its positive prompts."""
    directions = {}
    for name in findings:
        texts = list(prompts.prompts[name].positive)
        directions[name] = unit_rows(embed_texts(texts), what="text", names=texts).mean(0)
    return directions


def _masked_findings(store: Store, cohort: Cohort, findings: Sequence[str]) -> dict[str, list[str]]:
    """study -> findings that it has, by label, and a label map of; only studies with some, in the cohort's order."""
    labels = cohort.labels()
    column_of = {name: cohort.findings.index(name) for name in findings}
    packed = set(store.studies.ids)
    masked = {}
    for row, study in enumerate(cohort.studies):
        if study not in packed:
            continue
        stored = set(store.studies.table["labels"][store.studies.row_of(study)].as_py())
        shown = [name for name in findings if name in stored and labels[row, column_of[name]] == 1]
        if shown:
            masked[study] = shown
    return masked


def _point(
    store: Store, one: TokenMap, finding: str, direction: np.ndarray, pointing: PointingOptions
) -> tuple[int, float]:
    """(1 hit, 0 miss or EMPTY; share of the box that the mask fills)."""
    mask = store.read(one.study, one.box, array=f"labels/{finding}") > 0  # (D, H, W)
    z, y, x = store.studies.spacings_mm[store.studies.row_of(one.study)]
    hit = is_hit(similarity_map(one.tokens, direction), mask, spacing_mm=(z, y, x), tolerance_mm=pointing.tolerance_mm)
    return (EMPTY, 0.0) if hit is None else (int(hit), float(mask.mean()))
