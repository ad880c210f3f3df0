"""`ctload verify`: every file of a store against what was written."""

import argparse
from pathlib import Path

from ctload.storage.verification import verify
from ctload.verbs.status import OK, REFUSED


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("--workers", type=int, default=1, help="studies checked at a time (default 1)")


def run(options: argparse.Namespace) -> int:
    """Check, and name every problem."""
    report = verify(options.store, options.workers)
    for problem in report.problems:
        print(": ".join(part for part in (problem.study, problem.path, problem.message) if part))
    state = "sound" if report.is_sound else f"{len(report.problems)} problems"
    print(
        f"{options.store}: {state}; {report.num_studies} studies, {report.num_files} files, "
        f"{report.num_bytes / 1e6:.1f} MB of voxels checked"
    )
    return OK if report.is_sound else REFUSED
