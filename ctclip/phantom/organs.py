"""The organ labels of the phantom's masks, and the HU of tissues by contrast phase.

Values are means for an adult at 120 kV, rounded; liver, spleen and marrow get a small offset per patient. Checked:
  unenhanced liver 45 to 65, spleen 35 to 55, kidney 20 to 40, blood 45 to 65, fat -50 to -100, lung -850 to -910:
      radclass.mudr.org, Hounsfield units, after Prokop, Spiral and Multislice CT of the Body, 2003.
  arterial aorta 290 to 360: radiopaedia.org, late arterial phase.
  trabecular bone of L1: 2.5 HU less per year of age, 226 +- 44 under 30 and 89 +- 38 from 90 on: Jang et al.,
      Radiology 2019, doi 10.1148/radiol.2019181648. Here 175 +- 14 whatever the age, so that osteopenia is told apart.
The rest (venous phase, contrast of spleen, pancreas, kidney, bowel and heart, bile, urine, muscle) is textbook
knowledge from memory; it sets the scene and is no measurement of this project.
"""

OUTSIDE, SUBCUTANEOUS, MUSCLE, CAVITY_FAT = 0, 1, 2, 3
LUNG, HEART, LIVER, GALLBLADDER, SPLEEN, PANCREAS, ADRENAL, KIDNEY = 4, 5, 6, 7, 8, 9, 10, 11
STOMACH, SMALL_BOWEL, COLON, APPENDIX, BLADDER, PROSTATE, UTERUS = 12, 13, 14, 15, 16, 17, 18
AORTA, ARTERY, VEIN, SPINE, BONE, NODE, PLEURA, FLUID, GAS, DUCT, TABLE, MEDIASTINUM = (
    19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
)  # fmt: skip

ORGAN_NAMES = (
    "outside", "subcutaneous fat", "muscle", "cavity fat", "lung", "heart", "liver", "gallbladder", "spleen",
    "pancreas", "adrenal gland", "kidney", "stomach", "small bowel", "colon", "appendix", "bladder", "prostate",
    "uterus", "aorta", "artery", "vein", "spine", "bone", "lymph node", "pleural space", "peritoneal fluid",
    "free gas", "duct or ureter", "table", "mediastinum",
)  # fmt: skip

INSIDE_CAVITY = (
    CAVITY_FAT, LIVER, GALLBLADDER, SPLEEN, PANCREAS, ADRENAL, KIDNEY, STOMACH, SMALL_BOWEL, COLON, APPENDIX,
    BLADDER, PROSTATE, UTERUS, AORTA, ARTERY, VEIN, NODE, FLUID, GAS, DUCT,
)  # fmt: skip

PHASES = ("unenhanced", "arterial", "venous")

TISSUE_HU: dict[str, tuple[float, float, float]] = {
    "fat": (-105, -105, -105),
    "muscle": (55, 58, 62),
    "lung": (-830, -825, -820),
    "liver": (57, 66, 110),
    "spleen": (48, 120, 122),
    "pancreas": (40, 105, 95),
    "adrenal": (20, 65, 65),
    "cortex": (32, 165, 190),
    "medulla": (32, 75, 165),
    "bowel": (38, 75, 85),
    "blood": (42, 300, 150),
    "heart": (42, 190, 140),
    "vein": (42, 75, 165),
    "bile": (8, 8, 8),
    "urine": (5, 5, 6),
    "fluid": (8, 9, 10),
    "prostate": (40, 55, 65),
    "uterus": (45, 70, 95),
    "node": (38, 65, 80),
    "trabecular": (165, 170, 175),
    "cortical": (560, 565, 570),
    "disc": (80, 82, 85),
    "gas": (-980, -980, -980),
}


def tissue_hu(tissue: str, phase: str) -> float:
    """Mean HU of a tissue in a contrast phase."""
    return float(TISSUE_HU[tissue][PHASES.index(phase)])
