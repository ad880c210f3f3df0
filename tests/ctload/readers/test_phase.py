"""Phase words out of free text: only words of a closed list, whatever else was typed."""

import pytest

from ctload.readers.phase import PATTERNS, phase_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Abd/Pelvis portal-venous 3.0 B30f", "portal venous"),
        ("THORAX NATIV 1.0", "native"),
        ("chest w/o contrast", "native"),
        ("Abdomen without and with contrast", "native contrast"),
        ("ART_3.0", "arterial"),
        ("CTPA 1.0 B26f", "angio"),
        ("late phase", "delayed"),
        ("Nephrographic / excretory", "nephrographic excretory"),
        ("Partial heart, Venezuela", ""),
        ("", ""),
    ],
)
def test_words_are_found_where_they_stand_alone(text, words):
    assert phase_words(text) == words


def test_no_other_word_of_the_text_gets_out():
    assert set(phase_words("DOE^JANE 12345 portal, arterial, Dr. Miller").split()) <= PATTERNS.keys()
