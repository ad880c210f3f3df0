"""Text is cut into sentences and clauses, in both the written and the cleaned form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctclip.reports.sections import clean_text
from ctclip.reports.sentences import split_clauses, split_sentences


def texts(report):
    return [sentence.text for sentence in split_sentences(report)]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("A cyst of 1.5 cm. No stone.", ["A cyst of 1.5 cm.", "No stone."]),
        ("Tiny cyst.Liver is normal.", ["Tiny cyst.", "Liver is normal."]),
        ("See approx. 3 images, e.g. the first. Done.", ["See approx. 3 images, e.g. the first.", "Done."]),
        ("Nodule of 5 mm. The rest is clear.", ["Nodule of 5 mm.", "The rest is clear."]),
        ("1. Cyst. 2. Stone.\n3) Mass", ["Cyst.", "Stone.", "Mass"]),
        ('Clear lungs. " Old scar " Stone.', ["Clear lungs.", "Old scar", "Stone."]),
        ("\u2022 Cyst \u2022 Stone", ["Cyst", "Stone"]),
        ("Cyst?\u00a0Stone!", ["Cyst?", "Stone!"]),
        ("- Cyst\n- Stone", ["Cyst", "Stone"]),
        ("... 12. --", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(report, expected):
    assert texts(report) == expected


def test_a_heading_is_taken_off_and_kept_beside():
    found = split_sentences("Lymph nodes: Normal. No mass. As far as seen: clear.")
    assert [(sentence.heading, sentence.text) for sentence in found] == [
        ("Lymph nodes", "Normal."),
        ("", "No mass."),
        ("As far as seen", "clear."),
    ]


def test_a_long_clause_before_a_colon_is_no_heading():
    (sentence,) = split_sentences("In the lower lobes of both lungs one sees: a scar.")
    assert sentence.heading == ""


def test_the_cleaned_form_gives_the_same_sentences():
    report = "Liver: A 1.5 cm low-attenuating cyst. No stone. Spleen: Normal."
    cleaned = split_sentences(clean_text(report))
    assert [sentence.text for sentence in cleaned] == [text.lower() for text in texts(report)]
    assert [sentence.heading for sentence in cleaned] == ["liver", "", "spleen"]


@pytest.mark.parametrize(
    ("sentence", "clauses"),
    [
        ("No mass, nodule or effusion.", ["No mass, nodule or effusion."]),
        ("No enlarged nodes in the neck, chest or groin were seen.", None),
        ("A cyst, but no stone.", ["A cyst", "no stone."]),
        ("A cyst is seen, no stone.", ["A cyst is seen", "no stone."]),
        ("The liver is large and the spleen is normal.", ["The liver is large", "the spleen is normal."]),
        ("The liver and spleen are normal.", None),
        ("A stone in the duct, a cyst in the liver.", ["A stone in the duct", "a cyst in the liver."]),
        ("Normal except for a scar.", ["Normal", "a scar."]),
        ("Clear; no mass: done.", ["Clear", "no mass", "done."]),
        ("A cyst is seen and there is no stone.", ["A cyst is seen", "there is no stone."]),
    ],
)
def test_clauses_end_where_another_statement_begins(sentence, clauses):
    assert split_clauses(sentence) == (clauses or [sentence])


@given(st.text(alphabet="aB1 .,;!?\n\"'-()", max_size=80))
def test_no_letter_is_lost_or_added(text):
    kept = "".join(sentence.heading + sentence.text for sentence in split_sentences(text))
    assert sorted(filter(str.isalpha, kept)) == sorted(filter(str.isalpha, text))


words = st.sampled_from(["the", "liver", "is", "normal", "stone", "no", "mass", "in", "of"])


@given(st.lists(words, min_size=1, max_size=15))
def test_clauses_keep_the_words_in_order(chosen):
    sentence = " ".join(chosen)
    kept = iter(chosen)
    assert all(word in kept for clause in split_clauses(sentence) for word in clause.split())
