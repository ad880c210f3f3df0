"""What a model says of single scans: phenotype probabilities and zero-shot findings, as data and as a table.

Nothing here is a diagnosis; a probability of a finding is the softmax over two groups of prompts and is not
calibrated.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ctclip.errors import ConfigError
from ctclip.evaluation.zeroshot import probabilities, score_prompts
from ctclip.scans.scan import Scan
from ctclip.scans.scan_model import ScanFeatures, ScanModel, embed_scan
from ctclip.texts.prompts import PromptSet
from ctload.storage.durable import replace_file


@dataclass(frozen=True)
class FindingScore:
    """One finding of one scan.

    Attributes:
        finding: Its name in the prompts.
        score: Mean cosine to the positive prompts less that to the negative ones, in [-2, 2].
        probability: Of the positive side, by softmax over the scaled cosines; not calibrated.
        is_positive: score > 0.
    """

    finding: str
    score: float
    probability: float
    is_positive: bool


@dataclass(frozen=True)
class Phenotype:
    """One output of a phenotype classifier: its number from 0, its name where names were given, its probability."""

    number: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """Everything about one scan.

    Attributes:
        study: Its id.
        path: Where it lies.
        left_out: What the reader did not take of it.
        findings: In the order of the prompts; empty without prompts.
        phenotypes: In the classifier's order; empty where the model has none.
    """

    study: str
    path: str
    left_out: tuple[str, ...]
    findings: tuple[FindingScore, ...]
    phenotypes: tuple[Phenotype, ...]


def predict_scan(
    model: ScanModel, scan: Scan, *, prompts: PromptSet | None = None, phenotype_names: tuple[str, ...] = ()
) -> Prediction:
    """Findings and phenotypes of one scan.

    Args:
        model: With a text tower where prompts are given.
        scan: On the model's grid.
        prompts: Texts by finding; None scores no finding.
        phenotype_names: Of the classifier's outputs in their order, or none.

    Raises:
        ConfigError: As many names as the classifier has outputs are needed.
    """
    features = embed_scan(model, scan)
    findings = () if prompts is None else _findings(model, scan, features, prompts)
    return Prediction(
        scan.study, str(scan.path), scan.left_out, findings, _phenotypes(features.phenotypes, phenotype_names)
    )


def read_phenotype_names(path: str | Path) -> tuple[str, ...]:
    """Names from a text file, one per line, in the classifier's order.

    Raises:
        ConfigError: No such file, or an empty line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({type(error).__name__}); give one name per line", path=path) from error
    if not lines or not all(line.strip() for line in lines):
        raise ConfigError("is empty or has an empty line; give one name per line", path=path)
    return tuple(line.strip() for line in lines)


def write_predictions(predictions: list[Prediction], model: ScanModel, prompts: PromptSet | None, out: Path) -> None:
    """Write predictions as JSON, with the identity of the weights and of the prompts."""
    body = {
        "model": str(model.path),
        "digest": model.digest,
        "preset": model.preset.name,
        "prompts": prompts.name if prompts else None,
        "scans": [asdict(prediction) for prediction in predictions],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, json.dumps(body, indent=1).encode())


def format_prediction(prediction: Prediction, *, num_phenotypes: int = 20) -> str:
    """A table for the terminal: findings by falling score, and the likeliest phenotypes."""
    lines = [f"study {prediction.study}", *(f"  left out: {sentence}" for sentence in prediction.left_out)]
    if prediction.findings:
        lines.append(f"  {'finding':<34}{'score':>9}{'softmax':>9}")
    for found in sorted(prediction.findings, key=lambda found: -found.score):
        sign = "+" if found.is_positive else "-"
        lines.append(f"{sign:>2}{found.finding:<34}{found.score:>9.4f}{found.probability:>9.3f}")
    likeliest = sorted(prediction.phenotypes, key=lambda one: -one.probability)[:num_phenotypes]
    if likeliest:
        lines.append(f"  {f'phenotype ({len(likeliest)} likeliest of {len(prediction.phenotypes)})':<43}{'prob.':>9}")
    lines += [f"  {f'{one.number} {one.name}'.strip():<43}{one.probability:>9.3f}" for one in likeliest]
    return "\n".join(lines)


def _findings(model: ScanModel, scan: Scan, features: ScanFeatures, prompts: PromptSet) -> tuple[FindingScore, ...]:
    assert model.texts is not None
    scores = score_prompts(features.image[None], [scan.study], prompts=prompts, embed_texts=model.texts)
    return tuple(
        FindingScore(
            name, float(score[0]), float(probabilities(score, logit_scale=model.logit_scale)[0]), bool(score[0] > 0)
        )
        for name, score in scores.items()
    )


def _phenotypes(values: np.ndarray | None, names: tuple[str, ...]) -> tuple[Phenotype, ...]:
    count = 0 if values is None else len(values)
    if names and len(names) != count:
        raise ConfigError(f"{len(names)} phenotype names for {count} outputs of the classifier; give one per output")
    if values is None:
        return ()
    return tuple(Phenotype(number, names[number] if names else "", float(value)) for number, value in enumerate(values))
