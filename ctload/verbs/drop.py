"""`ctload drop`: studies out of a store."""

import argparse
from pathlib import Path

from ctload.packing.dropping import drop
from ctload.verbs.status import OK


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="an id, as `ctload info STORE --studies` lists it")


def run(options: argparse.Namespace) -> int:
    """Drop them all, or none."""
    report = drop(options.store, options.studies)
    print(f"{options.store}: dropped {len(report.dropped)}; {report.num_studies} studies in the store now")
    return OK
