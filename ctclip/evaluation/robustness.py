"""How much a zero-shot score depends on how the prompt is worded: one score per template, and their spread."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import EvaluationError
from ctclip.evaluation.draws import draw_auroc, mean_over_findings
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.statistics import none_if_nan, paired_difference, percentile_interval
from ctclip.evaluation.zeroshot import EmbedTexts, score_cohort
from ctclip.reports.sections import clean_text
from ctclip.texts.finding_anatomy import ANATOMY_OF
from ctclip.texts.prompts import Prompts, PromptSet

# (name, positive, negative); {d} is the finding, {a} its anatomy. A change of the list is a change of VERSION.
VERSION = 1
TEMPLATES = (
    ("not", "{d}.", "Not {d}."),
    ("no", "{d}.", "No {d}."),
    ("present", "{d} is present.", "{d} is not present."),
    ("there is", "There is {d}.", "There is no {d}."),
    ("anatomy shows", "The {a} shows: {d}.", "The {a} shows: Not {d}."),
    ("evidence", "Evidence of {d} in the {a}.", "No evidence of {d} in the {a}."),
    ("observed", "{d} was observed.", "{d} was not observed."),
    ("normal anatomy", "The {a} is abnormal, with {d}.", "The {a} is normal, without {d}."),
    ("significant", "{a} shows {d}.", "{a} shows no significant abnormalities."),
    ("bare", "{d}", "no {d}"),
)


@dataclass(frozen=True)
class TemplateScores:
    """AUROCs by template; the last row is the ensemble of all.

    Attributes:
        findings: (F,) names.
        values: (K + 1, F) AUROC on the studies; NaN where undefined.
        draws: (R, K + 1) macro AUROC under each bootstrap draw.
    """

    findings: tuple[str, ...]
    values: np.ndarray
    draws: np.ndarray

    @property
    def macro(self) -> np.ndarray:
        """(K + 1,) mean over the findings that are defined; NaN when none is."""
        return mean_over_findings(self.values[:, ~np.isnan(self.values).any(0)])

    def report(self, *, level: float = 0.95) -> dict[str, Any]:
        """Mean, spread and range over the templates, the ensemble, and each template's macro AUROC; for JSON."""
        macro = self.macro[:-1]
        spread = percentile_interval(float(macro.std(ddof=1)), self.draws[:, :-1].std(axis=1, ddof=1), level=level)
        defined = ~np.isnan(self.values).any(0)
        numbers = {
            "mean": macro.mean(), "variance": macro.var(ddof=1), "min": macro.min(), "max": macro.max(),
            "range": np.ptp(macro), "ensemble": self.macro[-1],
        }  # fmt: skip
        by_template = zip(TEMPLATES, macro, strict=True)
        return {
            "version": VERSION,
            "macro_auroc": {name: none_if_nan(float(value)) for (name, _, _), value in by_template},
            **{name: none_if_nan(float(value)) for name, value in numbers.items()},
            "sd": spread.as_dict(),
            "sd_draws": [none_if_nan(round(float(value), 7)) for value in self.draws[:, :-1].std(axis=1, ddof=1)],
            "findings": list(self.findings),
            "mean_sd_per_finding": float(self.values[:-1, defined].std(axis=0, ddof=1).mean())
            if defined.any()
            else None,
            "num_findings": int(defined.sum()),
        }


def template_prompts(findings: Sequence[str], *, template: int, anatomy_of: dict[str, str] | None = None) -> PromptSet:
    """One prompt pair per finding from one template.

    Args:
        findings: Names; "_" reads as a blank.
        template: Index into TEMPLATES.
        anatomy_of: Finding -> anatomy; ANATOMY_OF without it.

    Raises:
        EvaluationError: A finding without an anatomy.
    """
    anatomy_of = ANATOMY_OF if anatomy_of is None else anatomy_of
    unknown = [name for name in findings if name not in anatomy_of]
    if unknown:
        raise EvaluationError(f"no anatomy for findings {unknown}; pass anatomy_of to fill the templates")
    name, positive, negative = TEMPLATES[template]

    def fill(pattern: str, finding: str) -> tuple[str, ...]:
        return (clean_text(pattern.format(d=finding.replace("_", " "), a=anatomy_of[finding])),)

    pairs = {finding: Prompts(fill(positive, finding), fill(negative, finding)) for finding in findings}
    return PromptSet(f"template: {name}", pairs)


def macro_by_template(
    image_embeddings: np.ndarray,
    studies: Sequence[str],
    *,
    cohort: Cohort,
    embed_texts: EmbedTexts,
    options: EvaluateOptions | None = None,
    apart: Mapping[str, np.ndarray] | None = None,
) -> TemplateScores:
    """AUROC of every finding under every template, and under the mean of all templates' unit vectors.
    Arguments as in `score_cohort`.

    Raises:
        EvaluationError, PromptError: As `ctclip.evaluation.zeroshot.score_cohort`.
    """
    options = options or EvaluateOptions()
    sets = [template_prompts(cohort.findings, template=k) for k in range(len(TEMPLATES))]
    pooled = {
        finding: Prompts(
            tuple(dict.fromkeys(text for one in sets for text in one.prompts[finding].positive)),
            tuple(dict.fromkeys(text for one in sets for text in one.prompts[finding].negative)),
        )
        for finding in cohort.findings
    }
    aggregates = ["similarities"] * len(sets) + ["embeddings"]
    values, draws = [], []
    for prompts, aggregate in zip([*sets, PromptSet("template: all", pooled)], aggregates, strict=True):
        table = score_cohort(
            image_embeddings,
            studies,
            cohort=cohort,
            prompts=prompts,
            embed_texts=embed_texts,
            aggregate=aggregate,
            apart=apart,
        )
        on_studies, under_draws = draw_auroc(table, options=options)
        values.append(on_studies)
        draws.append(mean_over_findings(under_draws))
    return TemplateScores(cohort.findings, np.array(values), np.array(draws).T)


def compare_robustness(a: TemplateScores, b: TemplateScores, *, level: float = 0.95) -> dict[str, Any]:
    """Difference of the spreads over templates, A - B, paired by draw: below 0, the first is the more robust.

    Raises:
        EvaluationError: Other findings, or another number of draws.
    """
    if a.findings != b.findings or a.draws.shape != b.draws.shape:
        raise EvaluationError("robustness is compared on the same findings with the same draws; score both alike")
    spread = [scores.macro[:-1].std(ddof=1) for scores in (a, b)]
    draws = [scores.draws[:, :-1].std(axis=1, ddof=1) for scores in (a, b)]
    result = paired_difference(float(spread[0]), float(spread[1]), draws[0], draws[1], level=level)
    return {"a": float(spread[0]), "b": float(spread[1]), **result.as_dict()}


def compare_reported(a: Mapping[str, Any], b: Mapping[str, Any], *, level: float = 0.95) -> dict[str, Any]:
    """`compare_robustness` from the reports of two runs, or {"reason": why they cannot be paired}.

    Args:
        a: Report of `ctclip evaluate` on one run.
        b: The other's, on the same studies in the same order.
        level: Of the interval.
    """
    parts: list[dict[str, Any]] = [report.get("robustness") or {} for report in (a, b)]
    if not all("sd_draws" in part for part in parts):
        return {"reason": "not both runs have robustness results; run `ctclip evaluate` on both"}
    how = [
        (part["findings"], part["version"], len(part["sd_draws"]), report["stamp"].get("seed"))
        for part, report in zip(parts, (a, b), strict=True)
    ]
    if how[0] != how[1]:
        return {"reason": "robustness of other findings, templates or draws; evaluate both runs alike"}
    spreads = [math.nan if part["sd"]["value"] is None else part["sd"]["value"] for part in parts]
    draws = [np.array([math.nan if value is None else value for value in part["sd_draws"]]) for part in parts]
    result = paired_difference(spreads[0], spreads[1], draws[0], draws[1], level=level).as_dict()
    return {"a": none_if_nan(spreads[0]), "b": none_if_nan(spreads[1]), "difference": result.pop("value"), **result}
