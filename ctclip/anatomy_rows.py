"""What objectives know of every anatomy of each training study: ids, normality, texts, and where it is in a volume.

The counterpart of study_rows.py for objectives that look at anatomies apart. A loader's batch of B studies leaves as
B x A texts and Facts, all anatomies of one study one after another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ctclip.cohorts.cohort import Cohort
from ctclip.models.anatomy_pool import anatomy_numbers, present_anatomies, whole_anatomies
from ctclip.objectives.facts import Facts
from ctclip.objectives.parameters import AnatomyParameters, OffclipParameters
from ctclip.objectives.requirements import UnitCounts
from ctclip.reports.normality import ABNORMAL, NORMAL
from ctclip.reports.sections import clean_text
from ctclip.texts.anatomies import Anatomy, label_table
from ctclip.texts.anatomy_texts import AnatomyText, report_anatomy_texts
from ctclip.texts.text_access import TextAccess
from ctclip.texts.text_augmentation import TextAugmentation, draw_sentences
from ctclip.texts.text_hash import hash_id, hash_text
from ctload.loading.batch import Batch
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class AnatomyRows:
    """Of every training study.

    Attributes:
        anatomies: A of them.
        texts: study -> A texts.
        ids: study -> (its hash, its patient's hash).
        label: Name of the label map; None where anatomies are looked for without masks.
        needs_whole: An anatomy that reaches a face of the crop does not count.
        reading: How sentences are chosen at an access: by CA-GCL's augmentation, by OFF-CLIP's filter, or all.
        seed: Of the run.
    """

    anatomies: tuple[Anatomy, ...]
    texts: Mapping[str, tuple[AnatomyText, ...]]
    ids: Mapping[str, tuple[int, int]]
    label: str | None
    needs_whole: bool
    reading: TextAugmentation | OffclipParameters | None
    seed: int

    def read(self, batch: Batch) -> list[str]:
        """B x A texts, in cleaned form."""
        plan = batch.plan
        return [
            self._read(text, TextAccess(self.seed, plan.epoch, plan.step, study, anatomy.name))
            for study in batch.study
            for anatomy, text in zip(self.anatomies, self.texts[study], strict=True)
        ]

    def numbers(self, batch: Batch, device: torch.device | str) -> Tensor | None:
        """(B, D, H, W) int64: anatomy number + 1 of every voxel, 0 where there is none; None without masks."""
        if self.label is None:
            return None
        return batch_numbers(batch, self.label, self.anatomies, device)

    def facts(self, batch: Batch, numbers_BDHW: Tensor | None, device: torch.device | str) -> Facts:
        """Of B x A rows; texts count as equal by what they were before any sentence was moved or left out.

        Args:
            batch: Of a loader.
            numbers_BDHW: Of `numbers`, of the same batch.
            device: Where the facts lie.
        """
        rows = [
            (*self.ids[study], text.abnormal, hash_text(text.text), number)
            for study in batch.study
            for number, text in enumerate(self.texts[study])
        ]
        columns = torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)
        study, patient, abnormal_N, text, anatomy = columns.unbind(1)
        valid = None
        if numbers_BDHW is not None:
            find = whole_anatomies if self.needs_whole else present_anatomies
            valid = find(numbers_BDHW, len(self.anatomies)).flatten()
        return Facts(study, patient, abnormal_N, text, anatomy, valid)

    def counts(self) -> dict[str, UnitCounts]:
        """Studies by normality in each anatomy."""
        found = {anatomy.name: [0, 0, 0] for anatomy in self.anatomies}
        for texts, (place, anatomy) in product(self.texts.values(), enumerate(self.anatomies)):
            found[anatomy.name][{NORMAL: 0, ABNORMAL: 1}.get(texts[place].abnormal, 2)] += 1
        return {name: UnitCounts(*numbers) for name, numbers in found.items()}

    def normal_rate(self) -> float:
        """Share of normal ones among the known anatomies."""
        counts = self.counts().values()
        return sum(count.normal for count in counts) / max(1, sum(count.normal + count.abnormal for count in counts))

    def all_texts(self) -> list[str]:
        """Every text whole, for a vocabulary."""
        return [clean_text(" ".join(text.sentences)) for texts in self.texts.values() for text in texts]

    def _read(self, text: AnatomyText, access: TextAccess) -> str:
        sentences = text.sentences
        if isinstance(self.reading, TextAugmentation):
            chosen = draw_sentences(sentences, text.is_abnormal, self.reading, access, num_fixed=text.num_fixed)
            sentences = tuple(sentences[index] for index in chosen)
        elif isinstance(self.reading, OffclipParameters):
            sentences = _filtered(text, self.reading, access)
        return clean_text(" ".join(sentences))


def make_anatomy_rows(
    cohort: Cohort,
    studies: Studies,
    anatomies: tuple[Anatomy, ...],
    parameters: AnatomyParameters,
    *,
    label: str,
    reading: TextAugmentation | OffclipParameters | None,
    seed: int,
) -> AnatomyRows:
    """Rows of the training studies.

    Args:
        cohort: The training split; its patients and reports are read.
        studies: Those of it that are trained on.
        anatomies: Of the run.
        parameters: How they are found and what makes a text normal.
        label: Name of the stored label map; not read with source "attention".
        reading: How sentences are chosen while training.
        seed: Of the run.
    """
    names = set(studies.ids)
    texts, ids = {}, {}
    for study, patient, report in zip(cohort.studies, cohort.patients, cohort.reports, strict=True):
        if study in names:
            texts[study] = tuple(report_anatomy_texts(report, anatomies, normal_by=parameters.normal_by))
            ids[study] = (hash_id(study), hash_id(patient))
    found = label if parameters.source == "masks" else None
    return AnatomyRows(anatomies, texts, ids, found, parameters.needs_whole, reading, seed)


def batch_numbers(batch: Batch, label: str, anatomies: tuple[Anatomy, ...], device: torch.device | str) -> Tensor:
    """(B, D, H, W) int64: anatomy number + 1 of every voxel of a loader's batch, 0 where there is none."""
    labels = torch.as_tensor(batch.labels[label]).to(device, non_blocking=True)
    return anatomy_numbers(labels, torch.from_numpy(label_table(anatomies)).to(device))


def has_label(studies: Studies, label: str) -> bool:
    """Whether every study has a label map of this name."""
    return all(label in names for names in studies.table["labels"].to_pylist())


def _filtered(text: AnatomyText, choice: OffclipParameters, access: TextAccess) -> tuple[str, ...]:
    """OFF-CLIP's reading: an abnormal text loses its other sentences; one of those left is drawn where asked for."""
    kept = tuple(s for s, is_abnormal in zip(text.sentences, text.is_abnormal, strict=True) if is_abnormal)
    if not choice.filter_text or text.abnormal != ABNORMAL or not kept:
        kept = text.sentences
    return (kept[access.key("sentence") % len(kept)],) if choice.text_mode == "one_sentence" else kept
