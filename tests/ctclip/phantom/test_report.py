"""Reports say what is there: never the contrary, in Merlin's sections, with labels that independent rules confirm."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctclip.findings import MERLIN_FINDINGS
from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.report import Report, Style, write_report
from ctclip.phantom.study import PhantomStudy, draw_patient, draw_study
from ctclip.phantom.wording import HEADINGS, WORDINGS
from ctclip.reports.findings import extract_findings
from ctclip.reports.normality import section_normality
from ctclip.reports.sections import SECTIONS, clean_text, cut_impression, split_sections

KNOBS = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.25), normal_share=0.1, incidental_share=0.2)


def drawn(patient: int, omission: float, hidden: tuple[str, ...] = ()) -> tuple[PhantomStudy, dict[str, int], Report]:
    study = draw_study(0, draw_patient(0, patient, KNOBS), 0, KNOBS)
    truth = {f: -1 if f in hidden else int(f in study.lesions) for f in FINDINGS}
    return study, truth, write_report(study, truth, Style(omission, 0.4, 1.0), rng=np.random.default_rng(patient))


@settings(max_examples=150, deadline=None)
@given(patient=st.integers(0, 10**6), omission=st.sampled_from((0.0, 0.1, 0.9)), data=st.data())
def test_a_report_never_contradicts_the_truth(patient, omission, data):
    hidden = tuple(data.draw(st.lists(st.sampled_from(FINDINGS), max_size=5)))
    _, truth, report = drawn(patient, omission, hidden)
    for finding in FINDINGS:
        assert report.says[finding] in (-1, truth[finding]), (finding, report.text)


@settings(max_examples=150, deadline=None)
@given(patient=st.integers(0, 10**6), omission=st.sampled_from((0.0, 0.3)))
def test_rules_that_know_nothing_of_the_phantom_read_the_same_labels_from_the_text(patient, omission):
    study, _, report = drawn(patient, omission)
    read = extract_findings(report.text, FINDINGS)
    for finding in FINDINGS:
        # The rules read denials by name alone; the phantom's 0 also stands for an organ called normal.
        expected = (report.says[finding], -1) if report.says[finding] == 0 else (report.says[finding],)
        assert read[finding] in expected, (finding, study.lesions, report.text)


@settings(max_examples=100, deadline=None)
@given(patient=st.integers(0, 10**6))
def test_the_text_splits_into_the_sections_that_the_report_names_and_their_normality_is_the_truths(patient):
    study, truth, report = drawn(patient, 0.0)
    sections = split_sections(report.text)
    assert tuple(sections) == SECTIONS
    assert {name for name, text in sections.items() if text} == set(report.sections)
    for name in report.sections:
        has_finding = any(truth[f] == 1 and CATALOGUE[f].section == name for f in FINDINGS)
        has_other = (name == "adrenal glands" and "adrenal_nodule" in study.incidentals) or (
            name == "pelvic" and "uterine_fibroid" in study.incidentals
        )
        assert section_normality(sections[name]) == int(has_finding or has_other), sections[name]


def test_every_present_finding_is_stated_when_nothing_is_omitted():
    for patient in range(40):
        _, truth, report = drawn(patient, 0.0)
        assert all(report.says[finding] == 1 for finding in FINDINGS if truth[finding] == 1)


def test_the_omission_rate_is_the_share_of_present_findings_that_go_unsaid():
    said = [
        report.says[finding] == 1
        for _, truth, report in (drawn(patient, 0.3) for patient in range(300))
        for finding in FINDINGS
        if truth[finding] == 1
    ]
    # 0.3 left out one by one, and 0.1 of the sections left out as a whole.
    assert 1 - np.mean(said) == pytest.approx(1 - 0.7 * 0.9, abs=0.04)


def test_a_finding_outside_the_volume_is_not_mentioned():
    for patient in range(30):
        _, _, report = drawn(patient, 0.0, hidden=("prostatomegaly",))
        assert "prost" not in report.text.lower()
        assert "pelvic" not in report.sections


def test_wording_varies_and_headings_sometimes_do():
    texts = [drawn(patient, 0.0)[2].text for patient in range(200)]
    assert len(set(texts)) == 200
    for section, variants in HEADINGS.items():
        shares = [np.mean([f"{variant}:" in text for text in texts]) for variant in variants]
        assert shares[0] > 0.6, section
        assert all(share > 0 for share in shares), section


def test_sides_and_sizes_of_the_text_are_the_lesions():
    num_measured = 0
    for patient in range(200):
        study, truth, report = drawn(patient, 0.0)
        body = cut_impression(report.text)[0].lower()
        lesion = study.lesion("hydronephrosis")
        if truth["hydronephrosis"] == 1 and lesion is not None:
            assert f"{lesion.side} hydro" in body
            assert not any(f"{side} hydro" in body for side in {"left", "right", "bilateral"} - {lesion.side})
        aneurysm = study.lesion("abdominal_aortic_aneurysm")
        if aneurysm is not None:
            sizes = {f"{aneurysm.size_mm:.0f} mm", f"{aneurysm.size_mm / 10:.1f} cm"}
            lines = [line for line in split_sections(report.text)["circulatory"].split(". ") if "neurysm" in line]
            measured = {size for line in lines for size in re.findall(r"[\d.]+ [cm]m", line)}
            assert measured <= sizes
            num_measured += len(measured)
    assert num_measured > 10


def test_the_impression_repeats_only_what_the_findings_state():
    for patient in range(200):
        _, _, report = drawn(patient, 0.2)
        impression = extract_findings(cut_impression(report.text)[1], FINDINGS)
        assert all(report.says[finding] == 1 for finding in FINDINGS if impression[finding] == 1)


def test_the_catalogue_and_the_wording_cover_the_thirty_findings_and_thirteen_sections_in_order():
    assert tuple(CATALOGUE) == MERLIN_FINDINGS == tuple(WORDINGS)
    assert tuple(HEADINGS) == SECTIONS
    assert {facts.section for facts in CATALOGUE.values()} <= set(SECTIONS)


def test_cleaning_keeps_a_report_readable_to_the_tokenizer():
    text = clean_text(drawn(0, 0.0)[2].text)
    assert text.startswith("findings : ")
    assert " impression : " in text
