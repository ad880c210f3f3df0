"""Solid organs of the upper abdomen: liver with its ducts, gallbladder, spleen, pancreas, adrenals, stomach."""

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.body import Body
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.shape import Look, Scene, rotation

LIVER_TOP = 114.0
SPLEEN_TOP = 100.0
GALLBLADDER = (52.0, 40.0, 2.0)

Blob = tuple[tuple[float, float, float], tuple[float, float, float], np.ndarray]


def liver_blobs(body: Body) -> list[Blob]:
    """Right and left lobe as (center, radii, turn); the length is the patient's or the finding's."""
    lesion = body.study.lesion("hepatomegaly")
    length = body.study.patient.sizes_mm["liver"] if lesion is None else lesion.size_mm
    scale = body.study.patient.scale
    grown = (length / 152) ** 0.75
    top = LIVER_TOP * scale
    right = (
        (66 * scale, (-4 + body.jitter(0, 3)) * scale, top - length / 2),
        (64 * scale * min(grown, 1.12), 74 * scale * min(grown, 1.1), length / 2),
    )
    left = (
        (-4 * scale - 12 * (grown - 1), 38 * scale, 64 * scale),
        (66 * scale * grown, 34 * scale * grown, 38 * scale * grown),
    )
    return [(*right, rotation(y_deg=6)), (*left, rotation(y_deg=10, z_deg=-8))]


def spleen_blob(body: Body) -> Blob:
    """The spleen as (center, radii, turn)."""
    lesion = body.study.lesion("splenomegaly")
    length = body.study.patient.sizes_mm["spleen"] if lesion is None else lesion.size_mm
    grown = length / 98
    center = body.at(-(104 - 10 * (grown - 1)), -34 + 12 * (grown - 1), SPLEEN_TOP)
    radii = (25 * grown**0.8, 42 * grown**0.8, length / 2)
    return (center[0], center[1], center[2] - length / 2), radii, rotation(x_deg=-12)


def paint_ascites(scene: Scene, body: Body) -> None:
    """Fluid where the cavity's fat would be: around liver and spleen, in the gutters and the pelvis."""
    lesion = body.study.lesion("ascites")
    if lesion is None:
        return
    look = Look(body.hu("fluid"), organs.FLUID, bit_of("ascites"), over=(organs.CAVITY_FAT, organs.FLUID))
    depth, scale = lesion.size_mm, body.study.patient.scale
    for center, radii, turn in [*liver_blobs(body), spleen_blob(body)]:
        scene.ellipsoid(center, [r + depth for r in radii], look, turn=turn)
    for side in (1, -1):
        scene.tube(
            [body.at(112 * side, -22, 20), body.at(112 * side, -18, -80), body.at(70 * side, -20, -150)],
            10 + depth,
            look,
        )
    scene.ellipsoid(body.at(0, -10, -170), ((50 + depth) * scale, (35 + depth) * scale, (24 + depth) * scale), look)
    if lesion.severity == 2:
        scene.ellipsoid(body.at(0, 30, -60), (128 * scale, 58 * scale, 110 * scale), look)


def paint_liver(scene: Scene, body: Body) -> None:
    """Liver with vessels, steatosis, ducts and metastases."""
    rng = body.study.stream("liver")
    value = body.hu("liver") + 5 * float(np.clip(rng.standard_normal(), -1.5, 1.5))
    lesion = body.study.lesion("hepatic_steatosis")
    if lesion is not None:
        value -= lesion.effect * (18, 32, 50)[lesion.severity]
    look = Look(value, organs.LIVER, texture=5, wavelength_mm=9)
    for center, radii, turn in liver_blobs(body):
        scene.ellipsoid(center, radii, look, turn=turn, deform=0.05, phases=(0.4, 1.3, 2.2))
    _paint_liver_vessels(scene, body)
    _paint_ducts(scene, body)
    _paint_metastases(scene, body)


def _paint_liver_vessels(scene: Scene, body: Body) -> None:
    look = Look(body.hu("vein") - 5, over=(organs.LIVER,))
    top = body.at(18, -26, 92)
    for x, y, z in ((98, -20, 62), (62, 34, 58), (-30, 40, 70)):
        scene.capsule(body.at(x, y, z), top, (2.0, 5.0), look)
    hilum = body.at(40, 0, 40)
    for x, y, z in ((96, -34, 40), (88, 24, 20), (-18, 44, 56)):
        scene.capsule(hilum, body.at(x, y, z), (5.5, 2.0), look)


def _paint_ducts(scene: Scene, body: Body) -> None:
    """The common duct down to the pancreatic head, and branches in the liver when it is dilated."""
    lesion = body.study.lesion("biliary_ductal_dilation")
    width = 5.0 if lesion is None else lesion.size_mm
    bit = -1 if lesion is None else bit_of("biliary_ductal_dilation")
    bile = Look(body.hu("bile"), organs.DUCT, bit)
    course = [body.at(42, 6, 40), body.at(34, 4, 22), body.at(28, -8, -12)]
    scene.tube(course, width / 2, bile)
    if lesion is None:
        return
    rng = body.study.study_stream("ducts")
    branch = Look(body.hu("bile"), finding=bit, over=(organs.LIVER,))
    for _ in range(7 + 2 * lesion.severity):
        x, y, z = (
            rng.uniform((50, -40, 10), (112, 50, 80))
            if rng.random() < 0.7
            else rng.uniform((-40, 28, 50), (10, 52, 80))
        )
        scene.capsule(course[0], body.at(x, y, z), (width * 0.42, width * 0.16), branch)


def _paint_metastases(scene: Scene, body: Body) -> None:
    lesion = body.study.lesion("metastatic_disease")
    if lesion is None:
        return
    rng = body.study.stream("metastases")
    normal = body.hu("liver")
    contrast = {"unenhanced": -20, "arterial": -25, "venous": -55}[body.study.phase]
    look = Look(
        normal + lesion.effect * contrast, finding=bit_of("metastatic_disease"), over=(organs.LIVER,), texture=8
    )
    blobs = liver_blobs(body)
    for k in range(lesion.count + 3):
        center, radii, turn = blobs[0 if rng.random() < 0.72 else 1]
        direction = rng.standard_normal(3)
        inside = direction / np.linalg.norm(direction) * rng.uniform(0.15, 0.72)
        point = np.array(center) + turn @ (inside * np.array(radii))
        radius = lesion.size_mm / 2 * (1.0 if k == 0 else rng.uniform(0.5, 1.0))
        scene.ellipsoid(point, radius * rng.uniform(0.85, 1.1, 3), look, deform=0.08, phases=rng.uniform(0, 6, 3))


def paint_gallbladder(scene: Scene, body: Body) -> None:
    """Gallbladder with stones, or the clips where it was."""
    x, y, z = body.at(*GALLBLADDER)
    rng = body.study.stream("gallbladder")
    absent = body.study.lesion("surgically_absent_gallbladder")
    if absent is not None and absent.effect > 0:
        bit = bit_of("surgically_absent_gallbladder")
        scene.ellipsoid((x, y, z), (10, 9, 14), Look(body.hu("fat") + 25, organs.CAVITY_FAT, bit))
        for _ in range(3 + absent.severity):
            point = np.array((x - 6, y - 8, z + 8)) + rng.uniform(-8, 8, 3)
            scene.ellipsoid(
                point,
                (1.2, 1.2, 2.6 + absent.severity),
                Look(2600, finding=bit),
                turn=rotation(x_deg=rng.uniform(0, 90)),
            )
        return
    turn = rotation(x_deg=22)
    radii = np.array((15.0, 18.0, 31.0)) * body.study.patient.scale * (1 + body.jitter(1, 0.06))
    scene.ellipsoid((x, y, z), radii + 2, Look(body.hu("bowel"), organs.GALLBLADDER), turn=turn)
    scene.ellipsoid((x, y, z), radii, Look(body.hu("bile"), organs.GALLBLADDER), turn=turn)
    _paint_stones(scene, body, (x, y, z), radii, rng)


def _paint_stones(scene: Scene, body: Body, center, radii, rng) -> None:
    """Stones lie in the dependent (posterior) wall; the first has the size that is reported."""
    lesion = body.study.lesion("gallstones")
    if lesion is None:
        return
    look = Look(
        rng.uniform(170, 380), finding=bit_of("gallstones"), over=(organs.GALLBLADDER,), texture=40, wavelength_mm=4
    )
    for k in range(lesion.count + 1):
        radius = lesion.size_mm / 2 * (1.0 if k == 0 else rng.uniform(0.5, 0.95))
        along = rng.uniform(-0.55, 0.55)
        point = (
            center[0] + rng.uniform(-4, 4),
            center[1] - max(0.0, radii[1] - radius - 2) * 0.8,
            center[2] + along * radii[2],
        )
        scene.ellipsoid(point, (radius, radius, radius), look)


def paint_spleen(scene: Scene, body: Body) -> None:
    """Spleen."""
    center, radii, turn = spleen_blob(body)
    rng = body.study.stream("spleen")
    value = body.hu("spleen") + 5 * float(np.clip(rng.standard_normal(), -1.5, 1.5))
    scene.ellipsoid(center, radii, Look(value, organs.SPLEEN, texture=5), turn=turn, deform=0.06)


def paint_pancreas(scene: Scene, body: Body) -> None:
    """Pancreas from head to tail, with its duct; atrophy thins it, fills it with fat and widens the duct."""
    lesion = body.study.lesion("pancreatic_atrophy")
    thickness = (20.0 if lesion is None else lesion.size_mm) + (body.jitter(2, 1.2) if lesion is None else 0)
    value, texture = body.hu("pancreas"), 14.0
    if lesion is not None:
        value -= lesion.effect * (25, 40, 60)[lesion.severity]
        texture = 30.0
    bit = -1 if lesion is None else bit_of("pancreatic_atrophy")
    points = [body.at(28, -4, -14), body.at(24, 4, 6), body.at(4, 16, 12), body.at(-30, 8, 22), body.at(-74, -22, 42)]
    widths = np.array((13.0, 13.0, 9.0, 10.0, 9.0)) * thickness / 20
    scene.tube(points, list(widths), Look(value, organs.PANCREAS, bit, texture=texture, wavelength_mm=4))
    duct = 1.0 if lesion is None else 1.5 + 0.5 * lesion.severity
    scene.tube(points[1:], duct, Look(12, organs.PANCREAS, bit))


def paint_adrenals(scene: Scene, body: Body) -> None:
    """Both adrenal glands, and the nodule that may sit in the left one."""
    look = Look(body.hu("adrenal"), organs.ADRENAL)
    for side, x, z in ((1, 34, 56), (-1, -40, 54)):
        apex = body.at(x, -30, z)
        for dx, dy in ((7, -20), (-7, -20), (0, 6)):
            scene.capsule(apex, body.at(x + side * dx, -30 + dy, z - 14), 2.6, look)
    size = body.study.incidentals.get("adrenal_nodule")
    if size is not None:
        half = size / 2
        scene.ellipsoid(
            body.at(-44, -34, 50),
            (half, half, half),
            Look(8 if body.study.phase == "unenhanced" else 40, organs.ADRENAL),
        )


def paint_stomach(scene: Scene, body: Body) -> None:
    """Stomach with wall, fluid and a gas bubble on top."""
    rng = body.study.study_stream("stomach")
    fill = rng.uniform(0.75, 1.05)
    center, radii = body.at(-62, 30, 52), np.array((36.0, 36.0, 44.0)) * fill * body.study.patient.scale
    turn = rotation(y_deg=-18)
    scene.ellipsoid(center, radii + 4, Look(body.hu("bowel"), organs.STOMACH), turn=turn, deform=0.05)
    scene.ellipsoid(center, radii, Look(18, organs.STOMACH, texture=25, wavelength_mm=8), turn=turn, deform=0.05)
    level = center[1] + rng.uniform(0.1, 0.7) * radii[1]
    scene.ellipsoid(center, radii, Look(body.hu("gas"), organs.STOMACH), turn=turn, deform=0.05, clip=(0, 1, 0, level))
