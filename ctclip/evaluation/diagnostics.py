"""What embeddings say beyond scores: retrieval of reports, dependence on wording, collapse of the space.

Enter the image embeddings of a split, its cohort and a text tower; leave dicts for JSON. Each part stands alone. What
cannot be told (a release without reports) is said with its reason in place of a number.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import EvaluationError
from ctclip.evaluation.collapse import collapse_report
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.retrieval import retrieval_report
from ctclip.evaluation.robustness import macro_by_template
from ctclip.evaluation.zeroshot import EmbedTexts
from ctclip.reports.anatomy import route_report
from ctclip.reports.sections import clean_text
from ctclip.texts.finding_anatomy import ANATOMY_OF
from ctclip.texts.prompts import PromptSet

PARTS = ("retrieval", "robustness", "collapse")
MAX_PROBES = 64  # sentences per anatomy
MAX_IMAGES = 512  # image embeddings whose cosines are taken


def diagnose(
    image_embeddings: np.ndarray,
    cohort: Cohort,
    *,
    prompts: PromptSet,
    embed_texts: EmbedTexts,
    options: EvaluateOptions,
    parts: Sequence[str] = PARTS,
) -> dict[str, Any]:
    """The parts asked for, and under "left_out" the reasons of those that cannot be had.

    Args:
        image_embeddings: (N, E), row i of the cohort's study i.
        cohort: The split.
        prompts: Those of the scores; their texts are probes of collapse.
        embed_texts: Texts (T) -> (T, E).
        options: Draws, seed and level.
        parts: Some of PARTS.

    Raises:
        EvaluationError: No such part; embeddings that are NaN or of length 0.
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise EvaluationError(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    report: dict[str, Any] = {"left_out": {}}
    has_reports = all(text.strip() for text in cohort.reports)
    if "retrieval" in parts and has_reports:
        texts = embed_texts(cohort.reports)
        report["retrieval"] = retrieval_report(
            image_embeddings, texts, cohort.studies, cohort.patients,
            num_bootstraps=options.num_bootstraps, seed=options.seed,
        )  # fmt: skip
    elif "retrieval" in parts:
        report["left_out"]["retrieval"] = "the cohort has no reports"
    if "robustness" in parts:
        report |= _robustness(image_embeddings, cohort, embed_texts, options, report["left_out"])
    if "collapse" in parts:
        report["collapse"] = collapse_of_embeddings(image_embeddings, cohort, prompts=prompts, embed_texts=embed_texts)
    return report


def collapse_of_embeddings(
    image_embeddings: np.ndarray, cohort: Cohort, *, prompts: PromptSet, embed_texts: EmbedTexts
) -> dict[str, Any]:
    """Collapse among sentences of different anatomies, positive prompts of different findings, and images.

    Every group is None where there are too few of its kind to compare: fewer than two anatomies, findings or studies.

    Args:
        image_embeddings: (N, E).
        cohort: Its reports give the sentences.
        prompts: Texts by finding.
        embed_texts: Texts (T) -> (T, E).
    """
    sentences = probe_sentences(cohort.reports)
    positives = [(text, name) for name, entry in prompts.prompts.items() for text in entry.positive]
    rows = np.unique(np.linspace(0, len(cohort) - 1, min(len(cohort), MAX_IMAGES)).round().astype(np.int64))
    images, studies = np.asarray(image_embeddings)[rows], [cohort.studies[row] for row in rows]
    return {
        "sentences": _collapse_of_texts(sentences, embed_texts),
        "prompts": _collapse_of_texts(positives, embed_texts),
        "images": collapse_report(images, studies) if len(studies) > 1 else None,
    }


def probe_sentences(reports: Sequence[str], *, max_per_anatomy: int = MAX_PROBES) -> list[tuple[str, str]]:
    """(sentence, anatomy) pairs: for each anatomy the first distinct sentences that speak of it alone."""
    found: dict[str, dict[str, None]] = {}
    for text in reports:
        for sentence, anatomies in route_report(text):
            if len(anatomies) != 1:
                continue
            probes = found.setdefault(anatomies[0], {})
            if len(probes) < max_per_anatomy:
                probes.setdefault(clean_text(sentence.text))
    return [(text, anatomy) for anatomy, probes in found.items() for text in probes if text]


def _collapse_of_texts(pairs: Sequence[tuple[str, str]], embed_texts: EmbedTexts) -> dict[str, Any] | None:
    groups = [group for _, group in pairs]
    if len(set(groups)) < 2:
        return None
    return collapse_report(embed_texts([text for text, _ in pairs]), groups)


def _robustness(
    images: np.ndarray, cohort: Cohort, embed_texts: EmbedTexts, options: EvaluateOptions, left_out: dict[str, str]
) -> dict[str, Any]:
    """Under "robustness" the scores by template of the findings that the templates can name."""
    named = tuple(name for name in cohort.findings if name in ANATOMY_OF)
    if not named:
        left_out["robustness"] = "the templates know the anatomy of none of these findings"
        return {}
    missing = [name for name in cohort.findings if name not in named]
    if missing:
        left_out["robustness"] = f"without an anatomy for the templates: {', '.join(missing)}"
    chosen = replace(cohort, findings=named)
    scores = macro_by_template(images, cohort.studies, cohort=chosen, embed_texts=embed_texts, options=options)
    return {"robustness": scores.report(level=options.level)}
