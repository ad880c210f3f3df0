"""`ctload merge`: the parts of a store into one."""

import argparse
from pathlib import Path

from ctload.packing.merging import merge
from ctload.verbs.status import OK


def add_options(parser: argparse.ArgumentParser) -> None:
    """The words of the verb."""
    add = parser.add_argument
    add("parts", nargs="+", type=Path, metavar="PART", help="a store; all of STORE.part-I-of-N, and they stay")
    add("--out", required=True, type=Path, metavar="STORE", help="the store; made or added to")
    add("--incomplete", action="store_true", help="merge although one of N parts is not given")


def run(options: argparse.Namespace) -> int:
    """Merge, and say what came in."""
    report = merge(options.parts, options.out, may_lack_parts=options.incomplete)
    print(
        f"{options.out}: merged {len(report.merged)}, had {len(report.reused)} already; {report.num_studies} studies "
        "in the store now"
    )
    return OK
