"""SeriesRule: which series of a study is its volume, said by the user as clauses over the columns of a scan.

    kernel=B30f|B31f; thickness<=3; prefer phase~venous; most slices

Clauses are separated by `;` and applied from left to right:
    COLUMN = VALUE        also != < <= > >= ; `~` means contains; A|B|C are alternatives of = != and ~
    prefer CLAUSE         keeps the series it holds for where there is one, else all
    most COLUMN           keeps the series with the largest value; `least COLUMN` with the smallest
    all                   every series left becomes a study of its own; without it more than one left is a tie
Case does not matter. A series without a value in a column does not meet a clause about it. Nothing is guessed: a study
with no series left, or with a tie, is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctload.errors import SeriesRuleError

# Short words for columns of a scan.
ALIASES = {"slices": "num_slices", "thickness": "thickness_mm", "spacing": "spacing_z_mm", "files": "num_files"}

_COMPARED = re.compile(r"(?P<prefer>prefer\s+)?(?P<column>[^\s<>=!~]+)\s*(?P<sign><=|>=|!=|=|<|>|~)\s*(?P<value>.+)")
_RANKED = re.compile(r"(?P<order>most|least)\s+(?P<column>\S+)")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Clause:
    """One clause: sign is one of = != < <= > >= ~ most least."""

    column: str
    sign: str
    value: str = ""
    is_preference: bool = False

    def left(self, rows: Sequence[Row]) -> list[int]:
        """Places of the rows that this clause leaves."""
        if self.sign in ("most", "least"):
            return self._extreme(rows)
        found = [place for place, row in enumerate(rows) if self._holds(row[self.column])]
        return found if found or not self.is_preference else list(range(len(rows)))

    def _extreme(self, rows: Sequence[Row]) -> list[int]:
        values = [_number(row[self.column]) for row in rows]
        known = [value for value in values if value is not None]
        if not known:
            return list(range(len(rows)))
        best = max(known) if self.sign == "most" else min(known)
        return [place for place, value in enumerate(values) if value == best]

    def _holds(self, value: Any) -> bool:
        if value is None or value == "":
            return False
        if self.sign in ("=", "!=", "~"):
            same = any(_is_like(str(value), wanted.strip(), self.sign) for wanted in self.value.split("|"))
            return same != (self.sign == "!=")
        number, limit = _number(value), float(self.value)
        if number is None:
            return False
        below, above = number < limit, number > limit
        return {"<": below, ">": above, "<=": not above, ">=": not below}[self.sign]


@dataclass(frozen=True)
class SeriesRule:
    """Clauses in their order.

    Attributes:
        text: As it was written.
        clauses: What it means.
        takes_all: Whether several series of a study may be left.
    """

    text: str
    clauses: tuple[Clause, ...]
    takes_all: bool = False

    @classmethod
    def from_text(cls, text: str) -> "SeriesRule":
        """Read a rule.

        Raises:
            SeriesRuleError: A clause is none of those above.
        """
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            raise SeriesRuleError('an empty series rule chooses nothing; say "most slices", or "all" for every series')
        clauses = tuple(_clause(part) for part in parts if part.lower() != "all")
        return cls(text, clauses, any(part.lower() == "all" for part in parts))

    def chosen(self, rows: Sequence[Row]) -> list[int]:
        """Places of the rows of one study that are left after all clauses.

        Args:
            rows: Column -> value, of the series that may be packed.

        Raises:
            SeriesRuleError: A column that the rows do not have.
        """
        left = list(range(len(rows)))
        for clause in self.clauses:
            if rows and clause.column not in rows[0]:
                raise SeriesRuleError(
                    f"the series rule asks for the column {clause.column!r}; there are {', '.join(rows[0])}"
                )
            left = [left[place] for place in clause.left([rows[place] for place in left])]
        return left


def _clause(text: str) -> Clause:
    if ranked := _RANKED.fullmatch(text):
        return Clause(_column(ranked["column"]), ranked["order"])
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        raise SeriesRuleError(
            f"the clause {text!r} of the series rule is none; write COLUMN=VALUE (or != < <= > >= ~), 'prefer "
            "COLUMN=VALUE', 'most COLUMN', 'least COLUMN' or 'all', separated by ;"
        )
    clause = Clause(_column(compared["column"]), compared["sign"], compared["value"], bool(compared["prefer"]))
    if clause.sign in ("<", "<=", ">", ">=") and _number(clause.value) is None:
        raise SeriesRuleError(f"the clause {text!r} of the series rule compares with no number")
    return clause


def _column(name: str) -> str:
    return ALIASES.get(name.lower(), name.lower())


def _is_like(value: str, wanted: str, sign: str) -> bool:
    if sign == "~":
        return wanted.casefold() in value.casefold()
    numbers = _number(value), _number(wanted)
    return value.casefold() == wanted.casefold() if None in numbers else numbers[0] == numbers[1]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if number != number else number
