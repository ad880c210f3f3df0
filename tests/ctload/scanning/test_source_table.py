"""Tables of sources: what of a table reaches the store, and what never does."""

import csv
from pathlib import Path

from ctload.scanning.source_table import read_source_table


def write_table(path: Path, num_rows: int, report: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "path", "patient", "report", "scanner"])
        writer.writerows([f"s{row}", f"s{row}.nii.gz", f"p{row}", report, "A"] for row in range(num_rows))
    return path


def test_reports_of_many_lines_are_read_across_the_blocks_of_a_large_file(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", 3000, "Liver: Normal.\nSpleen: Normal.\n" * 20)
    assert len(read_source_table(table)) == 3000


def test_reports_and_patients_are_not_carried_into_a_store(tmp_path: Path) -> None:
    (source,) = read_source_table(write_table(tmp_path / "t.csv", 1, "words"))
    assert source.extra == {"scanner": "A"}
