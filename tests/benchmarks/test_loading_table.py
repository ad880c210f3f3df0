"""README's tables and plot are made of the newest rows, with each rival at its fastest setting."""

import csv
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, fields, replace

import pytest

from benchmarks import loading_table
from benchmarks.loading import CACHED, OURS, WORKS
from benchmarks.rows import Row

NAMES = [name for name, _, _ in WORKS.values()]


def _rows(work: str, commit: str, rates: dict[str, float]) -> list[Row]:
    made = []
    for provider, rate in rates.items():
        row = Row(
            work, provider, "batch=4", "rate", "studies/s", rate / 2, rate, 2 * rate, 5, "m", commit, "2026-01-01"
        )
        made += [row, replace(row, metric="cpu", unit="ms/study", p50=7.0)]
        for ours in (OURS, CACHED):
            if ours in rates and provider != ours:
                ratio = rates[ours] / rate
                made.append(replace(row, provider=f"{ours} / {provider}", metric="ratio", unit="x", p50=ratio))
    return made


@pytest.fixture
def results(tmp_path):
    rows = []
    for work in NAMES:
        rows += _rows(work, "old", {OURS: 900.0, "gone": 1.0})
        rows += _rows(
            work, "new", {OURS: 80.0, CACHED: 160.0, "monai workers=0": 20.0, "monai workers=2": 40.0, "a < b": 10.0}
        )
    with (tmp_path / "loading.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return tmp_path


def test_tables_and_plot_take_the_newest_run_and_each_rival_at_its_fastest(results):
    readme = results / "README.md"
    begin, end = loading_table.MARKERS
    readme.write_text(f"before\n{begin}\nold table\n{end}\nafter\n")
    for _ in range(2):  # the second time replaces the first
        loading_table.write_report(results, readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{end}\nafter\n")
    assert not any(old in text for old in ("old table", "gone", "workers=0"))
    assert text.count("| monai workers=2 | 40 [20, 80] | 7 | 2x [20, 80] | 4x [20, 80] |") == len(NAMES)
    assert text.count(f"| **{CACHED}** | 160 [80, 320] | 7 | 0.5x [80, 320] |  |") == len(NAMES)
    assert "peak MiB" not in text  # no row has it
    plot = ElementTree.fromstring((results / "loading.svg").read_text())
    words = [element.text for element in plot.iter() if element.tag.endswith("text")]
    assert words.count(OURS) == len(NAMES)
    assert "a < b" in words


def test_a_readme_without_markers_is_left_alone(results):
    (results / "README.md").write_text("no markers\n")
    with pytest.raises(ValueError, match="markers"):
        loading_table.write_report(results, results / "README.md")
    assert (results / "README.md").read_text() == "no markers\n"


def test_rows_that_are_missing_are_named():
    with pytest.raises(ValueError, match=r"benchmarks\.run loading"):
        loading_table.newest_lines([], NAMES[0])
