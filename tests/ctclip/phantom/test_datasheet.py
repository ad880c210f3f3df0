"""The datasheet's table is the catalogue, and the numbers it quotes are rows of the results."""

import csv
from pathlib import Path

import pytest

import ctclip.phantom
from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.planting import efficiency

README = Path(ctclip.phantom.__file__).with_name("README.md").read_text(encoding="utf-8")
RESULTS = Path(ctclip.phantom.__file__).parents[2] / "benchmarks" / "results" / "phantom_learnability.csv"


def rows_of_table() -> dict[str, list[str]]:
    lines = [line for line in README.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells if row[0] in FINDINGS and len(row) == 7}


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_datasheet_states_what_the_catalogue_holds(finding):
    _, section, _, measure, prevalence, demo, source = rows_of_table()[finding]
    facts, knobs = CATALOGUE[finding], Knobs.demo()
    assert section == facts.section
    assert float(prevalence) == facts.prevalence
    assert source == facts.source
    sizes = " / ".join(f"{low:g}-{high:g}" for low, high in facts.size_mm)
    assert measure == (f"{facts.measure} {sizes}" if facts.measure else "-")
    share = knobs.prevalence[finding]
    assert demo == (f"{share:g}, x{knobs.effect[finding]:g}" if share else "-")


def test_the_datasheet_quotes_the_planting_formula():
    for planted in ("75:25", "50:50"):
        row = next(line for line in README.splitlines() if line.startswith(f'| `planted="{planted}"`'))
        quoted = [float(cell) for cell in row.strip("|").split("|")[1:]]
        assert quoted == pytest.approx([efficiency(share, planted) for share in (0.25, 0.5, 0.75)], abs=6e-5)


def test_every_finding_that_resists_learning_is_named_with_a_reason():
    with RESULTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[-len(FINDINGS) :]
    assert [row["finding"] for row in rows] == list(FINDINGS)
    section = README.split("## What was measured")[1].split("\n## ")[0]
    for row in rows:
        is_learned = float(row["auroc"]) >= 0.6 and float(row["ap"]) >= 1.2 * float(row["prevalence"])
        if int(row["num_positive_test"]) >= 30 and not is_learned:
            assert f"`{row['finding']}`" in section
