"""Aorta and its branches, vena cava and portal vein, lymph nodes; calcium, aneurysm, thrombus, enlarged nodes."""

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.body import Body
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.shape import Look, Scene

AORTA = ((-16.0, -46.0, 260.0), (-14.0, -42.0, 110.0), (-11.0, -37.0, 20.0), (-4.0, -35.0, -62.0))
ANEURYSM = (-9.0, -33.0, -18.0)


def paint_arteries(scene: Scene, body: Body) -> None:
    """Aorta, iliac, renal and mesenteric arteries, aneurysm and plaques."""
    radius = body.study.patient.sizes_mm["aorta"] / 2
    wall, blood = Look(45, organs.AORTA), Look(body.hu("blood"), organs.AORTA)
    points = [body.at(*p) for p in AORTA]
    scene.tube(points, radius + 1.2, wall)
    artery = Look(body.hu("blood"), organs.ARTERY)
    for side in (1, -1):
        scene.tube([points[-1], body.at(40 * side, -36, -115), body.at(66 * side, 16, -195)], radius * 0.5, artery)
        scene.capsule(body.at(-10, -38, 8), body.at(46 * side, -46, 2), 2.6, artery)
    scene.tube([body.at(-10, -36, 26), body.at(-6, 2, 10), body.at(6, 14, -50)], [3.5, 3.2, 2.0], artery)
    _paint_aneurysm(scene, body)
    scene.tube(points, radius, blood)
    _paint_plaques(scene, body, points, radius)


def _paint_aneurysm(scene: Scene, body: Body) -> None:
    """A spindle below the renal arteries: mural thrombus outside, the aorta's lumen kept within."""
    lesion = body.study.lesion("abdominal_aortic_aneurysm")
    if lesion is None:
        return
    bit = bit_of("abdominal_aortic_aneurysm")
    radius = lesion.size_mm / 2
    center = body.at(*ANEURYSM)
    long = 1.35 * radius + 14
    scene.ellipsoid(center, (radius, radius, long), Look(48, organs.AORTA, bit))
    scene.ellipsoid(center, (radius * 0.78, radius * 0.78, long * 0.86), Look(body.hu("blood"), organs.AORTA, bit))


def _paint_plaques(scene: Scene, body: Body, points, radius: float) -> None:
    lesion = body.study.lesion("atherosclerosis")
    if lesion is None:
        return
    rng = body.study.stream("plaques")
    aneurysm = body.study.lesion("abdominal_aortic_aneurysm")
    bit = bit_of("atherosclerosis")
    bottom, top = points[-1][2], 110 * body.study.patient.scale
    for _ in range(5 + 5 * lesion.severity + lesion.count):
        z = rng.uniform(bottom, top)
        x = np.interp(-z, [-p[2] for p in points], [p[0] for p in points])
        y = np.interp(-z, [-p[2] for p in points], [p[1] for p in points])
        reach = radius
        if aneurysm is not None:
            center = body.at(*ANEURYSM)
            long = 1.35 * aneurysm.size_mm / 2 + 14
            reach = max(radius, aneurysm.size_mm / 2 * np.sqrt(max(0.0, 1 - ((z - center[2]) / long) ** 2)))
        angle = rng.uniform(0, 2 * np.pi)
        length = lesion.size_mm * rng.uniform(0.6, 1.0) / 2
        look = Look(rng.uniform(450, 900), finding=bit)
        spot = (x + reach * np.cos(angle), y + reach * np.sin(angle), z)
        scene.ellipsoid(spot, (length * 0.7, length * 0.7, length), look)


def paint_veins(scene: Scene, body: Body) -> None:
    """Inferior vena cava, portal and splenic vein, and a thrombus in one of them."""
    vein = Look(body.hu("vein"), organs.VEIN)
    cava = [body.at(20, -30, 140), body.at(22, -36, 60), body.at(20, -38, -62)]
    scene.tube(cava, 10.5, vein)
    for side in (1, -1):
        scene.tube([cava[-1], body.at(44 * side, -42, -118), body.at(70 * side, 6, -195)], 5.5, vein)
    portal = [body.at(6, -2, 8), body.at(40, 0, 40)]
    scene.capsule(portal[0], portal[1], 6.5, vein)
    scene.tube([portal[0], body.at(-34, -6, 24), body.at(-80, -26, 44)], 4.5, vein)
    scene.tube([portal[0], body.at(10, 10, -60)], [5.0, 3.0], vein)
    lesion = body.study.lesion("thrombosis")
    if lesion is None:
        return
    is_portal = lesion.site == "portal vein"
    begin, end = (np.array(p) for p in (portal if is_portal else (body.at(22, -38, 42), body.at(21, -38, -20))))
    value = 72 if body.study.phase == "unenhanced" else 35
    clot = Look(value, organs.VEIN, bit_of("thrombosis"))
    middle, direction = (begin + end) / 2, (end - begin) / np.linalg.norm(end - begin)
    half = direction * max(0.5, lesion.size_mm / 2 - 4)
    width = (6.5 if is_portal else 10.5) * min(1.0, lesion.effect) * (1.15 + 0.1 * lesion.severity)
    scene.capsule(middle - half, middle + half, width, clot)


def paint_nodes(scene: Scene, body: Body) -> None:
    """A few normal nodes, and the enlarged ones."""
    rng = body.study.stream("nodes")
    small = Look(body.hu("node"), organs.NODE)
    for _ in range(4):
        x, y, z = rng.uniform((-34, -40, -60), (34, -22, 10))
        scene.ellipsoid(body.at(x, y, z), (2.2, 2.2, 3.5), small)
    lesion = body.study.lesion("lymphadenopathy")
    if lesion is None:
        return
    look = Look(body.hu("node"), organs.NODE, bit_of("lymphadenopathy"), texture=8)
    low, high = (
        ((-38, -42, -62), (34, -20, 30)) if lesion.site == "retroperitoneal" else ((-30, 12, -80), (30, 50, -10))
    )
    for k in range(3 + lesion.count):
        half = lesion.size_mm / 2 * (1.0 if k == 0 else rng.uniform(0.7, 1.0))
        x, y, z = rng.uniform(low, high)
        scene.ellipsoid(body.at(x, y, z), (half, half, half * 1.35), look, deform=0.06)
