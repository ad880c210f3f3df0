"""Prompts: for each finding, texts that affirm it and texts that deny it. Read from JSON, kept in cleaned form.

Two forms of file are read: flat, {finding: {"positive": [...], "negative": [...]}}, and the same under a key
"prompts" of an envelope whose other keys are free ("normal" there, in the same shape, scores the absence of all
findings). An entry's other keys, such as a region, are let through.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ctclip.errors import PromptError
from ctclip.findings import KNOWN_FINDINGS
from ctclip.reports.sections import clean_text

DEFAULT_SETS = ("merlin_30", "ct_rate_18")
_FORMS = (
    'a prompt file is {"finding": {"positive": ["text", ...], "negative": ["text", ...]}, ...}, or the same under the '
    'key "prompts" of an object with other keys'
)


@dataclass(frozen=True)
class Prompts:
    """The texts of one finding, in cleaned form; both lists have at least one."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class PromptSet:
    """Prompts by finding.

    Attributes:
        name: For stamping scores: the set's name or the file's stem.
        prompts: Finding -> its texts, in the order of the file.
        normal: Texts for "no finding at all", when the file has them.
    """

    name: str
    prompts: dict[str, Prompts]
    normal: Prompts | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(self.prompts)

    def missing(self, findings: Iterable[str]) -> tuple[str, ...]:
        """The findings asked for that have no prompts here."""
        return tuple(name for name in findings if name not in self.prompts)

    def select(self, findings: Sequence[str]) -> "PromptSet":
        """The prompts of these findings, in this order; findings without prompts are left out (see `missing`).

        Raises:
            PromptError: The set has a name that is neither among the findings nor a known one (a typing error would
                otherwise drop a finding in silence), or nothing is left.
        """
        strange = [name for name in self.prompts if name not in findings and name not in KNOWN_FINDINGS]
        if strange:
            near = difflib.get_close_matches(strange[0], findings, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PromptError(
                f"prompt set {self.name!r} has findings {strange} that the labels do not know{hint} "
                f"The labels have {list(findings)}"
            )
        kept = {name: self.prompts[name] for name in findings if name in self.prompts}
        if not kept:
            raise PromptError(
                f"prompt set {self.name!r} has no prompts for any of {list(findings)}; it has {list(self.prompts)}"
            )
        return PromptSet(self.name, kept, self.normal)

    def texts(self) -> list[str]:
        """Every distinct text of the set, the normal ones too, in order."""
        entries = [*self.prompts.values(), *([self.normal] if self.normal else [])]
        return list(dict.fromkeys(text for entry in entries for text in (*entry.positive, *entry.negative)))


def default_prompts(findings: Sequence[str]) -> PromptSet:
    """The project's own set that covers most of these findings.

    Raises:
        PromptError: Neither set covers any of them.
    """
    sets = [_read_package_set(name) for name in DEFAULT_SETS]
    best = min(sets, key=lambda prompt_set: len(prompt_set.missing(findings)))
    if len(best.missing(findings)) == len(findings):
        raise PromptError(f"no default prompts for {list(findings)}; give your own as a file: {_FORMS}")
    return best


def load_prompts(path: str | Path) -> PromptSet:
    """Read a prompt file of either form.

    Raises:
        PromptError: No such file, no JSON, no known form, a finding twice, an empty list or text.
    """
    path = Path(path)
    if not path.is_file():
        raise PromptError(f"no such prompt file; {_FORMS}", path=path)
    try:
        return parse_prompts(path.read_text(encoding="utf-8"), name=path.stem)
    except PromptError as error:
        raise PromptError(error.message, path=path) from error
    except UnicodeDecodeError as error:
        raise PromptError(f"the file is not UTF-8 text: {error}; {_FORMS}", path=path) from error


def parse_prompts(text: str, *, name: str) -> PromptSet:
    """Prompts from JSON text; the errors of `load_prompts`, without its path."""
    try:
        document = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise PromptError(f"the file is no JSON ({error}); {_FORMS}") from error
    if not isinstance(document, dict) or not document:
        raise PromptError(f"the file holds {type(document).__name__}; {_FORMS}")
    entries = document.get("prompts", document)
    if not isinstance(entries, dict) or not entries:
        raise PromptError(f'"prompts" holds {type(entries).__name__} or nothing; {_FORMS}')
    normal = document.get("normal") if entries is not document else None
    name = document["name"] if entries is not document and isinstance(document.get("name"), str) else name
    return PromptSet(
        name,
        {finding: _entry(finding, entry) for finding, entry in entries.items()},
        _entry("normal", normal) if normal is not None else None,
    )


def _entry(finding: str, entry: Any) -> Prompts:
    if not isinstance(entry, dict) or not {"positive", "negative"} <= set(entry):
        raise PromptError(f'finding {finding!r} has no "positive" and "negative" lists; {_FORMS}')
    return Prompts(_texts(finding, "positive", entry["positive"]), _texts(finding, "negative", entry["negative"]))


def _texts(finding: str, side: str, texts: Any) -> tuple[str, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PromptError(f'finding {finding!r}: "{side}" is no list of texts; {_FORMS}')
    cleaned = tuple(clean_text(text) for text in texts)
    if not cleaned or not all(cleaned):
        raise PromptError(f'finding {finding!r}: "{side}" is empty or has an empty text; give at least one text')
    return cleaned


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise PromptError(f"keys {twice} stand twice in one object; join their lists under one key")
    return dict(pairs)


def _read_package_set(name: str) -> PromptSet:
    file = resources.files("ctclip.prompt_sets") / f"{name}.json"
    return parse_prompts(file.read_text(encoding="utf-8"), name=name)
