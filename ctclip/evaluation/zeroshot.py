"""Zero-shot scores: image embeddings against the embeddings of prompts. It touches no voxel and no metric.

Axis legend: N studies, F findings, E embedding size, T texts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import EvaluationError
from ctclip.findings import COMPOSITES
from ctclip.texts.prompts import Prompts, PromptSet

AGGREGATES = ("similarities", "embeddings")
EmbedTexts = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class ScoreTable:
    """Scores and labels of the same studies and findings, ready for every metric.

    Attributes:
        studies: (N,) ids.
        patients: (N,) ids.
        findings: (F,) names, those with prompts and labels.
        labels: (N, F) int8: 1, 0, -1 unknown.
        scores: (N, F) float64: similarity to the positive prompts less that to the negative ones, in [-2, 2].
        normal_scores: (N,) the same for the prompts of "no finding at all", or NaN without such prompts.
        is_normal: (N,) int8: 1 no finding, 0 some finding, -1 unknown.
        stamp: Where all this comes from, as text; every report repeats it.
        missing_prompts: Labelled findings left out for want of prompts.
    """

    studies: tuple[str, ...]
    patients: tuple[str, ...]
    findings: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    normal_scores: np.ndarray
    is_normal: np.ndarray
    stamp: dict[str, str] = field(default_factory=dict)
    missing_prompts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.studies)


def probabilities(scores: np.ndarray, *, logit_scale: float) -> np.ndarray:
    """Softmax over (positive, negative) of the scaled similarities, for the positive: 1 / (1 + exp(-scale * score)).

    0.5 is where argmax flips, whatever the scale. Same shape as scores.
    """
    return 1 / (1 + np.exp(-np.clip(logit_scale * np.asarray(scores, np.float64), -700, 700)))


def score_cohort(
    image_embeddings: np.ndarray,
    studies: Sequence[str],
    *,
    cohort: Cohort,
    prompts: PromptSet,
    embed_texts: EmbedTexts,
    aggregate: str = "similarities",
    apart: Mapping[str, np.ndarray] | None = None,
) -> ScoreTable:
    """Score every study of a cohort for every finding that has labels and prompts.

    Args:
        image_embeddings: (N, E), any length; they are normalised here.
        studies: (N,) ids of the rows; any order, the same set as the cohort's.
        cohort: Labels and patients.
        prompts: Texts by finding.
        embed_texts: Texts (T) -> (T, E).
        aggregate: "similarities" takes the mean over prompts of the cosine, "embeddings" the cosine to the normalised
            mean of the prompts' unit vectors.
        apart: Finding -> (N, E), in place of image_embeddings for that finding: those of its anatomy.

    Raises:
        EvaluationError: Ids that differ from the cohort's, embeddings of a wrong shape, NaN or of length 0.
        PromptError: Prompts that fit no labelled finding.
    """
    if aggregate not in AGGREGATES:
        raise EvaluationError(f"aggregate {aggregate!r} is none of {', '.join(AGGREGATES)}")
    if not cohort.findings:
        raise EvaluationError(
            f"cohort {cohort.name!r} has no label column; zero-shot scores need labels, name them with `findings`"
        )
    composites = _composites(cohort, prompts)
    parts = [part for name in composites for part in COMPOSITES[name]]
    wanted = [*cohort.findings, *parts]
    chosen = prompts.select([*dict.fromkeys(wanted)])
    images = unit_rows(_in_cohort_order(image_embeddings, studies, cohort), what="image", names=cohort.studies)
    own = {
        name: unit_rows(_in_cohort_order(rows, studies, cohort), what="image", names=cohort.studies)
        for name, rows in (apart or {}).items()
    }
    vectors = _embed(chosen, embed_texts, size=images.shape[1])
    scores = {name: _score(own.get(name, images), entry, vectors, aggregate) for name, entry in chosen.prompts.items()}
    scores |= {name: np.max([scores[part] for part in COMPOSITES[name]], axis=0) for name in composites}
    findings = tuple(name for name in cohort.findings if name in scores)
    normal = _score(images, chosen.normal, vectors, aggregate) if chosen.normal else np.full(len(images), np.nan)
    labels = cohort.labels()
    return ScoreTable(
        studies=tuple(cohort.studies),
        patients=tuple(cohort.patients),
        findings=findings,
        labels=labels[:, [cohort.findings.index(name) for name in findings]],
        scores=np.stack([scores[name] for name in findings], axis=1),
        normal_scores=normal,
        is_normal=_is_normal(cohort),
        stamp=_stamp(cohort, prompts, aggregate),
        missing_prompts=tuple(name for name in cohort.findings if name not in findings),
    )


def score_prompts(
    image_embeddings: np.ndarray,
    studies: Sequence[str],
    *,
    prompts: PromptSet,
    embed_texts: EmbedTexts,
    aggregate: str = "similarities",
) -> dict[str, np.ndarray]:
    """Scores of studies without a cohort or labels: finding -> (N,). Arguments as in `score_cohort`.

    Raises:
        EvaluationError: Embeddings of a wrong shape, NaN or of length 0.
    """
    images = unit_rows(image_embeddings, what="image", names=list(studies))
    vectors = _embed(prompts, embed_texts, size=images.shape[1])
    return {name: _score(images, entry, vectors, aggregate) for name, entry in prompts.prompts.items()}


def unit_rows(vectors: np.ndarray, *, what: str, names: list[str]) -> np.ndarray:
    """(N, E) float64 rows of length 1.

    Args:
        vectors: (N, E).
        what: "image" or "text", for the message.
        names: (N) study ids or texts, for the message.

    Raises:
        EvaluationError: Not two-dimensional, or a row that is not finite or has length 0; the message counts them.
    """
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise EvaluationError(f"{what} embeddings have shape {vectors.shape}; they need ({len(names)}, size)")
    length = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(bad):
        first = names[bad[0]]
        kind = "of length 0" if np.isfinite(length[bad[0]]) else "NaN or infinite"
        raise EvaluationError(
            f"{len(bad)} of {len(names)} {what} embeddings are {kind}, the first is {first!r}; "
            "embed these again (a diverged model gives such rows)",
            study=first if what == "image" else None,
        )
    return vectors / length[:, None]


def save_scores(table: ScoreTable, path: str | Path) -> None:
    """Write a score table as .npz without pickles."""
    stamp = np.array([[key, value] for key, value in table.stamp.items()], dtype=np.str_).reshape(-1, 2)
    np.savez_compressed(
        path,
        studies=np.array(table.studies, np.str_),
        patients=np.array(table.patients, np.str_),
        findings=np.array(table.findings, np.str_),
        missing_prompts=np.array(table.missing_prompts, np.str_),
        labels=table.labels,
        scores=table.scores,
        normal_scores=table.normal_scores,
        is_normal=table.is_normal,
        stamp=stamp,
    )


def load_scores(path: str | Path) -> ScoreTable:
    """Read what `save_scores` wrote.

    Raises:
        EvaluationError: No such file, or not a score table.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        texts = {name: tuple(arrays[name].tolist()) for name in ("studies", "patients", "findings", "missing_prompts")}
        numbers = {name: arrays[name] for name in ("labels", "scores", "normal_scores", "is_normal")}
        return ScoreTable(**texts, **numbers, stamp=dict(arrays["stamp"].tolist()))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise EvaluationError(
            f"no score table here ({error}); `ctclip evaluate` writes one into a run's folder", path=path
        ) from error


def _in_cohort_order(vectors: np.ndarray, studies: Sequence[str], cohort: Cohort) -> np.ndarray:
    row_of = {study: row for row, study in enumerate(studies)}
    if len(row_of) != len(studies):
        raise EvaluationError(f"{len(studies) - len(row_of)} of {len(studies)} embedded study ids stand twice")
    absent = [study for study in cohort.studies if study not in row_of]
    strange = sorted(set(row_of) - set(cohort.studies))
    if absent or strange:
        raise EvaluationError(
            f"embeddings and cohort {cohort.name!r} differ: {len(absent)} of {len(cohort)} studies are not embedded "
            f"{absent[:3]}, {len(strange)} embedded ones are not in the cohort {strange[:3]}; embed this cohort's "
            "split, or choose the split that was embedded",
            study=(absent or strange)[0],
        )
    if len(vectors) != len(studies):
        raise EvaluationError(f"{len(vectors)} image embeddings for {len(studies)} study ids; they must pair up")
    return np.asarray(vectors)[[row_of[study] for study in cohort.studies]]


def _embed(prompts: PromptSet, embed_texts: EmbedTexts, *, size: int) -> dict[str, np.ndarray]:
    texts = prompts.texts()
    vectors = unit_rows(embed_texts(texts), what="text", names=texts)
    if vectors.shape[1] != size:
        raise EvaluationError(
            f"image embeddings have {size} values and text embeddings {vectors.shape[1]}; both must come from one model"
        )
    return dict(zip(texts, vectors, strict=True))


def _score(images: np.ndarray, entry: Prompts, vectors: dict[str, np.ndarray], aggregate: str) -> np.ndarray:
    sides = []
    for texts in (entry.positive, entry.negative):
        mean = np.mean([vectors[text] for text in texts], axis=0)  # (E,)
        if aggregate == "embeddings":
            mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
        sides.append(images @ mean)
    return sides[0] - sides[1]


def _composites(cohort: Cohort, prompts: PromptSet) -> list[str]:
    """Labelled findings without prompts of their own whose parts all have some."""
    lacking = [name for name in prompts.missing(cohort.findings) if name in COMPOSITES]
    return [name for name in lacking if not prompts.missing(COMPOSITES[name])]


def _is_normal(cohort: Cohort) -> np.ndarray:
    """(N,) int8: by the table's "abnormal:report" column, else 1 where every label is 0 and 0 where one is 1."""
    if "report" in cohort.units:
        abnormal = cohort.normality("report")
        return np.where(abnormal < 0, -1, 1 - abnormal).astype(np.int8)
    labels = cohort.labels()
    return np.where((labels == 1).any(1), 0, np.where((labels == 0).all(1), 1, -1)).astype(np.int8)


def _stamp(cohort: Cohort, prompts: PromptSet, aggregate: str) -> dict[str, str]:
    return {
        "cohort": cohort.name,
        "split": "+".join(cohort.split_counts()),
        "synthetic": "yes" if cohort.synthetic else "no",
        "label_source": cohort.label_source,
        "prompts": prompts.name,
        "aggregate": aggregate,
    }
