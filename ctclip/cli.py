"""The command line of ctclip: a table of verbs. Each verb parses its own words and calls one function."""

import sys
from collections.abc import Callable, Sequence

from ctclip import demo, verbs
from ctclip.scans import scan_command
from ctclip.study import command as study_command
from ctclip.training import doctor
from ctload.errors import CtloadError

VERBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "demo": (demo.main, "phantoms -> store -> training -> zero-shot scores -> one HTML page, in minutes"),
    "phantom": (verbs.phantom, "make a synthetic cohort of CT volumes with reports, labels and masks"),
    "doctor": (doctor.main, "run one batch through every stage of a training, and say what it takes"),
    "train": (verbs.train, "train a dual encoder on a packed store and its reports"),
    "embed": (verbs.embed, "write the image embeddings of a split, or of single scans"),
    "predict": (scan_command.predict, "phenotypes and zero-shot findings of single scans"),
    "export": (verbs.export, "write a run as a checkpoint that Merlin's own code loads"),
    "evaluate": (verbs.evaluate, "zero-shot scores of embeddings by prompts, with intervals"),
    "compare": (verbs.compare, "paired differences of two runs, with intervals and p values"),
    "study": (study_command.main, "many controlled trainings compared: batch composition, data scaling, methods"),
    "reports": (verbs.reports, "show sections, sentences, normality and findings of reports"),
}


def usage() -> str:
    lines = ["usage: ctclip VERB [options]   (ctclip VERB --help)", ""]
    return "\n".join(lines + [f"  {name:<10} {text}" for name, (_, text) in VERBS.items()])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Exit status: 0 done, 2 refused with a typed error or a wrong command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] not in VERBS:
        print(f"ctclip: no verb {words[0]!r}\n{usage()}", file=sys.stderr)
        return 2
    try:
        return VERBS[words[0]][0](words[1:])
    except CtloadError as error:
        print(f"ctclip {words[0]}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
