"""What a phantom report says of each finding: sentences for it, against it, and its line in the impression.

Placeholders: {severity} mild, moderate, severe; {extent} small, moderate, large; {side}; {size}; {site}; {s} a plural
ending where both sides are meant; {is} is or are. Own wording, none of it taken from a report. Every sentence for a
finding names it in words that no sentence against another one uses.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """Templates of one finding."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    impression: tuple[str, ...]


WORDINGS: dict[str, Wording] = {
    "submucosal_edema": Wording(
        ("{severity} submucosal edema of the {site}.",
         "{severity} submucosal edema of the {site}, wall {size} thick.", "There is submucosal edema of the {site}.",
         "Wall thickening with {severity} submucosal edema along the {site}."),
        ("No submucosal edema.", "No bowel wall thickening or submucosal edema."),
        ("{severity} submucosal edema of the {site}.",)),
    "renal_hypodensities": Wording(
        ("{side} subcentimeter renal hypodensities, too small to characterize.",
         "Small hypodensities in the {side} kidney{s}, up to {size}.", "There are {side} renal hypodensities."),
        ("No renal hypodensities.", "No renal hypodensity is seen."),
        ("{side} renal hypodensities, too small to characterize.",)),
    "aortic_valve_calcification": Wording(
        ("Aortic valve calcification.", "{severity} aortic valve calcifications.",
         "There is calcification of the aortic valve."),
        ("No aortic valve calcification.",), ("Aortic valve calcification.",)),
    "coronary_calcification": Wording(
        ("{severity} coronary artery calcification.", "Coronary artery calcifications are present.",
         "There are coronary calcifications."),
        ("No coronary artery calcification.", "No coronary calcifications."), ("Coronary artery calcification.",)),
    "thrombosis": Wording(
        ("Thrombosis of the {site}.",
         "Thrombosis of the {site} over {size}.", "Filling defect in the {site}, consistent with thrombosis.",
         "There is {site} thrombosis."),
        ("No venous thrombosis.", "Portal vein and vena cava are patent without thrombosis."),
        ("Thrombosis of the {site}.",)),
    "metastatic_disease": Wording(
        ("Metastatic disease of the liver.",
         "Multiple hypoattenuating liver lesions up to {size}, consistent with metastatic disease.",
         "Hepatic metastases, the largest {size}.", "There is metastatic disease of the liver."),
        ("No evidence of metastatic disease.", "No hepatic metastases."),
        ("Hepatic metastatic disease.", "Multiple liver metastases up to {size}.")),
    "pancreatic_atrophy": Wording(
        ("{severity} pancreatic atrophy.", "Atrophic pancreas, body {size} thick.", "The pancreas is atrophic."),
        ("No pancreatic atrophy.",), ("Pancreatic atrophy.",)),
    "renal_cyst": Wording(
        ("{side} renal cyst{s}.",
         "{side} renal cyst{s}, the largest {size}.", "Simple cyst{s} in the {side} kidney{s} up to {size}.",
         "There {is} {side} renal cyst{s}."),
        ("No renal cyst.", "No renal cysts are seen."), ("{side} renal cyst{s}.",)),
    "osteopenia": Wording(
        ("{severity} osteopenia.", "Diffuse osteopenia of the spine.", "The bones are demineralized, with osteopenia."),
        ("No osteopenia.", "Bone mineralization is normal without osteopenia."), ("Diffuse osteopenia.",)),
    "surgically_absent_gallbladder": Wording(
        ("Surgically absent.", "The gallbladder is surgically absent.", "Status post cholecystectomy.",
         "Surgically absent gallbladder with clips in the fossa."),
        (), ("Status post cholecystectomy.",)),
    "atelectasis": Wording(
        ("{side} basilar atelectasis.", "{severity} {side} lower lobe atelectasis.",
         "There is {severity} atelectasis at the {side} lung base{s}."),
        ("No atelectasis.", "Lung bases are clear without atelectasis."), ("{side} basilar atelectasis.",)),
    "abdominal_aortic_aneurysm": Wording(
        ("Abdominal aortic aneurysm.",
         "Infrarenal abdominal aortic aneurysm measuring {size}.", "Abdominal aortic aneurysm, {size} in diameter.",
         "There is an aneurysm of the abdominal aorta up to {size}."),
        ("No abdominal aortic aneurysm.", "The aorta is normal in caliber without aneurysm."),
        ("Abdominal aortic aneurysm, {size}.",)),
    "anasarca": Wording(
        ("{severity} anasarca.", "Diffuse body wall edema, consistent with anasarca.",
         "There is {severity} anasarca with subcutaneous edema."),
        ("No anasarca.", "No body wall edema."), ("Anasarca.", "{severity} anasarca.")),
    "hiatal_hernia": Wording(
        ("{extent} hiatal hernia.", "There is a {extent} hiatal hernia, {size} across.",
         "Hiatal hernia measuring {size}."),
        ("No hiatal hernia.",), ("{extent} hiatal hernia.",)),
    "lymphadenopathy": Wording(
        ("{severity} {site} lymphadenopathy.",
         "{site} lymphadenopathy up to {size} in short axis.", "Enlarged {site} lymph nodes, the largest {size}.",
         "There is {severity} {site} lymphadenopathy."),
        ("No lymphadenopathy.", "No enlarged lymph nodes."), ("{site} lymphadenopathy.",)),
    "prostatomegaly": Wording(
        ("Prostatomegaly.",
         "Prostatomegaly, {size} in width.", "The prostate is enlarged, measuring {size}.",
         "{severity} prostatomegaly."),
        ("No prostatomegaly.", "The prostate is not enlarged."), ("Prostatomegaly.",)),
    "biliary_ductal_dilation": Wording(
        ("{severity} biliary ductal dilation.",
         "{severity} biliary ductal dilation, common duct {size}.",
         "Intra- and extrahepatic biliary ductal dilation, common duct {size}.", "There is biliary ductal dilation."),
        ("No biliary ductal dilation.", "No intra- or extrahepatic biliary ductal dilation."),
        ("Biliary ductal dilation.",)),
    "cardiomegaly": Wording(
        ("{severity} cardiomegaly.", "There is cardiomegaly.", "The heart is enlarged, {size} across."),
        ("No cardiomegaly.", "Heart size is normal."), ("Cardiomegaly.",)),
    "splenomegaly": Wording(
        ("{severity} splenomegaly.",
         "{severity} splenomegaly, {size} in length.", "Splenomegaly measuring {size}.",
         "The spleen is enlarged, measuring {size}.", "There is splenomegaly."),
        ("No splenomegaly.", "The spleen is normal in size."), ("Splenomegaly.", "{severity} splenomegaly.")),
    "hepatomegaly": Wording(
        ("{severity} hepatomegaly.",
         "{severity} hepatomegaly, {size} in length.", "Hepatomegaly measuring {size}.",
         "The liver is enlarged, measuring {size}.", "There is hepatomegaly."),
        ("No hepatomegaly.", "The liver is normal in size."), ("Hepatomegaly.",)),
    "atherosclerosis": Wording(
        ("{severity} atherosclerosis of the abdominal aorta.", "Aortic atherosclerotic calcification.",
         "There is {severity} calcified atherosclerosis."),
        ("No atherosclerosis.", "No significant atherosclerotic calcification."), ("{severity} atherosclerosis.",)),
    "ascites": Wording(
        ("{severity} ascites.", "There is {extent} volume ascites.",
         "{extent} amount of free fluid, consistent with ascites."),
        ("No ascites.", "No ascites or free fluid."), ("{severity} ascites.", "Ascites.")),
    "pleural_effusion": Wording(
        ("{extent} {side} pleural effusion{s}.", "There {is} {extent} {side} pleural effusion{s}, {size} deep.",
         "{side} pleural effusion{s}."),
        ("No pleural effusion.", "No pleural effusions."), ("{extent} {side} pleural effusion{s}.",)),
    "hepatic_steatosis": Wording(
        ("{severity} hepatic steatosis.", "Diffuse hepatic steatosis.",
         "Fatty liver, consistent with hepatic steatosis.",
         "Decreased hepatic attenuation, consistent with steatosis."),
        ("No hepatic steatosis.", "No steatosis."), ("Hepatic steatosis.", "{severity} hepatic steatosis.")),
    "appendicitis": Wording(
        ("Acute appendicitis.",
         "Acute appendicitis, the appendix measures {size} with fat stranding.",
         "Dilated appendix of {size} with stranding, consistent with appendicitis.", "There is acute appendicitis."),
        ("No appendicitis.", "The appendix is normal."), ("Acute appendicitis.",)),
    "gallstones": Wording(
        ("Gallstones.",
         "Gallstones, the largest {size}.", "Cholelithiasis with gallstones up to {size}.", "There are gallstones."),
        ("No gallstones.", "No radiopaque gallstones."), ("Cholelithiasis.", "Gallstones.")),
    "hydronephrosis": Wording(
        ("{severity} {side} hydronephrosis.", "There is {severity} {side} hydronephrosis, renal pelvis {size}.",
         "{side} hydroureteronephrosis, {severity}."),
        ("No hydronephrosis.", "No hydronephrosis of either kidney."), ("{severity} {side} hydronephrosis.",)),
    "bowel_obstruction": Wording(
        ("Small bowel obstruction.", "Dilated small bowel loops up to {size}, consistent with bowel obstruction.",
         "There is small bowel obstruction with loops of {size}."),
        ("No bowel obstruction.", "No evidence of bowel obstruction."), ("Small bowel obstruction.",)),
    "free_air": Wording(
        ("Free intraperitoneal air.", "There is {extent} free air under the anterior abdominal wall.",
         "Pneumoperitoneum with free air."),
        ("No free air.", "No free intraperitoneal air."), ("Free intraperitoneal air.", "Pneumoperitoneum.")),
    "fracture": Wording(
        ("{severity} compression fracture of {site}.", "Compression fracture of {site} with {size} loss of height.",
         "There is a {site} vertebral body fracture."),
        ("No fracture.", "No acute fracture."), ("{severity} {site} compression fracture.",)),
}  # fmt: skip

INCIDENTAL_WORDINGS: dict[str, Wording] = {
    "adrenal_nodule": Wording(
        ("Left adrenal nodule measuring {size}.", "There is a {size} nodule of the left adrenal gland."),
        ("No adrenal nodule.",), ("Left adrenal nodule.",)),
    "uterine_fibroid": Wording(
        ("Uterine fibroid measuring {size}.", "There is a {size} uterine fibroid."),
        ("No uterine mass.",), ("Uterine fibroid.",)),
}  # fmt: skip

HEADINGS: dict[str, tuple[str, ...]] = {
    "lower thorax": ("Lower thorax", "Lower chest", "Lung bases"),
    "liver": ("Liver", "Liver and biliary tree"),
    "gallbladder": ("Gallbladder",),
    "spleen": ("Spleen",),
    "pancreas": ("Pancreas",),
    "adrenal glands": ("Adrenal glands", "Adrenals"),
    "kidneys": ("Kidneys and ureters", "Kidneys", "Kidneys, ureters"),
    "bowel": ("Gastrointestinal tract", "Bowel", "Bowel/Mesentery"),
    "peritoneum": ("Peritoneal cavity", "Peritoneum", "Peritoneal space"),
    "pelvic": ("Pelvic organs", "Pelvis"),
    "circulatory": ("Vasculature",),
    "lymph nodes": ("Lymph nodes",),
    "musculoskeletal": ("Musculoskeletal", "Bones"),
}
"""Heading variants per section; the first is the usual one. Sections in report order."""

SEX_HEADINGS = {True: "Prostate and seminal vesicles", False: "Uterus and ovaries"}

NORMAL: dict[str, tuple[str, ...]] = {
    "lower thorax": ("Normal.", "Unremarkable.", "The lung bases are clear."),
    "liver": ("Normal.", "Unremarkable.", "Normal in size and attenuation."),
    "gallbladder": ("Normal.", "Unremarkable.", "Normal gallbladder."),
    "spleen": ("Normal.", "Unremarkable.", "Normal in size."),
    "pancreas": ("Normal.", "Unremarkable."),
    "adrenal glands": ("Normal.", "Unremarkable.", "Normal bilaterally."),
    "kidneys": ("Normal.", "Unremarkable.", "Normal, symmetric enhancement."),
    "bowel": ("Normal.", "Unremarkable.", "Normal in caliber."),
    "peritoneum": ("Normal.", "Unremarkable."),
    "pelvic": ("Normal.", "Unremarkable."),
    "circulatory": ("Normal.", "Unremarkable.", "Normal in caliber and patent."),
    "lymph nodes": ("Normal.", "Unremarkable.", "Normal in size."),
    "musculoskeletal": ("Normal.", "Unremarkable."),
}
OTHERWISE = ("Otherwise unremarkable.", "Otherwise normal.")
NORMAL_IMPRESSIONS = ("No acute abnormality.", "Normal examination of the abdomen.", "No significant abnormality.")
EXTENTS = ("small", "moderate", "large")
SEVERITY_WORDS = (("mild", "mild", "minimal"), ("moderate",), ("severe", "severe", "marked"))
