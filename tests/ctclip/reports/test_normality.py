"""The rules read sentences as a radiologist would. Every sentence of the table was written for this test."""

import csv
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctclip.reports.normality import coverage, report_normality, section_normality, sentence_verdict
from ctclip.reports.sections import clean_text
from tests.shared_data import reports

# (sentence, label, start of the rule that should decide it)
TABLE = [
    # 1: denied only for the past, so it is new
    ("A 9 mm nodule, which was not present in the prior study, lies in the left apex.", "abnormal", "9"),
    ("The mass was not seen on the previous scan.", "abnormal", "9"),
    # 2: comparison only
    ("No significant change compared with the prior examination.", "neutral", "2"),
    ("The known nodules are unchanged.", "abnormal", "9"),
    ("There is no interval change in the size of the cyst.", "abnormal", "9"),
    ("The nodules do not differ in size.", "abnormal", "9"),
    # 3: no enlarging
    ("There is no mural thickening of the colon.", "normal", "3"),
    ("No intra- or extrahepatic duct dilatation.", "normal", "3"),
    ("Without any enlargement of the ventricles.", "normal", "3"),
    ("No pathologically enlarged nodes are seen.", "normal", "3"),
    # 4: cannot be judged
    ("The pelvic organs cannot be assessed because of streaks.", "neutral", "4"),
    ("Evaluation is limited by breathing.", "neutral", "4"),
    ("The mediastinum could not be evaluated optimally.", "neutral", "4"),
    ("A liver lesion is seen that cannot be characterized.", "abnormal", "4"),
    # 5: looks like a denial, or departs from the normal
    ("Early appendicitis cannot be excluded.", "abnormal", "5"),
    ("A fracture is not ruled out.", "abnormal", "5"),
    ("The spleen is larger than normal.", "abnormal", "5"),
    ("The aortic diameter is above the upper limit.", "abnormal", "5"),
    ("Abnormal appearance of the sigmoid.", "abnormal", "5"),
    ("No abnormality is seen in the pancreas.", "normal", "5"),
    ("The liver is heterogeneous.", "abnormal", "5"),
    ("The gallbladder is surgically absent.", "abnormal", "5"),
    ("The left kidney was not seen (resected).", "abnormal", "5"),
    # 6: denied after the word
    ("Ascites was not observed.", "normal", "6"),
    ("Pleural fluid is not clearly identified.", "normal", "6"),
    ("Gallstones could not be detected.", "normal", "6"),
    ("The adrenals are unremarkable.", "normal", "6"),
    ("Hydronephrosis is absent.", "normal", "6"),
    ("Thrombosis has been ruled out.", "normal", "6"),
    ("There is a mass whose margins cannot be distinguished from the stomach.", "abnormal", "6"),
    # 7: denied before the word
    ("No pleural effusion.", "normal", "7"),
    ("Without free air or free fluid.", "normal", "7"),
    ("Negative for hydronephrosis.", "normal", "7"),
    ("Free of stones.", "normal", "7"),
    ("Neither stones nor sludge.", "normal", "7"),
    ("The duct does not contain stones.", "normal", "7"),
    ("Sigmoid diverticulosis without diverticulitis.", "abnormal", "7"),
    ("Gallstones with no wall edema.", "abnormal", "9"),
    # 8: a normal predicate
    ("Normal.", "normal", "8"),
    ("The portal vein is patent.", "normal", "8"),
    ("Vertebral body heights are preserved.", "normal", "8"),
    ("Both kidneys are symmetric and enhance homogeneously.", "normal", "8"),
    ("The wall thickness of the bladder is normal.", "normal", "8"),
    ("The airways are clear.", "normal", "8"),
    ("The fatty tissue around the pancreas is normal.", "normal", "8"),
    ("The bowel gas pattern is nonobstructive.", "normal", "8"),
    ("Trachea in the midline.", "normal", "8"),
    ("The bladder is well distended.", "normal", "8"),
    ("A normal caliber aorta with calcified plaque.", "abnormal", "9"),
    # 9: a finding
    ("Small bilateral pleural effusions.", "abnormal", "9"),
    ("Diffuse fatty infiltration of the liver.", "abnormal", "9"),
    ("Two simple cysts in the right kidney.", "abnormal", "9"),
    ("Status post cholecystectomy.", "abnormal", "9"),
    ("Degenerative disc disease of the lower spine.", "abnormal", "9"),
    ("A drain lies in the right flank.", "abnormal", "9"),
    ("Hypoattenuating focus in segment 4.", "abnormal", "9"),
    ("Prostatomegaly.", "abnormal", "9"),
    ("Bronchopneumonia?", "abnormal", "9"),
    # several clauses: any abnormal one decides
    ("The heart is normal in size, but there is a pericardial effusion.", "abnormal", "9"),
    ("The liver is normal; a stone lies in the gallbladder.", "abnormal", "9"),
    ("There is a cyst in the spleen and no mass is seen.", "abnormal", "9"),
    ("The pancreas is normal and no duct stone was detected.", "normal", "8"),
    ("Apart from a small hernia, the abdominal wall is intact.", "abnormal", "9"),
    ("No mass, nodule or effusion was detected.", "normal", "7"),
    ("No stones in the kidneys, ureters, bladder or urethra.", "normal", "7"),
    # 10: technique and advice
    ("Intravenous contrast was administered.", "neutral", "10"),
    ("Clinical correlation is recommended.", "neutral", "10"),
    ("Follow-up in six months is advised.", "neutral", "10"),
    # only the form speaks
    ("Several lymph nodes are seen in the mesentery.", "abnormal", "existence"),
    ("Aorta 49 mm.", "abnormal", "existence"),
]


@pytest.mark.parametrize(("sentence", "label", "rule"), TABLE)
def test_each_rule_reads_its_sentences(sentence, label, rule):
    verdict = sentence_verdict(sentence)
    assert (verdict.label, verdict.rule.split()[0]) == (label, rule)


@pytest.mark.parametrize(("sentence", "label", "rule"), TABLE)
def test_the_cleaned_form_reads_the_same(sentence, label, rule):
    wanted = {"abnormal": 1, "normal": 0, "neutral": -1}[label]
    assert section_normality(clean_text(sentence)) == wanted


def test_the_table_covers_every_rule_with_enough_sentences():
    assert len(TABLE) >= 60
    assert {rule for _, _, rule in TABLE} >= {"2", "3", "4", "5", "6", "7", "8", "9", "10", "existence"}


@pytest.mark.parametrize(
    ("section", "label"),
    [
        ("", -1),
        ("Liver and biliary tree: Normal.", 0),
        ("Lymph nodes: Normal.", 0),
        ("Bones: Normal. Old fracture of the ninth rib.", 1),
        ("Kidneys: Cannot be assessed.", -1),
        ("spleen : normal .", 0),
        ("gallbladder : surgically absent .", 1),
    ],
)
def test_a_section_is_normal_abnormal_or_unknown(section, label):
    assert section_normality(section) == label


def test_confidence_tells_decided_sentences_from_guesses():
    assert sentence_verdict("Small cyst.").confidence == 1.0
    guess = sentence_verdict("Two lymph nodes are seen.")
    assert (guess.label, guess.confidence) == ("abnormal", 0.5)
    assert not guess.is_decided


def test_coverage_is_the_share_of_decided_sentences():
    report = report_normality("Liver: Normal. Spleen: Two lymph nodes are seen. Cyst. No stone.")
    assert report.coverage == 0.75
    assert coverage([report, report_normality("Normal.")]) == 0.8
    assert math.isnan(report_normality("").coverage)
    assert math.isnan(coverage([]))


def test_technique_and_history_do_not_count():
    report = "HISTORY: Known carcinoma. FINDINGS: Liver: Normal. IMPRESSION: Normal study."
    assert report_normality(report).label == 0
    assert report_normality(report, cut=False).label == 1


sentences = st.lists(st.sampled_from([sentence for sentence, _, _ in TABLE]), max_size=8)


@given(sentences, st.integers(0, 8))
def test_a_denied_finding_changes_no_other_verdict(chosen, place):
    def abnormal(texts):
        verdicts = report_normality(" ".join(texts), cut=False).verdicts
        return [sentence.text for sentence, verdict in verdicts if verdict.label == "abnormal"]

    assert abnormal([*chosen[:place], "No pleural effusion.", *chosen[place:]]) == abnormal(chosen)


@given(sentences)
def test_a_report_is_the_sum_of_its_sentences(chosen):
    report = report_normality(" ".join(chosen), cut=False)
    assert report.verdicts == report_normality(" ".join(chosen), cut=False).verdicts
    labels = {sentence_verdict(sentence).label for sentence in chosen}
    assert report.label == (1 if "abnormal" in labels else 0 if "normal" in labels else -1)


@given(st.text(max_size=200))
def test_any_text_gets_a_verdict(text):
    assert section_normality(text) in (-1, 0, 1)


def test_real_reports_are_covered_and_fast():
    with reports("ctrate_ctclip_labelled_reports.csv").open(encoding="utf-8") as file:
        texts = [row["report_text"] for row in csv.DictReader(file)]
    start = time.process_time()
    read = [report_normality(text) for text in texts]
    milliseconds = (time.process_time() - start) / len(texts) * 1e3
    assert milliseconds < 10
    assert coverage(read) > 0.9
    assert 0.02 < sum(report.label == 0 for report in read) / len(read) < 0.2  # most of these patients are ill
