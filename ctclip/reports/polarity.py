"""What a clause denies: the cues of negation, of doubt and of comparison, and where in the clause they reach.

Both users of it, sentence normality and finding extraction, ask the same two questions: what is left of a clause
when it only compares, and is the word at this place affirmed. English of radiology reports; stdlib `re` only.
"""

import re

_SEEN = (
    r"(?:observed|detected|seen|identified|noted|noticed|present|found|visuali[sz]ed|demonstrated|appreciated|"
    r"encountered|distinguished|evident|visible|depicted|revealed|selected|chosen|remarkable|considered|suspected)"
)
_BE = r"(?:is|are|was|were|be|has been|have been|had been)"
_EARLIER = r"(?:previous|prior|earlier|old|last|former|preceding)"
_EXAMINATION = r"(?:examinations?|exams?|stud(?:y|ies)|scans?|ct|imaging|images|reports?|investigations?|tomography)"
_DEGREE = (
    r"(?:(?:significant|obvious|definite|interval|marked|notable|substantial|appreciable|clear|other|further)\s+)*"
)

# "nodule, which was not observed in the previous examination": the denial belongs to the past, the nodule is new.
NEW_SINCE = re.compile(
    rf"\b(?:{_BE} )?not (?:\w+ )?(?:{_SEEN} )?(?:\w+ )?(?:in|on|at) (?:the |his |her )?{_EARLIER}\b.*", re.I
)

# Phrases that compare with an earlier study state nothing about presence.
COMPARISON = re.compile(
    rf"\b(?:there (?:is|was|are|were|has been) )?no {_DEGREE}(?:change|difference|alteration)s?\b"
    rf"(?: {_BE} {_SEEN})?(?: (?:in|of|between|from|since) (?:the )?(?:sizes?|dimensions?|numbers?|appearance)?s?)?|"
    rf"\bno {_DEGREE}(?:increase|decrease|growth|progression|regression|enlargement)\b(?: {_BE} {_SEEN})?"
    rf" (?:in|of) (?:the |their |its )?(?:sizes?|dimensions?|diameters?|numbers?|extent)\b(?: (?:and|or) \w+)?(?: of)?|"
    rf"\b(?:does|do|did|has|have|had|is|are|was|were)? ?(?:not|n't) (?:\w+ly )?(?:differ\w*|chang\w+|"
    rf"progress\w*|grow\w*)"
    rf"(?: in (?:size|dimensions?|number))?|"
    rf"\b(?:un|not )changed\b|\b(?:is|are|remains?|appears?)? ?(?:grossly |essentially )?stable\b|"
    rf"\b(?:when |as )?(?:compared|in comparison|in compare) (?:to|with)\b.*?(?:{_EXAMINATION}|$)|"
    rf"\b(?:in|on|since|from|to|with) (?:the |his |her )?{_EARLIER} {_EXAMINATION}\b|"
    rf"\bsimilar to (?:the )?{_EARLIER}\b(?: {_EXAMINATION})?|\bagain (?:seen|noted|demonstrated|identified)\b",
    re.I,
)  # fmt: skip

# Nor do phrases about the contrast medium: "given the lack of intravenous contrast".
CONTRAST = re.compile(
    r"\b(?:(?:given|due to|because of|secondary to|owing to|despite|from) )?(?:the )?(?:lack of|without|with)"
    r"(?: (?:and|or) with(?:out)?)? (?:(?:any|intravenous|iv|oral) )*contrast(?: material| medium| agent)?\b"
    r"(?! (?:enhanc|uptake|accumul|filling))",
    re.I,
)

# A clause that says the organ could not be judged.
CANNOT_JUDGE = re.compile(
    r"\b(?:cannot|can not|could not|couldn't|can't|not) be (?:\w+ )?(?:evaluated|assessed|characteri[sz]ed|examined|"
    r"analy[sz]ed|commented|interpreted|judged|differentiated)|\b(?:suboptimal\w*|not optimal\w*|limited (?:evaluation|"
    r"assessment|examination|study))\b|\b(?:evaluation|assessment|examination) (?:is|was) (?:\w+ )?limited\b|"
    r"\bnot (?:included|imaged) (?:in|on|within)\b",
    re.I,
)

# What looks like a denial and is none: doubt, and organs that depart from the normal.
NOT_EXCLUDED = re.compile(
    r"\b(?:can ?not|could not|can't|couldn't) be (?:\w+ )?(?:excluded|ruled out|denied)|"
    r"\bnot (?:be )?(?:\w+ )?excluded\b|\bnot (?:ruled out|only)\b",
    re.I,
)
ODD = re.compile(
    r"\b(?:larger|smaller|wider|thicker|thinner|greater|higher|lower|longer|more|less|denser) than (?:the )?(?:normal|"
    r"usual|expected)|\babove (?:the )?(?:upper limit|normal)|\bexceed\w* (?:the )?normal|\bbelow (?:the )?normal|"
    r"\bnot (?:completely |entirely |fully )?(?:homogeneous|normal|regular|symmetric\w*|preserved|patent|open)\b|"
    r"\b(?:inhomogeneous|heterogeneous|irregular|asymmetric\w*)\b|\babnormal\w*|\bno longer (?:normal|patent|open)\b",
    re.I,
)
DENIED_ABNORMAL = re.compile(r"\b(?:no|without|nor|any|not)\b[^;:]*\babnormal\w*", re.I)

# Denials after the word: "effusion was not observed".
BACKWARD = re.compile(
    rf"\b{_BE} (?:also |both )?(?:not|never)(?: \w+)?(?: be)?(?: \w+ly)? {_SEEN}|"
    rf"\b(?:could|can) ?not (?:be )?(?:\w+ly )?{_SEEN}|\bnot (?:clearly )?{_SEEN}|"
    r"\b(?:is|are|was|were|appears? )?(?:(?<!surgically )absent|unremarkable|negative(?! for)|ruled out|"
    r"excluded|resolved|disappeared)\b",
    re.I,
)
# "... whose border" before such a denial: it speaks of the border, and the lesion before the pronoun stands.
_RELATIVE = re.compile(r"\b(?:that|which|whose|where)(?:\s+\w+){0,3}\s*$", re.I)

# Denials before the word: "no effusion".
FORWARD = re.compile(
    r"\b(?:no|without|absence of|lack of|free of|free from|negative for|rather than|instead of|nor|neither|never|none|"
    r"denies|rule out|ruled out|resolution of|(?:has|have) not|do(?:es)? not (?:show|have|demonstrate|contain|reveal)|"
    r"not(?! only))\b",
    re.I,
)

# Words at which the reach of a denial before the word ends.
_END_OF_REACH = re.compile(
    r"\b(?:but|however|except|apart from|other than|secondary to|due to|because of|caused by|from the|"
    r"in the presence of|adjacent to|in (?:a |the )?patient with|(?:which|that) (?:is|are|was|were|has|have))\b",
    re.I,
)


def without_comparison(clause: str) -> tuple[str, bool]:
    """(the clause less comparisons with earlier studies and words on the contrast medium, whether it compares)."""
    left, num_removed = NEW_SINCE.subn(" ", CONTRAST.sub(" ", clause))
    left, num_more = COMPARISON.subn(" ", left)
    return left.strip(" ,.;"), num_removed + num_more > 0


def denial_after(clause: str, start: int = 0) -> re.Match[str] | None:
    """The first denial at or after `start` that reaches back to it, if any."""
    for cue in BACKWARD.finditer(clause, start):
        relative = _RELATIVE.search(clause, 0, cue.start())
        if relative is None or relative.start() < start:
            return cue
    return None


def is_affirmed(clause: str, start: int) -> bool:
    """Whether the word that starts at `start` is said to be there.

    Args:
        clause: One clause, as `without_comparison` leaves it.
        start: Offset of the word in it.
    """
    if NOT_EXCLUDED.search(clause):
        return True
    if denial_after(clause, start):
        return False
    return all(_END_OF_REACH.search(clause, cue.end(), start) for cue in FORWARD.finditer(clause, 0, start))
