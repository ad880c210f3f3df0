"""Kidneys, ureters, bladder, prostate and uterus, with cysts, hypodensities, hydronephrosis, prostate size."""

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.body import Body
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.shape import Look, Scene, rotation

KIDNEY_RADII = np.array((27.0, 26.0, 55.0))


def paint_kidneys(scene: Scene, body: Body) -> None:
    """Both kidneys with cortex, medulla, sinus, collecting system and lesions, and the ureters."""
    for side, name, z in ((1, "right", -8.0), (-1, "left", 8.0)):
        center = np.array(body.at(side * 64, -50, z))
        radii = KIDNEY_RADII * body.study.patient.scale * (1 + body.jitter(3, 0.03))
        turn = rotation(y_deg=-12 * side, x_deg=8, z_deg=-30 * side)
        scene.ellipsoid(center, radii, Look(body.hu("cortex"), organs.KIDNEY, texture=6), turn=turn, deform=0.04)
        for along in (-0.55, -0.2, 0.2, 0.55):
            medulla = center + turn @ np.array((0, 0, along * radii[2]))
            scene.ellipsoid(medulla, (14, 13, 10), Look(body.hu("medulla"), organs.KIDNEY), turn=turn)
        hilum = center + turn @ np.array((-side * 0.5 * radii[0], 0, 0))
        scene.ellipsoid(hilum, (12, 9, 24), Look(-70, organs.KIDNEY), turn=turn)
        _paint_collecting(scene, body, side, name, center, radii, turn)
        _paint_cysts(scene, body, name, center, radii, turn, side)
        _paint_hypodensities(scene, body, name, center, radii, turn)


def _paint_collecting(scene: Scene, body: Body, side: int, name: str, center, radii, turn) -> None:
    """Renal pelvis, calyces and ureter, wide when obstructed."""
    lesion = body.study.lesion("hydronephrosis")
    is_wide = lesion is not None and lesion.has(name)
    width = lesion.size_mm if lesion is not None and is_wide else 7.0
    bit = bit_of("hydronephrosis") if is_wide else -1
    urine = Look(body.hu("urine"), organs.KIDNEY, bit)
    pelvis = center + turn @ np.array((-side * 0.45 * radii[0], 0, 0))
    scene.ellipsoid(pelvis, (width * 0.62, width * 0.5, width * 0.9), urine, turn=turn)
    if is_wide:
        for along in (-0.58, -0.2, 0.2, 0.58):
            calyx = center + turn @ np.array((side * 0.1 * radii[0], 0, along * radii[2]))
            half = 0.42 * width
            scene.ellipsoid(calyx, (half, half, half), urine)
            scene.capsule(pelvis, calyx, 0.28 * width, urine)
    ureter = Look(body.hu("urine") + 10, organs.DUCT, bit)
    course = [pelvis, body.at(side * 40, -44, -50), body.at(side * 36, -40, -115), body.at(side * 22, -10, -178)]
    scene.tube(course, 0.22 * width if is_wide else 1.6, ureter)


def _paint_cysts(scene: Scene, body: Body, name: str, center, radii, turn, side: int) -> None:
    """Water-density balls that bulge out of the cortex; the first has the size that is reported."""
    lesion = body.study.lesion("renal_cyst")
    if lesion is None or not lesion.has(name):
        return
    rng = body.study.stream("cysts " + name)
    water = Look(body.hu("urine") + 2, organs.KIDNEY, bit_of("renal_cyst"))
    for k in range(1 + lesion.severity):
        radius = lesion.size_mm / 2 * (1.0 if k == 0 else rng.uniform(0.4, 0.75))
        along = (0.62 if rng.random() < 0.5 else -0.62) if k == 0 else rng.uniform(-0.8, 0.8)
        angle = rng.uniform(-0.9, 0.9)
        outward = np.array((side * np.cos(angle) * 0.85, np.sin(angle) * 0.85, along))
        scene.ellipsoid(center + turn @ (outward * radii), (radius, radius, radius), water)


def _paint_hypodensities(scene: Scene, body: Body, name: str, center, radii, turn) -> None:
    lesion = body.study.lesion("renal_hypodensities")
    if lesion is None or not lesion.has(name):
        return
    rng = body.study.stream("hypodensities " + name)
    value = body.hu("cortex") + min(1.0, lesion.effect) * (22 - body.hu("cortex"))
    look = Look(value, finding=bit_of("renal_hypodensities"), over=(organs.KIDNEY,))
    for k in range(2 + lesion.count):
        radius = lesion.size_mm / 2 * (1.0 if k == 0 else rng.uniform(0.6, 1.0))
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        scene.ellipsoid(center + turn @ (direction * 0.82 * radii), (radius, radius, radius), look)


def paint_pelvis(scene: Scene, body: Body) -> None:
    """Bladder, and prostate or uterus."""
    scale = body.study.patient.scale
    fill = body.study.study_stream("bladder").uniform(0.75, 1.15)
    center, radii = body.at(0, 26, -172), np.array((36.0, 30.0, 28.0)) * scale * fill
    scene.ellipsoid(center, radii + 3, Look(body.hu("muscle"), organs.BLADDER), deform=0.03)
    scene.ellipsoid(center, radii, Look(body.hu("urine"), organs.BLADDER), deform=0.03)
    if body.study.patient.is_male:
        _paint_prostate(scene, body)
        return
    scene.ellipsoid(
        body.at(0, -18, -164), (26 * scale, 22 * scale, 30 * scale), Look(body.hu("uterus"), organs.UTERUS), deform=0.05
    )
    size = body.study.incidentals.get("uterine_fibroid")
    if size is not None:
        half = size / 2
        scene.ellipsoid(
            body.at(14, -18, -146), (half, half, half), Look(body.hu("uterus") - 25, organs.UTERUS, texture=15)
        )


def _paint_prostate(scene: Scene, body: Body) -> None:
    lesion = body.study.lesion("prostatomegaly")
    width = body.study.patient.sizes_mm["prostate"] if lesion is None else lesion.size_mm
    bit = -1 if lesion is None else bit_of("prostatomegaly")
    center = body.at(0, 0, -212)
    look = Look(body.hu("prostate"), organs.PROSTATE, bit, texture=8)
    raised = 0.35 * (width - 40)
    scene.ellipsoid((center[0], center[1], center[2] + raised), (width / 2, width * 0.38, width * 0.42), look)
