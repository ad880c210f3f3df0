"""A report as sentences, and a sentence as clauses. Splitting only: no word has a meaning here.

Works on text as written and on text in the cleaned form of ctclip.reports.sections.clean_text.
"""

import re
from dataclasses import dataclass

_ABBREVIATIONS = (
    "approx", "dr", "mr", "mrs", "ms", "prof", "st", "vs", "e.g", "i.e", "cf", "fig", "ca", "al", "resp", "incl",
    "max", "min", "ant", "post", "lat", "med",
)  # fmt: skip
_DOT = "\x00"  # stands for a full stop that ends no sentence

_DECIMAL = re.compile(r"(?<=\d)\.(?=\d)")
_CLEANED_DECIMAL = re.compile(r"(?<=\d) \. (?=\d+ ?(?:x|cm|mm|ml|cc|hu|%)\b)")
_ABBREVIATION = re.compile(rf"\b(?:{'|'.join(re.escape(word) for word in _ABBREVIATIONS)})\.(?=\s*[a-z\d(])", re.I)
_NUMBER_SIGN = re.compile(r"\bno\.(?=\s*\d)", re.I)
_GLUED = re.compile(r"(?<=[a-z\d)%])([.!?])(?=[A-Z])")
_SPACE_BEFORE = re.compile(r"\s+(?=[.,;:!?)])")
_SPACE_AROUND = re.compile(r"(?<=\w) ([-/]) (?=\w)")
_LIST_NUMBER = re.compile(r"(?:(?<=[.!?])|^)\s*\(?\d{1,2}[.)]\s+(?=[A-Za-z])", re.M)
_END_WRITTEN = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"(\-<])|(?<=[a-z]{4}[.!?])\s+(?=[a-z])")
_END_CLEANED = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_BREAK = re.compile(r"[\r\n]+|\s*[\"\u201c\u201d]+\s*|\s?[*\u00b7\u2022\u25cf]\s?|^\s*-\s", re.M)
_HEADING = re.compile(r"^\W*([a-z][a-z /,&()\-]{1,60}?)\s*:(?=\s|$)\s*", re.I)
_MAX_HEADING_WORDS = 6
_LETTER = re.compile(r"[^\W\d_]")

# A clause ends where another statement can begin. A comma or an "and" alone does not end one: "no mass, nodule or
# effusion" is one statement. It does when both sides have a verb of their own.
_VERB = (
    r"(?:is|are|was|were|has|have|had|shows?|showed|appears?|appeared|demonstrates?|contains?|measures?|cannot|could|can|"
    r"did)"
)
_HARD_CUT = re.compile(
    r"\s*[;:]\s+|\s*[,.]?\s*\b(?:but|however|although|though|whereas|while|except(?:ing)?(?: for)?|apart from|"
    r"aside from|other than|besides|nevertheless|otherwise)\b[,:]?\s*|"
    r"\s*,?\s+and (?=(?:there (?:is|are|was|were)|no|without)\b)|\s*,\s*(?=(?:no|without|there (?:is|are|was|were))\b)|"
    r"\s+(?=(?:with|and) no\b)",
    re.I,
)
_SOFT_CUT = re.compile(r"\s*,\s*(?:and\s+|which\s+)?|\s+and\s+|\s+which\s+", re.I)
_ARTICLE = re.compile(r"(?:an?|the|one|two|three|several|multiple|few|some|many|both|bilateral|\d+)\b", re.I)
_HAS_VERB = re.compile(rf"\b{_VERB}\b", re.I)
_SUBJECT_AND_VERB = re.compile(rf"^\s*(?:\S+\s+){{1,12}}?{_VERB}\b", re.I)
_NEGATED_LIST = re.compile(r"\b(?:no|without|nor|neither)\b[^.]*$", re.I)


@dataclass(frozen=True)
class Sentence:
    """One sentence as written.

    Attributes:
        text: Without its heading, white space normalised.
        heading: The heading right before it ("Liver"), or "".
    """

    text: str
    heading: str


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of a report or a section, in order; fragments without a letter are dropped.

    Example:
        >>> [s.text for s in split_sentences("Liver: Cyst of 1.5 cm.Spleen: Normal.")]
        ['Cyst of 1.5 cm.', 'Normal.']
    """
    text = _protect(text)
    end = _END_CLEANED if text == text.lower() else _END_WRITTEN
    sentences, heading = [], ""
    for line in _BREAK.split(_LIST_NUMBER.sub("\n", text)):
        for piece in end.split(line):
            match = _HEADING.match(piece)
            if match and len(match.group(1).split()) <= _MAX_HEADING_WORDS:
                heading, piece = match.group(1).strip(), piece[match.end() :]
            if _LETTER.search(piece):
                sentences.append(Sentence(piece.strip().replace(_DOT, "."), heading))
                heading = ""
    return sentences


def split_clauses(sentence: str) -> list[str]:
    """The clauses of one sentence, in order. Their words are those of the sentence, less the joints cut out.

    Example:
        >>> split_clauses("There is a cyst, but no mass, stone or abscess was seen.")
        ['There is a cyst', 'no mass, stone or abscess was seen.']
    """
    clauses = []
    for part in _HARD_CUT.split(sentence):
        clauses.extend(_cut_where_both_sides_state(part))
    return [clause.strip() for clause in clauses if _LETTER.search(clause)]


def _cut_where_both_sides_state(part: str) -> list[str]:
    clauses, start = [], 0
    for joint in _SOFT_CUT.finditer(part):
        left, right = part[start : joint.start()], part[joint.end() :]
        comma = "," in joint.group()
        is_list = _NEGATED_LIST.search(left) and not _HAS_VERB.search(left)
        states = _HAS_VERB.search(left) and _SUBJECT_AND_VERB.match(_until_comma(right))
        listed = comma and _ARTICLE.match(right) and not is_list
        if states or listed:
            clauses.append(left)
            start = joint.end()
    return [*clauses, part[start:]]


def _until_comma(text: str) -> str:
    return text.split(",", 1)[0]


def _protect(text: str) -> str:
    """White space and full stops made regular, so that every remaining [.!?] before a space ends a sentence."""
    text = text.replace("\xa0", " ")
    if text == text.lower():
        text = _CLEANED_DECIMAL.sub(_DOT, text)
        text = _SPACE_AROUND.sub(r"\1", _SPACE_BEFORE.sub("", text))
    text = _GLUED.sub(r"\1 ", text)
    text = _DECIMAL.sub(_DOT, text)
    text = _NUMBER_SIGN.sub("no" + _DOT, text)
    text = _ABBREVIATION.sub(lambda match: match.group().replace(".", _DOT), text)
    return re.sub(r"[ \t]+", " ", text)
