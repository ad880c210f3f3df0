"""Reports are cut at their headings without losing or moving a word."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctclip.reports.sections import (
    SECTION_HEADINGS,
    SECTIONS,
    clean_text,
    cut_ct_rate_text,
    cut_impression,
    headed_parts,
    join_ct_rate,
    split_sections,
)
from tests.shared_data import labels, reports

VARIANTS = [(variant, section) for section, variants in SECTION_HEADINGS.items() for variant in variants]
BODIES = ("Normal", "A 4.5 mm cyst in segment 7", "No stone, mass or hydronephrosis", "Fracture of L1")


def test_there_are_thirteen_sections_in_the_order_of_the_release():
    assert len(SECTIONS) == 13
    assert SECTIONS[0] == "lower thorax"
    assert SECTIONS[-1] == "musculoskeletal"


@pytest.mark.parametrize(("variant", "section"), VARIANTS)
@pytest.mark.parametrize("form", [str.capitalize, str.upper, str.lower, str.title, clean_text])
def test_every_heading_variant_opens_its_section(variant, section, form):
    report = f"Findings: Skin: Normal. {form(variant)}: Odd. "
    found = split_sections(report)
    assert found[section] == f"{form(variant)}: Odd."
    assert sum(map(bool, found.values())) == 1


@given(st.lists(st.tuples(st.sampled_from(VARIANTS), st.sampled_from(BODIES)), min_size=1, max_size=20), st.data())
def test_each_text_lands_in_its_section_in_order(parts, data):
    gap = data.draw(st.sampled_from([" ", "", "\n", "  "]))
    report = "FINDINGS: " + gap.join(f"{variant.capitalize()}: {body}." for (variant, _), body in parts)
    report += data.draw(st.sampled_from(["", " 1. Nothing. 2. Cyst.", "\nIMPRESSION: 1. Liver: mass.", " 1. Stable."]))
    found = split_sections(report)
    for section in SECTIONS:
        wanted = [f"{variant.capitalize()}: {body}." for (variant, own), body in parts if own == section]
        assert found[section] == " ".join(wanted)


@given(st.lists(st.tuples(st.sampled_from(VARIANTS), st.sampled_from(BODIES)), min_size=1, max_size=8))
def test_cutting_and_cleaning_commute(parts):
    report = " ".join(f"{variant.capitalize()}: {body}." for (variant, _), body in parts)
    cleaned_first = split_sections(clean_text(report))
    for section, text in split_sections(report).items():
        assert cleaned_first[section] == clean_text(text)


def test_a_heading_inside_running_text_is_found():
    found = split_sections("Lower thorax: Tiny cyst.Liver and biliary tree: Normal. Gallbladder: Normal Pancreas: Fat.")
    assert found["lower thorax"] == "Lower thorax: Tiny cyst."
    assert found["liver"] == "Liver and biliary tree: Normal."
    assert found["gallbladder"] == "Gallbladder: Normal"
    assert found["pelvic"] == ""


def test_words_that_only_look_like_headings_stay_where_they_are():
    text = "Kidneys: Right kidney: stone. Left kidney: two lesions of the mesenteric lymph nodes: stable."
    assert split_sections(text)["kidneys"] == text
    assert split_sections(text)["lymph nodes"] == ""


def test_a_report_without_headings_has_thirteen_empty_sections():
    assert split_sections("No acute abnormality.") == dict.fromkeys(SECTIONS, "")
    assert split_sections("") == dict.fromkeys(SECTIONS, "")


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        ("FINDINGS: Liver: Cyst. IMPRESSION: 1. Cyst.", "Liver: Cyst.", "1. Cyst."),
        ("Liver: Cyst. Bones: Break of L1. 1. Cyst. 2. Old.", "Liver: Cyst. Bones: Break of L1.", "1. Cyst. 2. Old."),
        ("IMPRESSION: Liver: cyst.\nFINDINGS:\nLiver: Large cyst.", "Liver: Large cyst.", "Liver: cyst."),
        ("TECHNIQUE: Contrast. FINDINGS: Spleen: Normal.", "Spleen: Normal.", ""),
        ("Liver: Cyst of 1. 5 cm.", "Liver: Cyst of 1. 5 cm.", ""),
        ("TECHNIQUE: Spiral.\nDISCUSSION: Spleen: Normal.", "Spleen: Normal.", ""),
        ("TECHNIQUE: Spiral.\nCT PELVIS: Cyst.\nIMPRESSION: Cyst.", "CT PELVIS: Cyst.", "Cyst."),
        ("Just a text. 1. With a list.", "Just a text. 1. With a list.", ""),
        ("clean : lower . impression : 1 . cyst .", "clean : lower .", "1 . cyst ."),
    ],
)  # fmt: skip
def test_the_impression_is_cut_first(report, findings, impression):
    assert cut_impression(report) == (findings, impression)


def test_text_before_the_first_heading_has_no_heading():
    assert headed_parts("Quality is poor. Spleen: Normal.") == [("", "Quality is poor."), ("spleen", "Spleen: Normal.")]


def test_cleaning_is_idempotent_and_lower_case():
    text = "Liver: 4.5 x 2 cm (see image 12/99); <DATE>."
    assert clean_text(text) == "liver : 4 . 5 x 2 cm ( see image 12 / 99 ); < date >."
    assert clean_text("spleen : normal .") == "spleen : normal ."


@given(st.text(max_size=60))
def test_cleaning_keeps_every_visible_character(text):
    assert clean_text(text).replace(" ", "") == "".join(text.lower().split())


def test_ct_rate_columns_and_quotes():
    assert join_ct_rate("Clear lungs.", " ") == "FINDINGS: Clear lungs."
    assert cut_impression(join_ct_rate("Clear lungs.", "Normal.")) == ("Clear lungs.", "Normal.")
    assert cut_ct_rate_text('Clear lungs. " Normal chest. " Old rib fracture.') == (
        "Clear lungs.",
        'Normal chest. " Old rib fracture.',
    )
    assert cut_ct_rate_text("Clear lungs.") == ("Clear lungs.", "")


def test_the_released_demo_report_fills_all_sections():
    line = (reports("merlin_demo_report.jsonl")).read_text(encoding="utf-8").splitlines()[0]
    found = split_sections(json.loads(line)["text"])
    assert [section for section, text in found.items() if not text] == []
    assert clean_text(found["circulatory"]).startswith("vasculature :")


def test_the_heading_table_is_that_of_the_release():
    release = json.loads(labels("merlin_sections.json").read_text())["organ_system_variations"]
    stated = {variant.strip(): section for variants, section in release.items() for variant in variants.split("|")}
    assert stated == dict(VARIANTS)
