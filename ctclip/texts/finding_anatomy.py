"""The anatomy of each finding of the known cohorts, as a noun of a sentence: "evidence of ascites in the spleen"."""

_ANATOMIES = {
    "bowel": ("submucosal_edema", "appendicitis", "bowel_obstruction"),
    "kidney": ("renal_hypodensities", "renal_cyst", "hydronephrosis"),
    "heart": (
        "aortic_valve_calcification", "coronary_calcification", "cardiomegaly", "Cardiomegaly", "Pericardial effusion",
        "Coronary artery wall calcification",
    ),
    "vasculature": ("thrombosis", "abdominal_aortic_aneurysm", "atherosclerosis"),
    "aorta": ("Arterial wall calcification", "Calcification"),
    "pancreas": ("pancreatic_atrophy",),
    "bone": ("osteopenia", "fracture"),
    "gallbladder": ("surgically_absent_gallbladder", "gallstones"),
    "lung": (
        "atelectasis", "pleural_effusion", "Emphysema", "Atelectasis", "Lung nodule", "Lung opacity",
        "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern", "Peribronchial thickening",
        "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
    ),
    "esophagus": ("hiatal_hernia", "Hiatal hernia"),
    "lymph node region": ("lymphadenopathy", "Lymphadenopathy"),
    "prostate": ("prostatomegaly",),
    "liver": ("biliary_ductal_dilation", "hepatomegaly", "hepatic_steatosis"),
    "spleen": ("splenomegaly",),
    "peritoneum": ("ascites", "free_air", "anasarca"),
    "abdomen": ("metastatic_disease",),
    "chest": ("Medical material",),
}  # fmt: skip
ANATOMY_OF = {finding: anatomy for anatomy, findings in _ANATOMIES.items() for finding in findings}
