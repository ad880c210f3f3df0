"""OFF-CLIP's filter: normal sentences leave abnormal texts and nothing else; a text is never empty."""

from collections import Counter
from dataclasses import replace

import pytest

from ctclip.reports.normality import report_normality
from ctclip.texts.kept_sentences import NO_FINDING, keep_sentences, read_text
from ctclip.texts.text_access import TextAccess

HERE = TextAccess(0, 0, 0, "a")

ABNORMAL = (
    "TECHNIQUE: CT with contrast. FINDINGS: Liver: There is a cyst of 2 cm. Normal in size otherwise. "
    "Spleen: Normal. Kidneys: No stones. Left hydronephrosis. IMPRESSION: Hydronephrosis."
)
NORMAL = "Liver: Normal. Spleen: Unremarkable. Kidneys: No stones."


def texts(kept) -> list[str]:
    return [sentence.text for sentence in kept.sentences]


def test_an_abnormal_report_keeps_its_abnormal_sentences_alone():
    kept = keep_sentences(ABNORMAL)
    assert kept.abnormal == 1
    assert texts(kept) == ["There is a cyst of 2 cm.", "Left hydronephrosis.", "Hydronephrosis."]
    assert kept.num_left_out == 3
    assert all(report_normality(text, cut=False).label == 1 for text in texts(kept))


def test_a_normal_report_keeps_everything():
    kept = keep_sentences(NORMAL)
    assert kept.abnormal == 0
    assert texts(kept) == ["Normal.", "Unremarkable.", "No stones."]
    assert kept.num_left_out == 0


def test_a_text_of_unknown_normality_keeps_everything():
    kept = keep_sentences("The study was compared with the previous one.", is_report=False)
    assert kept.abnormal == -1
    assert texts(kept) == ["The study was compared with the previous one."]


def test_a_label_wins_over_the_rules_and_no_text_is_left_empty():
    assert texts(keep_sentences(NORMAL, abnormal=1)) == ["Normal.", "Unremarkable.", "No stones."]
    only_sick = keep_sentences("Large mass.", abnormal=0, is_report=False)
    assert (texts(only_sick), only_sick.abnormal) == ([NO_FINDING], 0)
    assert texts(keep_sentences("", is_report=False)) == [NO_FINDING]
    assert texts(keep_sentences("1 2 3", is_report=False)) == ["1 2 3"]


def test_headings_go_with_what_stands_under_them():
    read = read_text(keep_sentences(ABNORMAL), "all", HERE)
    assert read.startswith("Liver: There is a cyst of 2 cm. Kidneys: Left hydronephrosis.")
    section = keep_sentences("Liver: Normal in size. There is a cyst.", is_report=False)
    assert read_text(section, "all", HERE) == "Liver: There is a cyst."


def test_one_sentence_is_drawn_evenly_by_its_coordinates():
    kept = keep_sentences(ABNORMAL)

    def one(**place) -> str:
        return read_text(kept, "one_sentence", replace(HERE, **place))

    assert one() == one()
    for name, values in {
        "seed": range(20),
        "epoch": range(20),
        "step": range(20),
        "study": map(str, range(20)),
    }.items():
        assert len({one(**{name: value}) for value in values}) == 3
    counts = Counter(one(step=step) for step in range(3000))
    assert len(counts) == 3
    assert min(counts.values()) > 900


@pytest.mark.parametrize("mode", ["one_sentence", "all"])
def test_what_is_read_are_words_of_the_text(mode):
    for text in (ABNORMAL, NORMAL):
        read = read_text(keep_sentences(text), mode, TextAccess(1, 2, 3, "b"))
        assert all(word in text for word in read.split())
