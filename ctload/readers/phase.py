"""Words for the contrast phase, found in the free text of a series. A closed list: no other word of the text gets out.

They are words of the text, not a finding about the image: descriptions are typed by hand and may be wrong.
"""

import re

# Word -> how it is written, in English, and in the German, French, Spanish and Italian of many exports.
PATTERNS = {
    "native": r"native?|nativ[ao]?|unenhanced|non[ -]?(contrast|enhanced)|without( iv)? contrast|w/?o( iv)? contrast"
    r"|without(?= and with)|sin contraste|sans (contraste|injection)|senza (contrasto|mdc)|plain|ohne km|basale?",
    "contrast": r"enhanced|with( iv)? contrast|c\+|ce|km|mdc|iv contrast|post contrast",
    "arterial": r"arterial|arterielle?|arterial phase|art|art[e\u00e9]riel(le)?|arteriosa",
    "portal": r"portal|portal[- ]?ven(ous|[o\u00f6]s)|pv|pvp|portale?|porto[- ]?venoso",
    "venous": r"venous|ven[o\u00f6]se?|venosa|veineux|ven",
    "delayed": r"delayed|late|sp[a\u00e4]t(phase)?|tardive?|tardia|equilibrium",
    "nephrographic": r"nephro(graphic|genic|graphisch)?",
    "excretory": r"excretory|urographic|urographie|ausscheidung(sphase)?",
    "angio": r"angio(graphy|graphie)?|cta|ctpa|pe protocol|pulmonary angio",
}
_FOUND = {
    word: re.compile(rf"(?<![a-z0-9])({pattern})(?![a-z0-9])", re.IGNORECASE) for word, pattern in PATTERNS.items()
}


def phase_words(*texts: str) -> str:
    """The words of PATTERNS that occur, in its order, joined by blanks; "" where none does.

    Example:
        >>> phase_words("Abdomen portal-venous 3.0 B30f")
        'portal venous'
        >>> phase_words("CHEST W/O CONTRAST")
        'native'
    """
    text = " ".join(texts).replace("_", " ")
    found = [word for word, pattern in _FOUND.items() if pattern.search(text)]
    if "native" in found and "contrast" in found and not _FOUND["contrast"].search(_FOUND["native"].sub(" ", text)):
        found.remove("contrast")
    return " ".join(found)
