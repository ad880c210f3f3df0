"""The command line: a table of verbs. Each has a file of its own in ctload/verbs with `add_options` and `run`, and is
loaded when it is called.

Exit status: 0, all went well; 1, a source was refused, or a file of the store is not as it was written; 2, nothing
could be done; 130, interrupted.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ctload.errors import CtloadError
from ctload.verbs.status import FAILED, INTERRUPTED

VERBS = {
    "scan": "what lies in an export, as a table of series",
    "pack": "sources into a store",
    "merge": "the parts of a store into one",
    "drop": "studies out of a store",
    "info": "what a store holds",
    "view": "three planes of a study as a PNG",
    "plan": "what batches would read, without reading it",
    "bench": "how fast batches come, and what they wait for",
    "verify": "every file of a store against what was written",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: As typed after `ctload`; None means the process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(words[0] if words else "").parse_args(words)
        return options.run(options)
    except CtloadError as error:
        print(f"ctload: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        # The text of an OSError names a file, which may be one of a source.
        print(f"ctload: a file or folder cannot be used ({error.strerror or type(error).__name__})", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("ctload: interrupted; run the same command again, it goes on where it was", file=sys.stderr)
        return INTERRUPTED


def _parser(wanted: str) -> argparse.ArgumentParser:
    """All verbs by name; the words of the one that is wanted."""
    parser = argparse.ArgumentParser(prog="ctload", description="Stores of CT volumes, from scan to verify.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        if name == wanted:
            module = importlib.import_module(f"ctload.verbs.{name}")
            module.add_options(verb)
            verb.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
