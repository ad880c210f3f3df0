"""What objectives know of each training study, looked up for a batch: ids, normality, and the text that is read.

It is made once from the joined tables and holds no tensor; a loader's batch leaves as texts and Facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ctclip.cohorts.cohort import Cohort
from ctclip.objectives.facts import Facts
from ctclip.objectives.parameters import OffclipParameters
from ctclip.objectives.requirements import UnitCounts
from ctclip.reports.normality import ABNORMAL, NORMAL
from ctclip.reports.sections import clean_text, split_sections
from ctclip.texts.kept_sentences import KeptSentences, keep_sentences, read_text
from ctclip.texts.text_access import TextAccess
from ctclip.texts.text_hash import hash_id, hash_text
from ctclip.texts.text_units import FULL, TextUnits
from ctload.loading.batch import Batch
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class StudyRows:
    """Of every training study.

    Attributes:
        texts: Original texts in cleaned form, by unit.
        ids: study -> (its hash, its patient's hash).
        abnormal: unit -> study -> 1, 0 or -1.
        kept: unit -> study -> sentences that are read; None where texts are read whole.
        text_mode: How kept sentences are read.
        seed: Of the run.
    """

    texts: TextUnits
    ids: Mapping[str, tuple[int, int]]
    abnormal: Mapping[str, Mapping[str, int]]
    kept: Mapping[str, Mapping[str, KeptSentences]] | None
    text_mode: Literal["one_sentence", "all"]
    seed: int

    def read(self, batch: Batch) -> list[str]:
        """The text of each study of a batch in its unit, in cleaned form."""
        if self.kept is None:
            return self.texts.of(batch.study, batch.unit)
        plan = batch.plan
        accesses = [TextAccess(self.seed, plan.epoch, plan.step, study, batch.unit) for study in batch.study]
        kept = self.kept[batch.unit]
        return [clean_text(read_text(kept[access.study], self.text_mode, access)) for access in accesses]

    def facts(self, batch: Batch, device: torch.device | str) -> Facts:
        """Of a batch's rows; texts count as equal by what they were before any sentence was left out."""
        abnormal = self.abnormal[batch.unit]
        rows = [
            (*self.ids[study], abnormal[study], hash_text(text), 0)
            for study, text in zip(batch.study, self.texts.of(batch.study, batch.unit), strict=True)
        ]
        columns = torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)
        study, patient, abnormal_N, text, anatomy = columns.unbind(1)
        return Facts(study, patient, abnormal_N, text, anatomy)

    def counts(self) -> dict[str, UnitCounts]:
        """Studies by normality in each unit."""
        return {unit: _count(list(flags.values())) for unit, flags in self.abnormal.items()}

    def normal_rate(self) -> float:
        """Share of normal ones among the known units."""
        counts = self.counts().values()
        known = sum(count.normal + count.abnormal for count in counts)
        return sum(count.normal for count in counts) / max(1, known)


def make_study_rows(
    cohort: Cohort, studies: Studies, texts: TextUnits, parameters: OffclipParameters, *, is_filtered: bool, seed: int
) -> StudyRows:
    """Rows of the training studies.

    Args:
        cohort: The training split; its patients and reports are read.
        studies: Joined with the columns "abnormal:<unit>" of ctclip.texts.text_units.
        texts: Of the units that are trained on.
        parameters: pair_unit "study" takes the whole report's normality for every unit.
        is_filtered: Leave normal sentences out of abnormal texts.
        seed: Of the run.
    """
    names = set(studies.ids)
    ids = {
        study: (hash_id(study), hash_id(patient))
        for study, patient in zip(cohort.studies, cohort.patients, strict=True)
        if study in names
    }
    flags = {
        unit: dict(zip(studies.ids, studies.table[f"abnormal:{unit}"].to_pylist(), strict=True)) for unit in texts.units
    }
    kept = _kept(cohort, texts, flags) if is_filtered else None
    if parameters.pair_unit == "study":
        flags = dict.fromkeys(texts.units, flags[FULL])
    present = {
        unit: {study: flag for study, flag in flags[unit].items() if study in texts.texts[unit]} for unit in flags
    }
    return StudyRows(texts, ids, present, kept, parameters.text_mode, seed)


def _kept(
    cohort: Cohort, texts: TextUnits, flags: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, KeptSentences]]:
    kept: dict[str, dict[str, KeptSentences]] = {unit: {} for unit in texts.units}
    for study, report in zip(cohort.studies, cohort.reports, strict=True):
        parts = {FULL: report, **split_sections(report)}
        for unit in texts.units:
            if study in texts.texts[unit] and study in flags[unit]:
                kept[unit][study] = keep_sentences(parts[unit], abnormal=flags[unit][study], is_report=unit == FULL)
    return kept


def _count(flags: list[int]) -> UnitCounts:
    values = np.array(flags)
    num_normal, num_abnormal = int((values == NORMAL).sum()), int((values == ABNORMAL).sum())
    return UnitCounts(num_normal, num_abnormal, len(values) - num_normal - num_abnormal)
