"""The record of a study: the small text files that a repository keeps of it, and the commands that made it.

No checkpoint, no score of a single study and no folder of a machine is in it.
"""

import csv
import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ctclip.errors import StudyError
from ctclip.pages.page_markdown import render_markdown
from ctclip.study.grid import STUDY_FILE, StudyConfig
from ctclip.study.study_page import study_blocks
from ctclip.training.runlog import commit
from ctload.storage.durable import replace_file

COMMANDS_FILE = "commands.txt"
EFFECT_COLUMNS = (
    "metric", "name", "meaning", "value", "low", "high", "boot_low", "boot_high", "p", "p_flips", "p_holm",
    "sd_seeds", "se_patients", "df", "detectable",
)  # fmt: skip
FINDING_COLUMNS = ("name", "finding", "prevalence", "difference", "p_holm")
# An absolute path after a quote, a blank, a colon or an equals sign; its last name is kept.
_FOLDERS = re.compile(r"""(^|[\s"'`:=(])/(?:[^\s/"'`,;()]+/)*([^\s/"'`,;()]+)""", re.MULTILINE)


def note_command(folder: Path, words: Sequence[str]) -> None:
    """Add a command to the study's list, with the commit, where it is not the last one there already."""
    line = f"{commit()[:12]}  ctclip study {shlex.join(words)}"
    path = folder / COMMANDS_FILE
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if line not in known[-1:]:
        replace_file(path, "\n".join([*known, line, ""]).encode())


def write_record(
    study: StudyConfig, folder: Path, to: Path, *, summary: dict[str, Any], command: str = ""
) -> list[Path]:
    """Write study.json, commands.txt, cells.csv, effects.csv, findings.csv, summary.json and page.md.

    Args:
        study: With some finished cells.
        folder: Of the study; `summary`'s cells.csv is there.
        to: Folder of the record, made where it is missing; files of an earlier record are replaced.
        summary: Of `ctclip.study.summary.summarise`.
        command: The command of a study that noted none.

    Returns:
        What was written.

    Raises:
        StudyError: The study noted no command and none is given.
    """
    noted = folder / COMMANDS_FILE
    commands = noted.read_text(encoding="utf-8") if noted.exists() else f"{command}\n"
    if not commands.strip():
        raise StudyError("this study noted no command; give the one that made it with --command", path=folder)
    title = f"Study: {study.kind}"
    texts = {
        STUDY_FILE: (folder / STUDY_FILE).read_text(encoding="utf-8"),
        COMMANDS_FILE: commands,
        "cells.csv": (folder / "cells.csv").read_text(encoding="utf-8"),
        "effects.csv": _table(EFFECT_COLUMNS, _effects(summary)),
        "findings.csv": _table(FINDING_COLUMNS, _findings(summary)),
        "summary.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "page.md": render_markdown(title, study_blocks(study, folder, summary)),
    }
    to.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_file(to / name, without_folders(text).replace("\r\n", "\n").encode())
    return [to / name for name in texts]


def without_folders(text: str) -> str:
    """The text with every absolute path cut down to its last name.

    Example:
        >>> without_folders('--cohort phantom:/data/ph --out=/tmp/x/y "store": "/tmp/ph.zarr", 10/20 a / b https://a.b/c')
        '--cohort phantom:ph --out=y "store": "ph.zarr", 10/20 a / b https://a.b/c'
    """
    return _FOLDERS.sub(r"\1\2", text)


def _effects(summary: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for metric, effects in summary["effects"].items():
        yield from ({"metric": metric, **effect} for effect in effects)


def _findings(summary: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for row in summary["findings"]:
        yield from ({"name": row["name"], "finding": name, **entry} for name, entry in row["findings"].items())


def _table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
