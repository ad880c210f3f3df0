"""What the phantom knows of each finding: section, organ, prevalence, sizes by severity, sides, and the source.

One row per finding, in the column order of the Merlin release. Prevalences are round numbers for an adult abdominal CT
practice, set so that most findings are rare and most studies have a few; they are no measurement. Sizes are in mm
for severities mild, moderate and severe; what is measured stands in `measure`.
"""

from dataclasses import dataclass

from ctclip.findings import MERLIN_FINDINGS
from ctclip.phantom import organs

FINDINGS: tuple[str, ...] = MERLIN_FINDINGS
SEVERITIES = ("mild", "moderate", "severe")
BOTH = ("right", "left", "bilateral")


@dataclass(frozen=True)
class FindingFacts:
    """Facts on one finding.

    Args:
        section: Report section (one of ctclip.reports.sections.SECTIONS) in which it is stated.
        organs: Organ labels in which it shows; it can be known only where one of them is in the volume.
        prevalence: Share of studies in the realistic preset.
        size_mm: (low, high) for each severity.
        measure: What the size is.
        sides: Possible sides; () for an unpaired finding.
        sites: Possible places; () when there is one.
        is_chronic: It stays with the patient over all studies.
        normal_mm: The same measure without the finding, from which the effect size counts.
        source: Where HU and sizes come from.
    """

    section: str
    organs: tuple[int, ...]
    prevalence: float
    size_mm: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    measure: str
    sides: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    is_chronic: bool = False
    normal_mm: float = 0.0
    source: str = ""


CATALOGUE: dict[str, FindingFacts] = {
    "submucosal_edema": FindingFacts(
        "bowel", (organs.COLON,), 0.04, ((6, 8), (8, 11), (11, 15)), "wall thickness",
        sites=("ascending colon", "transverse colon", "descending colon"),
        normal_mm=3, source="target sign, wall over 5 mm with water-density submucosa: Macari and Balthazar, AJR 2001",
    ),
    "renal_hypodensities": FindingFacts(
        "kidneys", (organs.KIDNEY,), 0.22, ((3, 5), (5, 7), (7, 9)), "largest diameter", BOTH, is_chronic=True,
        source="too small to characterise, under 10 mm: Silverman et al., Radiology 2008",
    ),
    "aortic_valve_calcification": FindingFacts(
        "lower thorax", (organs.HEART,), 0.06, ((4, 7), (7, 11), (11, 15)), "extent", is_chronic=True,
        source="calcium over 130 HU, here 500-900: Agatston et al., JACC 1990",
    ),
    "coronary_calcification": FindingFacts(
        "lower thorax", (organs.HEART,), 0.16, ((3, 5), (5, 8), (8, 12)), "length of a plaque", is_chronic=True,
        source="Agatston et al., JACC 1990",
    ),
    "thrombosis": FindingFacts(
        "circulatory", (organs.VEIN,), 0.03, ((12, 18), (18, 26), (26, 36)), "length of the thrombus",
        sites=("portal vein", "inferior vena cava"),
        source="filling defect 30-40 HU in an expanded vein, 60-80 HU unenhanced: Tublin et al., AJR 1997",
    ),
    "metastatic_disease": FindingFacts(
        "liver", (organs.LIVER,), 0.09, ((10, 16), (16, 28), (28, 44)), "largest lesion", is_chronic=True,
        source="darker than the liver, most of all in the venous phase: textbook",
    ),
    "pancreatic_atrophy": FindingFacts(
        "pancreas", (organs.PANCREAS,), 0.06, ((13, 14), (10, 12), (7, 9)), "body thickness", is_chronic=True,
        normal_mm=20, source="body under 15 mm thick, fatty: Heuck et al., AJR 1987",
    ),
    "renal_cyst": FindingFacts(
        "kidneys", (organs.KIDNEY,), 0.20, ((11, 18), (18, 35), (35, 60)), "largest diameter", BOTH, is_chronic=True,
        source="Bosniak I, -10 to 20 HU, no enhancement: Silverman et al., Radiology 2019",
    ),
    "osteopenia": FindingFacts(
        "musculoskeletal", (organs.SPINE,), 0.12, ((0, 0), (0, 0), (0, 0)), "", is_chronic=True,
        source="L1 marrow of 110 HU or less, as in the old: Jang et al., Radiology 2019",
    ),
    "surgically_absent_gallbladder": FindingFacts(
        "gallbladder", (organs.LIVER,), 0.15, ((0, 0), (0, 0), (0, 0)), "", is_chronic=True,
        source="empty fossa with metal clips over 2000 HU: textbook",
    ),
    "atelectasis": FindingFacts(
        "lower thorax", (organs.LUNG,), 0.25, ((6, 10), (10, 20), (20, 34)), "thickness", BOTH,
        source="enhancing collapsed lung 60-90 HU: Woodring and Reed, J Thorac Imaging 1996",
    ),
    "abdominal_aortic_aneurysm": FindingFacts(
        "circulatory", (organs.AORTA,), 0.04, ((31, 38), (38, 52), (52, 70)), "diameter", is_chronic=True,
        normal_mm=20, source="30 mm or more: Chaikof et al., J Vasc Surg 2018",
    ),
    "anasarca": FindingFacts(
        "peritoneum", (organs.SUBCUTANEOUS,), 0.05, ((0, 0), (0, 0), (0, 0)), "",
        source="reticular water-density strands in subcutaneous fat: textbook",
    ),
    "hiatal_hernia": FindingFacts(
        "bowel", (organs.STOMACH,), 0.09, ((28, 38), (38, 55), (55, 80)), "diameter", is_chronic=True,
        source="stomach above the hiatus, over 20 mm: Kahrilas et al., Best Pract Res Clin Gastroenterol 2008",
    ),
    "lymphadenopathy": FindingFacts(
        "lymph nodes", (organs.NODE, organs.AORTA), 0.09, ((12, 15), (15, 22), (22, 34)), "short axis",
        sites=("retroperitoneal", "mesenteric"), is_chronic=True,
        source="short axis over 10 mm: Eisenhauer et al., RECIST 1.1, 2009",
    ),
    "prostatomegaly": FindingFacts(
        "pelvic", (organs.PROSTATE,), 0.08, ((50, 55), (55, 63), (63, 75)), "transverse diameter", is_chronic=True,
        normal_mm=42, source="over 30 ml, normal width 40 mm: Berry et al., J Urol 1984",
    ),
    "biliary_ductal_dilation": FindingFacts(
        "liver", (organs.DUCT, organs.LIVER), 0.07, ((8, 11), (11, 15), (15, 20)), "common duct",
        normal_mm=5, source="common duct over 7 mm: Horrow et al., AJR 2001",
    ),
    "cardiomegaly": FindingFacts(
        "lower thorax", (organs.HEART,), 0.09, ((138, 146), (146, 158), (158, 172)), "transverse diameter",
        is_chronic=True, normal_mm=118, source="cardiothoracic ratio over 0.5: Danzer, Am J Med Sci 1919",
    ),
    "splenomegaly": FindingFacts(
        "spleen", (organs.SPLEEN,), 0.09, ((132, 142), (142, 160), (160, 185)), "craniocaudal length",
        is_chronic=True, normal_mm=100,
        source="mean 100 mm: Caglar et al., Folia Morphol 2014; over 130 mm: Lugano criteria",
    ),
    "hepatomegaly": FindingFacts(
        "liver", (organs.LIVER,), 0.08, ((182, 192), (192, 208), (208, 230)), "craniocaudal length", is_chronic=True,
        normal_mm=155, source="over 175 mm long: Gosink and Leymaster, J Clin Ultrasound 1981",
    ),
    "atherosclerosis": FindingFacts(
        "circulatory", (organs.AORTA,), 0.28, ((3, 5), (5, 8), (8, 12)), "length of a plaque", is_chronic=True,
        source="wall calcium 400-900 HU: Agatston et al., JACC 1990",
    ),
    "ascites": FindingFacts(
        "peritoneum", (organs.CAVITY_FAT, organs.FLUID), 0.10, ((6, 9), (10, 16), (18, 28)), "perihepatic depth",
        source="0-20 HU: textbook",
    ),
    "pleural_effusion": FindingFacts(
        "lower thorax", (organs.LUNG, organs.PLEURA), 0.14, ((18, 28), (28, 45), (45, 70)), "depth", BOTH,
        source="0-20 HU, dependent: Abramowitz et al., AJR 2009",
    ),
    "hepatic_steatosis": FindingFacts(
        "liver", (organs.LIVER,), 0.16, ((0, 0), (0, 0), (0, 0)), "", is_chronic=True,
        source="moderate: under 40 HU unenhanced, 80-90 HU venous: Moeller et al., ARRS 2024, 4710",
    ),
    "appendicitis": FindingFacts(
        "bowel", (organs.APPENDIX, organs.CAVITY_FAT), 0.03, ((9, 11), (11, 14), (14, 18)), "diameter",
        normal_mm=6, source="over 6 mm with fat stranding: Pinto Leite et al., Radiographics 2005",
    ),
    "gallstones": FindingFacts(
        "gallbladder", (organs.GALLBLADDER,), 0.12, ((5, 8), (8, 13), (13, 20)), "largest stone", is_chronic=True,
        source="calcified stones 100-400 HU: Barakos et al., Radiology 1987",
    ),
    "hydronephrosis": FindingFacts(
        "kidneys", (organs.KIDNEY,), 0.06, ((12, 16), (16, 24), (24, 36)), "renal pelvis", BOTH,
        normal_mm=7, source="renal pelvis over 10 mm at water density: textbook",
    ),
    "bowel_obstruction": FindingFacts(
        "bowel", (organs.SMALL_BOWEL,), 0.05, ((28, 33), (33, 40), (40, 50)), "small bowel diameter",
        normal_mm=20, source="over 25 mm with fluid levels: Silva et al., Radiographics 2009",
    ),
    "free_air": FindingFacts(
        "peritoneum", (organs.CAVITY_FAT, organs.GAS), 0.03, ((5, 9), (9, 16), (16, 28)), "depth",
        source="gas under the anterior wall, below -900 HU: textbook",
    ),
    "fracture": FindingFacts(
        "musculoskeletal", (organs.SPINE,), 0.06, ((6, 8), (8, 12), (12, 17)), "loss of height",
        sites=("T12", "L1", "L2", "L3"), is_chronic=True,
        source="height loss over 20 %: Genant et al., J Bone Miner Res 1993",
    ),
}  # fmt: skip

assert tuple(CATALOGUE) == FINDINGS


def bit_of(finding: str) -> int:
    """Bit of a finding in the finding mask: its place in the column order."""
    return FINDINGS.index(finding)


INCIDENTAL_SECTIONS = {"adrenal_nodule": "adrenal glands", "uterine_fibroid": "pelvic"}
"""Abnormalities outside the thirty, so that every section has abnormal studies; rendered and reported alike."""
INCIDENTAL_SIZES_MM = {"adrenal_nodule": (12.0, 26.0), "uterine_fibroid": (25.0, 60.0)}
