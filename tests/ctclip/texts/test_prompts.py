"""Prompt files of both forms are read; anything else is refused with both forms shown."""

import json

import pytest

from ctclip.errors import PromptError
from ctclip.findings import CT_RATE_FINDINGS, MERLIN_FINDINGS
from ctclip.reports.findings import extract_findings
from ctclip.reports.normality import report_normality
from ctclip.reports.sections import clean_text
from ctclip.texts.prompts import Prompts, PromptSet, default_prompts, load_prompts, parse_prompts
from tests.shared_data import labels

FLAT = {"ascites": {"positive": ["Ascites."], "negative": ["No ascites.", "Peritoneum: Normal."], "region": "belly"}}


def read(document):
    return parse_prompts(json.dumps(document), name="mine")


def test_flat_and_enveloped_files_give_the_same_prompts():
    flat = read(FLAT)
    enveloped = read({"source": "me", "prompts": FLAT, "file": 3})
    assert flat == enveloped
    assert flat.prompts["ascites"] == Prompts(("ascites .",), ("no ascites .", "peritoneum : normal ."))
    assert flat.name == "mine"
    assert flat.normal is None


def test_an_envelope_can_name_itself_and_bring_normal_prompts():
    prompts = read({"name": "ours", "prompts": FLAT, "normal": {"positive": ["Fine."], "negative": ["Not fine."]}})
    assert prompts.name == "ours"
    assert prompts.normal == Prompts(("fine .",), ("not fine .",))
    assert prompts.texts() == ["ascites .", "no ascites .", "peritoneum : normal .", "fine .", "not fine ."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no JSON"),
        ("[]", "list"),
        ("{}", "dict"),
        ('{"prompts": []}', "list or nothing"),
        ('{"ascites": ["a"]}', '"positive" and "negative"'),
        ('{"ascites": {"positive": ["a"]}}', '"positive" and "negative"'),
        ('{"ascites": {"positive": "a", "negative": ["b"]}}', "no list of texts"),
        ('{"ascites": {"positive": [], "negative": ["b"]}}', "at least one text"),
        ('{"ascites": {"positive": ["a", " "], "negative": ["b"]}}', "empty text"),
        ('{"a": {"positive": ["a"], "negative": ["b"]}, "a": {}}', "stand twice"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)


def test_the_refusal_shows_both_forms(tmp_path):
    (tmp_path / "p.json").write_text('{"ascites": 3}')
    with pytest.raises(PromptError, match=r'\{"finding": \{"positive".*key "prompts"'):
        load_prompts(tmp_path / "p.json")
    with pytest.raises(PromptError, match="no such prompt file"):
        load_prompts(tmp_path / "q.json")
    (tmp_path / "latin.json").write_bytes(b'{"\xe4": 1}')
    with pytest.raises(PromptError, match="UTF-8"):
        load_prompts(tmp_path / "latin.json")


def test_missing_findings_are_listed_and_unknown_ones_refused():
    prompts = read(FLAT | {"fracture": FLAT["ascites"]})
    assert prompts.missing(["ascites", "gallstones"]) == ("gallstones",)
    assert prompts.select(["gallstones", "ascites"]).findings == ("ascites",)  # fracture is known, only not labelled
    with pytest.raises(PromptError, match="no prompts for any"):
        prompts.select(["gallstones"])
    with pytest.raises(PromptError, match=r"\['asictes'\].*did you mean 'ascites'"):
        read({"asictes": FLAT["ascites"]}).select(["ascites"])


@pytest.mark.parametrize("findings", [MERLIN_FINDINGS, CT_RATE_FINDINGS])
def test_the_own_sets_cover_their_findings_in_cleaned_form(findings):
    prompts = default_prompts(findings)
    assert prompts.findings == findings
    assert prompts.normal is not None
    for text in prompts.texts():
        assert text == clean_text(text)
    for entry in prompts.prompts.values():
        assert len(entry.positive) >= 3
        assert len(entry.negative) >= 2
        assert not set(entry.positive) & set(entry.negative)


@pytest.mark.parametrize("findings", [MERLIN_FINDINGS, CT_RATE_FINDINGS])
def test_the_own_prompts_say_what_they_stand_for(findings):
    prompts = default_prompts(findings)
    for name, entry in prompts.prompts.items():
        assert [text for text in entry.positive if extract_findings(text, [name])[name] != 1] == []
        assert [text for text in entry.negative if extract_findings(text, [name])[name] == 1] == []
    assert prompts.normal is not None
    assert [text for text in prompts.normal.positive if report_normality(text).label != 0] == []


def test_default_prompts_for_foreign_findings_are_refused():
    with pytest.raises(PromptError, match="give your own"):
        default_prompts(["sarcopenia"])


def test_the_published_prompt_file_is_read_as_it_is():
    prompts = load_prompts(labels("merlin_zero_shot_prompts_radar.json"))
    assert len(prompts.findings) == 29
    assert prompts.missing(MERLIN_FINDINGS) == ("surgically_absent_gallbladder",)
    assert isinstance(prompts.select(MERLIN_FINDINGS), PromptSet)
