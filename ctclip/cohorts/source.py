"""A cohort by name: "table:FILE", "phantom:DIR", "merlin:DIR", "ct-rate:DIR" or "rad-chestct:DIR"."""

from collections.abc import Callable, Sequence

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.ct_rate import read_ct_rate
from ctclip.cohorts.merlin import read_merlin
from ctclip.cohorts.phantom import read_phantom
from ctclip.cohorts.rad_chestct import read_rad_chestct
from ctclip.cohorts.table import read_table
from ctclip.errors import CohortError

READERS: dict[str, Callable[[str, bool], Cohort]] = {
    "phantom": lambda place, is_partial: read_phantom(place),
    "merlin": lambda place, is_partial: read_merlin(place, is_partial=is_partial),
    "ct-rate": lambda place, is_partial: read_ct_rate(place, is_partial=is_partial),
    "rad-chestct": lambda place, is_partial: read_rad_chestct(place, is_partial=is_partial),
}
TABLE = "table"
KINDS = (TABLE, *READERS)


def read_cohort(source: str, *, is_partial: bool = False, findings: Sequence[str] = ()) -> Cohort:
    """Read a cohort.

    Args:
        source: "KIND:PLACE".
        is_partial: For releases: use the studies that have both tables and a volume.
        findings: For table: its label columns; those that bear a known finding's name when there are none.

    Raises:
        CohortError: Another kind, findings for another kind than table, or what the reader refuses.

    Example:
        >>> read_cohort("merlin:/data/merlin").summary()  # doctest: +SKIP
    """
    kind, _, place = source.partition(":")
    if kind not in KINDS or not place:
        raise CohortError(f"{source!r} names no cohort; write KIND:PLACE, KIND one of {', '.join(KINDS)}")
    if kind == TABLE:
        return read_table(place, findings=findings or None)
    if findings:
        raise CohortError(f"findings {list(findings)} name label columns of a table; {source!r} has its own")
    return READERS[kind](place, is_partial)
