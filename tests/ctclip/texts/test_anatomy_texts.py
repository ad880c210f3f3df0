"""Texts per anatomy, by fVLM's rules; and sets of anatomies that contradict themselves."""

from dataclasses import replace

import numpy as np
import pytest

from ctclip.errors import ConfigError
from ctclip.phantom import organs
from ctclip.texts.anatomies import CT_RATE_ANATOMIES, PHANTOM_ANATOMIES, Anatomy, check_anatomies, label_table
from ctclip.texts.anatomy_texts import report_anatomy_texts
from ctclip.texts.text_hash import hash_id, hash_text

REPORT = (
    "FINDINGS: Liver: There is a cyst in the liver. It measures 4 mm. Spleen: Normal. "
    "Lower thorax: Clear lung bases. IMPRESSION: 1. Liver cyst. 2. Aortic aneurysm."
)


def by_name(report: str, **options):
    texts = report_anatomy_texts(report, PHANTOM_ANATOMIES, **options)
    return {anatomy.name: text for anatomy, text in zip(PHANTOM_ANATOMIES, texts, strict=True)}


def test_the_conclusion_comes_first_and_sentences_go_with_their_anatomy():
    liver = by_name(REPORT)["liver"]
    assert liver.sentences == ("Liver cyst.", "There is a cyst in the liver.", "It measures 4 mm.")
    assert liver.is_abnormal[:2] == (True, True)
    assert liver.abnormal == 1
    assert liver.text == " ".join(liver.sentences)


def test_a_normal_anatomy_reads_its_description_and_keeps_the_template_in_its_identity():
    spleen = by_name(REPORT)["spleen"]
    assert spleen.sentences == ("Normal.",)
    assert spleen.abnormal == 0
    assert spleen.text == "spleen shows no significant abnormalities. Normal."


def test_an_anatomy_that_is_not_mentioned_is_normal_and_equal_in_all_studies():
    bone, other = by_name(REPORT)["bone"], by_name("Liver: Normal.")["bone"]
    assert bone == other
    assert bone.sentences == ("bone shows no significant abnormalities.",)
    assert (bone.abnormal, bone.num_fixed) == (0, 1)
    assert hash_text(bone.text) == hash_text(other.text)


def test_the_rule_of_conclusions_takes_silence_for_normal():
    report = "FINDINGS: Spleen: Large infarct. IMPRESSION: Liver cyst."
    assert by_name(report)["spleen"].abnormal == 1
    assert by_name(report, normal_by="conclusion")["spleen"].abnormal == 0
    assert by_name(report, normal_by="conclusion")["liver"].abnormal == 1


def test_a_report_without_a_word_gives_every_anatomy_its_template():
    assert all(text.abnormal == 0 and len(text.sentences) == 1 for text in by_name("").values())


def test_the_shipped_sets_are_sound_and_cover_the_organs_that_phantom_findings_change():
    for anatomies in (PHANTOM_ANATOMIES, CT_RATE_ANATOMIES):
        check_anatomies(anatomies)
    table = label_table(PHANTOM_ANATOMIES)
    for number, anatomy in enumerate(PHANTOM_ANATOMIES, 1):
        assert (table[list(anatomy.labels)] == number).all()
    assert table[organs.OUTSIDE] == table[organs.MUSCLE] == table[organs.KIDNEY] == 0
    assert np.count_nonzero(table) == sum(len(anatomy.labels) for anatomy in PHANTOM_ANATOMIES)


def test_sets_that_contradict_themselves_are_refused():
    liver = PHANTOM_ANATOMIES[3]
    for broken, message in (
        ((), "no anatomies"),
        ((liver, liver), "named twice"),
        ((replace(liver, words=("hepar",)),), r"'liver': words \('hepar',\) must be among"),
        ((replace(liver, labels=(0,)),), "label 0 is outside"),
        ((liver, Anatomy("other", ("spleen",), liver.labels[:1])), "label 6 is of 'liver' and of 'other'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_anatomies(broken)


def test_hashes_are_stable_and_never_negative():
    assert hash_id("study-1") == 2395529724176179553  # another number would break every saved queue
    assert hash_text("Spleen: Normal.") == hash_text("spleen :  NORMAL .") != hash_text("Spleen: normal!")
    assert hash_id("Study-1") != hash_id("study-1")
    assert all(0 <= hash_id(str(number)) < 2**63 for number in range(1000))
