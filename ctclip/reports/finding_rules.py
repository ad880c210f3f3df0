"""How reports word the findings: for each, the term, where it must stand, and what it must not be. Data only."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FindingRule:
    """The wording of one finding.

    Attributes:
        term: The finding's own word, searched in a clause; a group named `core` marks the affirmed word in a span.
        where: Must also stand in the clause, when given; `anatomies` can stand in for it.
        anatomies: The sentence must speak of one of these (words or heading), when given.
        veto: The sentence must not say this.
        veto_clause: The clause must not say this.
    """

    term: re.Pattern[str]
    where: re.Pattern[str] | None = None
    anatomies: tuple[str, ...] | None = None
    veto: re.Pattern[str] | None = None
    veto_clause: re.Pattern[str] | None = None


def _rule(
    term: str, *, where: str = "", anatomies: tuple[str, ...] | None = None, veto: str = "", veto_clause: str = ""
) -> FindingRule:
    patterns = [re.compile(text, re.I) if text else None for text in (term, where, veto, veto_clause)]
    assert patterns[0] is not None
    return FindingRule(patterns[0], patterns[1], anatomies, patterns[2], patterns[3])


_GREW = r"(?:increas\w*|enlarge\w*|(?:larger|greater|bigger|above|wider) than normal|megaly|hypertroph\w*)"
_CALCIUM = r"(?:calcif\w*|calcium|athero\w*|plaques?)"

_PLEURAL_EFFUSION = _rule(
    r"pleura\w*[^;.]{0,200}?(?P<core>effusion|fluid)|(?P<core2>effusions?|fluid)[^;.]{0,200}?(?:pleura|hemithora)|hydropneumothora\w*"
)

_CT_RATE: dict[str, FindingRule | tuple[FindingRule, ...]] = {
    "Medical material": _rule(
        r"\b(?:catheter\w*|stents?\b|tubes?\b|pace-?maker|prosthe\w+|sutures?\b|clips?\b|ports?\b|port-?a-?cath|drains?\b|"
        r"cannula\w*|electrodes?\b|implants?\b|sternotom\w*|cerclage|wires?\b|metallic|metal\b|screws?\b|intubat\w*|"
        r"tracheostom\w*|valve replacement|(?:surgical|operation) material\w*|foreign body|icd\b|nasogastric|"
        r"(?:medical|support) devices?|fixat\w*|instrument\w*|bypass|filters?\b|mesh\b)",
        veto_clause=r"drains? (?:in)?to|peritoneal implant|implants? (?:and|in the peritone)|foreign body reaction",
    ),
    "Arterial wall calcification": _rule(
        _CALCIUM,
        where=r"\b(?:aort(?!ic valv|opulm|icopulm)\w*|arch|supra-?aortic|carotid|subclavian|iliac|"
        r"arter(?:ial|y|ies) walls?|(?<!coronary )vascular|vessels?|thoracic wall)\b",
        veto_clause=r"\blymph|nodul",
    ),
    "Cardiomegaly": _rule(
        rf"cardiomegal\w*|\b(?:heart|cardiac|cardio-?thoracic|ctr|kto|ventric\w+)\b[^;.]{{0,200}}?(?P<core>{_GREW}|dilat\w*)|"
        rf"(?P<core2>{_GREW})[^;.]{{0,200}}?\b(?:heart|cardiac|cardiothoracic)\b",
    ),
    "Pericardial effusion": _rule(
        r"pericardi\w*[^;.]{0,200}?(?P<core>effusion|fluid)|(?P<core2>effusion|fluid)[^;.]{0,200}?pericardi"
    ),
    "Coronary artery wall calcification": _rule(_CALCIUM, where=r"coronar|\b(?:lad|rca|cx|lcx|circumflex)\b"),
    "Hiatal hernia": _rule(r"\bhiat\w*[^;.]{0,200}?(?P<core>herni\w*)|(?P<core2>herni\w*)[^;.]{0,200}?\bhiat"),
    "Lymphadenopathy": _rule(
        r"\blymph ?nod\w*|\b(?:lymph)?adenopath\w*|\blaps?\b|lymphadenomegal\w*|conglomerat\w*",
        veto_clause=r"intra-?pulmonary|intra-?parenchymal|subpleural|fissur",
    ),
    "Emphysema": _rule(r"emphysem\w*|\bbull(?:a|ae|ous)\b|\bblebs?\b"),
    "Atelectasis": _rule(r"\batele[ck]\w*|\bcollaps\w*", veto_clause=r"verteb|corpus|bronch\w* collaps"),
    "Lung nodule": _rule(
        r"\b(?:micro)?nodul\w*(?! (?:ground|frosted|consolid|infiltr|densit|opacit|thick|calcif|"
        r"increas|formation|goit))",
        anatomies=("lung",),
        veto_clause=r"thyroid|adrenal|liver|hepat|spleen|breast|kidney|renal|wall thick",
    ),
    "Lung opacity": (
        _rule(
            r"ground[- ]?glass|frosted|\bopaci\w*|\binfiltrat\w*",
            anatomies=("lung", "pleura"),
            veto_clause="mediastinal fat",
        ),
        _rule(
            r"density increase\w*|increase\w* (?:in )?(?:parenchymal )?densit\w*",
            anatomies=("lung",),
            veto_clause=r"sequel|fibro|pleuro-?parenchymal|subcutan|adipose|\bfat\b|mediastinal|"
            r"\blinear|\bband|atelect|liver",
        ),
    ),
    "Pulmonary fibrotic sequela": _rule(
        r"\w*fibro\w*|\w*sequel\w*|pleuro-?parenchymal|\bscar\w*|\brecession\w*",
        veto_clause=r"\bribs?\b|fractur|humer|verteb",
    ),
    "Pleural effusion": _PLEURAL_EFFUSION,
    "Mosaic attenuation pattern": _rule(r"mosaic"),
    "Peribronchial thickening": _rule(
        r"bronch\w*[^;.]{0,200}?(?P<core>thick\w*)|"
        r"(?P<core2>thick\w*)[^;.]{0,200}?(?:peribronch|bronchial wall|bronchovas)",
        veto_clause=r"main bronch|soft tissue",
    ),
    "Consolidation": _rule(r"consolidat\w*"),
    "Bronchiectasis": _rule(
        r"bronchi?o?l?iectas\w*|bronchiectat\w*|bronch\w*[^;.]{0,200}?(?P<core>dilat\w*|ectas\w*)|"
        r"(?P<core2>dilat\w*)[^;.]{0,200}?\bbronch"
    ),
    "Interlobular septal thickening": _rule(
        r"sept\w*[^;.]{0,200}?(?P<core>thick\w*)|(?P<core2>thick\w*)[^;.]{0,200}?(?:interlobul\w*|septa\b|septal|septum)"
    ),
}

_MERLIN: dict[str, FindingRule | tuple[FindingRule, ...]] = {
    "submucosal_edema": _rule(r"submucosal (?P<core>o?edema\w*)|(?:bowel|colon\w*|gastric) wall (?P<core2>o?edema\w*)"),
    "renal_hypodensities": _rule(
        r"hypo-?dens\w*|hypo-?attenuat\w*|low[- ]?(?:attenuat\w*|densit\w*)|too small to characteri\w*",
        anatomies=("kidneys",),
        veto_clause=r"\bliver|hepatic|splen|pancrea|adrenal",
    ),
    "aortic_valve_calcification": _rule(r"calcif\w*", where=r"aortic (?:valv|annul|root)"),
    "coronary_calcification": _rule(_CALCIUM, where=r"coronar"),
    "thrombosis": _rule(r"\bthromb(?:us|i|os\w*)\b|\bembol\w*|filling defects?", veto_clause=r"ascending the"),
    "metastatic_disease": _rule(r"\bmetasta\w*|carcinomatosis"),
    "pancreatic_atrophy": _rule(
        r"\batroph\w*", anatomies=("pancreas",), veto_clause=r"renal|kidney|cortical|muscl|uter|liver|adrenal"
    ),
    "renal_cyst": _rule(
        r"\bcysts?\b|\bcystic (?:lesion|focus|foci)",
        anatomies=("kidneys",),
        veto_clause=r"\bliver|hepatic|splenic|pancrea|ovar|adnex|adrenal",
    ),
    "osteopenia": _rule(r"osteopeni\w*|osteoporo\w*|deminerali\w*"),
    "surgically_absent_gallbladder": (
        _rule(
            r"cholecystectom\w*|"
            r"gallbladder[^;.]{0,200}?(?P<core>surgically absent|"
            r"(?:has been|was|is) (?:surgically )?(?:removed|resected))"
        ),
        _rule(r"surgically absent|status post resection", anatomies=("gallbladder",)),
    ),
    "atelectasis": _rule(r"\batele[ck]\w*"),
    "abdominal_aortic_aneurysm": _rule(
        r"aneurysm\w*|\baaas?\b",
        where=r"\baort|\babdominal|infrarenal|juxtarenal|\baaa|^\W*(?:no |without )(?:evidence of )?(?:an )?aneurysm",
        veto_clause=r"thoracic aort|ascending|aortic root|(?:splenic|renal|iliac|hepatic) arter\w* aneurysm|"
        r"cerebral|ventric",
    ),
    "anasarca": _rule(r"anasarca|(?:diffuse|generali[sz]ed) (?:body wall|subcutaneous|soft tissue) (?P<core>o?edema)"),
    "hiatal_hernia": _rule(r"\bhiat\w*[^;.]{0,200}?(?P<core>herni\w*)|(?P<core2>herni\w*)[^;.]{0,200}?\bhiat"),
    "lymphadenopathy": _rule(
        r"\b(?:lymph)?adenopath\w*|(?P<core>enlarged)(?: [\w-]+){0,4} (?:lymph )?nodes?\b|"
        r"\b(?:lymph )?nodes?\b[^;.,]{0,200}?(?P<core2>enlarge\w*)"
    ),
    "prostatomegaly": _rule(
        rf"prostatomegal\w*|\bprostat\w*[^;.]{{0,200}}?(?P<core>{_GREW})|(?P<core2>enlarge\w*)[^;.]{{0,200}}?\bprostate"
    ),
    "biliary_ductal_dilation": _rule(
        r"\b(?:dilat\w*|ectasi\w*|distend\w*)",
        where=r"\bbil(?:iary|e)\b|\bducts?\b|ductal|\bcbd\b|choledoch",
        veto_clause=r"pancreatic duct(?! and)|ureter",
    ),
    "cardiomegaly": _CT_RATE["Cardiomegaly"],
    "splenomegaly": (
        _rule(
            rf"(?:hepato)?splenomegal\w*|\bspleen[^;.]{{0,200}}?(?P<core>{_GREW})|"
            r"(?P<core2>enlarge\w*)[^;.]{0,200}?\bspleen"
        ),
        _rule(
            r"^\W*(?:(?:mildly|moderately|markedly|severely|borderline|slightly|massively|is) )*(?P<core>enlarged)",
            anatomies=("spleen",),
            veto_clause=r"varic|vein|node|liver",
        ),
    ),
    "hepatomegaly": (
        _rule(
            rf"hepato(?:spleno)?megal\w*|\bliver[^;.]{{0,200}}?(?P<core>{_GREW})|"
            r"(?P<core2>enlarge\w*)[^;.]{0,200}?\bliver"
        ),
        _rule(
            r"^\W*(?:(?:mildly|moderately|markedly|severely|borderline|slightly|massively|is) )*(?P<core>enlarged)",
            anatomies=("liver",),
            veto_clause=r"duct|vein|node|spleen|gallbladder",
        ),
    ),
    "atherosclerosis": _rule(
        r"\bathero\w*|(?:calcified|aortic|arterial|vascular) (?:plaques?|calcif\w*)|"
        r"calcif\w*[^;.]{0,200}?\b(?:aorta|iliac|arteries|vessels)",
        veto_clause=r"coronary|aortic valv",
    ),
    "ascites": _rule(r"\bascit\w*|\bfree (?:[\w-]+ ){0,2}(?:fluid|liquid)|\b(?:peritoneal|perihepatic|pelvic) fluid"),
    "pleural_effusion": (
        _PLEURAL_EFFUSION,
        _rule(r"\beffusions?\b", anatomies=("lung", "pleura"), veto_clause=r"pericard|joint|pleur"),
    ),
    "hepatic_steatosis": (
        _rule(r"steato(?:sis|hepat\w*)|hepatosteat\w*|fatty liver"),
        _rule(
            r"\bfatty (?:infiltrat\w*|change\w*|replacement|deposition)",
            anatomies=("liver",),
            veto_clause=r"pancrea|muscl",
        ),
    ),
    "appendicitis": _rule(r"\bappendicitis"),
    "gallstones": (
        _rule(r"gall-?stones?|cholelith\w*"),
        _rule(r"\b(?:stones?|calcul\w*)", anatomies=("gallbladder",), veto_clause=r"renal|kidney|ureter|nephro"),
    ),
    "hydronephrosis": _rule(
        r"hydronephro\w*|hydroureter\w*|(?:pelvi)?caliectas\w*|pelviectas\w*|"
        r"(?:renal pelvi\w*|collecting systems?)[^;.]{0,200}?(?P<core>dilat\w*)|"
        r"(?P<core2>dilat\w*)[^;.]{0,200}?(?:renal pelvi|renal collecting|collecting system)"
    ),
    "bowel_obstruction": _rule(
        r"\bobstruct\w*|\bsbo\b",
        anatomies=("bowel",),
        veto_clause=r"non-?obstruct|bil(?:iary|e)|duct|ureter|uropathy|calcul|stone|renal|outlet|bronch|venous|airway",
    ),
    "free_air": (
        _rule(r"\bfree (?:[\w-]+ ){0,2}(?:air|gas)\b|pneumoperiton\w*|extra-?luminal (?:air|gas)"),
        _rule(r"\b(?:foci|locules|bubbles|pockets) of (?P<core>(?:air|gas))\b[^;.]{0,200}?peritone"),
    ),
    "fracture": _rule(r"fractur\w*|compression deformit\w*"),
}

RULES: dict[str, tuple[FindingRule, ...]] = {
    name: rules if isinstance(rules, tuple) else (rules,) for name, rules in (_MERLIN | _CT_RATE).items()
}
