"""Words that tell an abnormal statement from a normal one, in English radiology reports. Data only: stems, no rules.

Stems end where inflection begins; `compiled` adds the word ending.
"""

import re
from collections.abc import Iterable

# Words that name something wrong whenever they are affirmed.
HARD_STEMS = (
    # lungs and pleura
    "effusion", "nodul", "micronodul", "mass", "lesion", "opacit", "opacif", "consolidat", "infiltrat", "infiltrativ",
    "atelecta", "emphysem", "bulla", "bleb", "bronchiect", "bronchiol", "bronchit", "fibros", "fibrot", "fibroatel",
    "sequel", "honeycomb", "mosaic", "ground[- ]?glass", "crazy[- ]paving", "tree[- ]in[- ]bud", "budding tree",
    "air[- ]trapping", "septal thick", "reticul", "pneumoni", "pneumothora", "hydropneumothora", "hemothora",
    "empyem", "pneumomediast", "cavit(?:ary|at)", "mucus", "secretion", "plug", "aspirat", "hyperinflat",
    "hyperaerat", "covid",
    # heart and vessels
    "cardiomegal", "calcif", "calcific", "plaque", "athero", "aneurysm", "ectasi", "ectatic", "dissect", "thromb",
    "embol", "stenos", "stenot", "occlusi", "occluded", "tortuo", "elongat", "varic", "varix", "collateral", "shunt",
    "infarct", "ischemi", "filling defect",
    # nodes
    "lymphadenopath", "adenopath", "lymphadenomegal", r"lap\b", r"laps\b", "conglomerat",
    # abdomen
    "hernia", "cyst(?!ic (?:duct|artery))", "stone", "calcul", "lithiasis", "cholelith", "nephrolith", "urolith",
    "choledocholith", "gallstone", "sludge", "hydronephr", "hydroureter", "pelviectas", "caliectas", "pyelonephr",
    "steato", "steatos", "fatty(?! (?:tissue|plane|hil))", "cirrho", "ascit", "free (?:fluid|air|gas|liquid)",
    "extralumin", "pneumoperiton", "pneumatosis", "portal venous gas", "collection", "abscess", "phlegmon", "fistul",
    "perforat", "diverticul", "appendicit", "colitis", "enterit", "ileus", "obstruct", "volvulus", "intussus",
    "pancreatit", "cholecystit", "cholangit", "hepatit", "cystitis", "prostatit", "prostatomegal", "splenomegal",
    "hepatomegal", "hepatosplenomegal", "organomegal", r"\w+megaly", "hyperplas", "polyp", "fibroid", "myoma",
    "leiomyoma", "endometriosis", "hydrocele", "varicocele", "hydrosalpin", "accessory spleen", "splenule",
    "horseshoe",
    # anywhere
    "edema", "oedema", "edemat", "anasarca", "strand", "inflam", "infect", "tumou?r", "neoplas", "malignan",
    "carcinom", "cancer", r"ca\b", "metasta", "carcinomat", "lymphom", "sarcom", "adenom", "incidentalom",
    "hemangiom", "angiomyolip", "lipom", "hamartom", "granulom", "hematom", "haematom", "hemorrhag", "bleed",
    "lacerat", "contusion", "extravasat", "hypodens", "hyperdens", "hypoattenuat", "hyperattenuat", "low[- ]attenuat",
    "low[- ]densit", "hypoenhanc", "hyperenhanc", "hypermetabol", "fat attenuat", "atroph", "hypertroph", "enlarge",
    "dilat", "(?<!well[- ])disten[dst]", "swell", "swollen", "scar", "striated", "patch", "band", "linear", "halo",
    "retract", "compress", "displac", "deviat", "shift", "deform", "defect", "destruct", "erosi", "lytic", "sclero",
    "obliterat", "contamin", "heterogene", "inhomogene", "irregular", "asymmetr", "lobulat", "nodular", "bulg",
    # bones
    "fractur", "degenerat", "osteophyt", "spondyl", "scolio", "kypho", "osteopen", "osteopor", "demineral", "hernial",
    "protrusion", "listhes", "schmorl", "arthrit", "arthros", "arthropath", "avascular necrosis", "sacroiliit",
    "height loss", "loss of height", "spur", "callus", "vacuum", "pectus", "hemivertebra", "wedg", "dysplas",
    "block vertebra",
    # devices and operations
    "catheter", "stent", "tube", "drain", "pacemaker", "prosthe", "suture", "surgical", "post[- ]?operat",
    "operat(?:ed|ion)", "postop", r"status[- ]post", r"s/p\b", r"\w+ectomy", "resect", "clip", "implant", "screw",
    "cannula", "electrode", "sternotomy", "bypass", "anastomos", "port chamber", "port[- ]a[- ]cath", "chemoport",
    "tracheosto", "ostomy", "colostom", "ileostom", "nephrostom", "metallic", "metal", "cerclage", "mesh",
    "valve replacement",
    # changes of size and density that need no organ
    "hyperemia", "necro", "gangren", "patholog", "disease", "disorder", "syndrome", "anomal", "variant", "variation",
    "aberrant", "ectopi", "gynecomast", "goit(?:er|re)", "thick(?!ness)", "prominen", "increas", "decreas", "reduc",
    "diminish", "narrow", "widen", "wall defect", "rotat", "malposition", "ptosis", "duplicat", "agenes", "hypoplas",
    "congest", "engorg", "mottl", "haz(?:y|iness)", "density increase", "sternal wire", "malrotat", "torsion",
    "rupture", "separation", "injur", "trauma", "foreign body", "sac\\b", "elevat", "depress", "blunt", "loculat",
    "large[- ]?volume", "surgically absent", "bronchopneumon", "hepatosteat", "hypovol", "collaps", "volume loss",
    "loss of volume", "dirty", "splenul", "contract(?:ed|ion)", "taper", "transplant", "frosted", "lucen",
    "losses? in height", "pneumobil", "pseudo", "hepatost",
)  # fmt: skip

# Words that are wrong only with something else; a normal predicate wins over them.
SOFT_STEMS = (
    "densit", "thickness", "compression", "lymph", "node", "ganglion", "fluid", "air", "gas", "fat", "remnant",
    "focus", "foci", "focal", "area", "appearance", "image", "finding", "change", "line", "wall", "tissue",
)  # fmt: skip

# "The liver is normal", "vessels are patent".
NORMAL_PREDICATES = (
    "normal", "natural", "unremarkable", "within (?:the )?(?:normal|physiologic\\w*)", "preserved", "patent", "open",
    "clear", "intact", "homogen(?:e)?ous", "symmetric", "symmetrical", "midline", "in the middle(?! lobe)", "regular",
    "usual", "ordinary", "well[- ]distended", "maintained", "physiologic\\w*", "benign[- ]appearing",
    "grossly normal", "age[- ]appropriate", "negative", "healthy", "smooth", "adequate", "expected",
    "nonobstruct\\w*", "non[- ]dilated", "nondilated", "non[- ]specific bowel gas",
)  # fmt: skip

# Sentences about how the images were made or what to do next.
TECHNIQUE = (
    "contrast", "ct (?:of the )?(?:abdomen|pelvis|chest|thorax)", "unenhanced", "non[- ]contrast", "slice",
    "section thickness", "reformat", "reconstruct", "multidetector", "protocol", "technique", "optimal", "artifact",
    "artefact", "motion", "respiratory", "(?:parenchyma|lung|bone|soft tissue) window",
    "images? (?:were|was) (?:obtained|acquired|taken)", "axial", "coronal", "sagittal", "examination (?:is|was|of)",
    "comparison", "compared", "recommend", "suggest", "advis", "correlat", "follow[- ]?up", "control", "clinical",
    "laboratory", "should be", "could be further", "may be obtained", "consider(?!ed)", "faxed", "dictat",
    "would be appropriate", "will be appropriate", "evaluat", "history", "indication", "known", "please", "thank",
    "discussed", "dictated", "signed", "note[sd]? made", "performed", "administ", "intravenous", "oral", "dose",
    "see (?:above|below|report)", "limited",
)  # fmt: skip

# Signs that something is being said to exist, whatever it is.
EXISTENCE = (
    "there (?:is|are|was|were)",
    "(?:is|are|was|were) (?:also )?(?:observed|seen|noted|detected|present|identified|watched|available)", "mm", "cm",
    "consistent with", "compatible with", "in favor of", "suggest", "suspicious", "measur", "diameter",
)  # fmt: skip


def compiled(stems: Iterable[str], *, whole: bool = False) -> re.Pattern[str]:
    """One pattern for any of the stems at a word's start; `whole` asks for the word's end too."""
    ending = r"\b" if whole else ""
    return re.compile(rf"\b(?<!\bnon[- ])(?:{'|'.join(sorted(stems, key=len, reverse=True))}){ending}", re.I)
