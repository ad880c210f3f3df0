"""Lung bases, pleura and heart, with effusion, atelectasis, heart size and calcifications."""

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.body import Body
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.shape import Look, Scene, rotation

LUNG_CENTER = (74.0, -6.0, 196.0)
LUNG_RADII = (62.0, 84.0, 132.0)
HEART_CENTER = (-24.0, 22.0, 147.0)
EFFUSION_BASE_Z = 108.0


def paint_lungs(scene: Scene, body: Body) -> None:
    """Mediastinum, lungs with a few vessels, pleural effusion and atelectasis."""
    scale = body.study.patient.scale
    scene.column(
        body.at(0, -8, 260),
        (36 * scale, 62 * scale, 150 * scale),
        Look(-20, organs.MEDIASTINUM, texture=50),
        square=0.3,
    )
    for side, name in ((1, "right"), (-1, "left")):
        center = body.at(side * LUNG_CENTER[0], LUNG_CENTER[1], LUNG_CENTER[2])
        radii = tuple(r * scale for r in LUNG_RADII)
        lung = Look(body.hu("lung"), organs.LUNG, texture=35, wavelength_mm=12)
        scene.ellipsoid(center, radii, lung, deform=0.03, phases=(side, 0.5, 1.0))
        _paint_lung_vessels(scene, body, side, name)
        _paint_effusion(scene, body, center, radii, side, name)
        _paint_atelectasis(scene, body, side, name)


def _paint_lung_vessels(scene: Scene, body: Body, side: int, name: str) -> None:
    rng = body.study.stream("lung vessels " + name)
    look = Look(45, over=(organs.LUNG,))
    root = body.at(side * 38, -12, 170)
    for _ in range(9):
        x, y, z = rng.uniform((52, -70, 80), (118, 50, 200))
        scene.capsule(root, body.at(side * x, y, z), (4.0, 0.9), look)


def _paint_effusion(scene: Scene, body: Body, center, radii, side: int, name: str) -> None:
    """Fluid in the dependent part of the pleural space: deepest at the back and at the base."""
    lesion = body.study.lesion("pleural_effusion")
    if lesion is None or not lesion.has(name):
        return
    # The meniscus: a plane that runs forward and down, `size_mm` before the back wall of the lung base.
    base = EFFUSION_BASE_Z * body.study.patient.scale
    back = center[1] - radii[1] * np.sqrt(1 - ((base - center[2]) / radii[2]) ** 2)
    tilt = 0.35
    look = Look(body.hu("fluid"), organs.PLEURA, bit_of("pleural_effusion"), over=(organs.LUNG, organs.PLEURA))
    clip = (0.0, -1.0, -tilt, -(back + lesion.size_mm) - tilt * base)
    scene.ellipsoid(center, [r * 1.01 for r in radii], look, clip=clip)


def _paint_atelectasis(scene: Scene, body: Body, side: int, name: str) -> None:
    """Collapsed lung as plates and a wedge above the diaphragm, enhancing, in front of where fluid gathers."""
    lesion = body.study.lesion("atelectasis")
    if lesion is None or not lesion.has(name):
        return
    rng = body.study.study_stream("atelectasis " + name)
    scale = body.study.patient.scale
    look = Look(body.hu("muscle") + 15, finding=bit_of("atelectasis"), over=(organs.LUNG,), texture=12)
    thickness = lesion.size_mm / 2
    for plate in range(1 + lesion.severity):
        y = rng.uniform(-46, -20) + 22 * plate
        z = rng.uniform(108, 118) + 14 * plate
        turn = rotation(x_deg=rng.uniform(10, 28), y_deg=side * rng.uniform(-12, 4))
        scene.ellipsoid(body.at(side * 74, y, z), (44 * scale, 34 * scale, thickness), look, turn=turn, deform=0.08)


def paint_heart(scene: Scene, body: Body) -> None:
    """Heart with its chambers, fat groove, coronary and valve calcium; its width is the patient's or the finding's."""
    lesion = body.study.lesion("cardiomegaly")
    width = body.study.patient.sizes_mm["heart"] if lesion is None else lesion.size_mm
    grown = width / 118
    center = body.at(HEART_CENTER[0] - 9 * (grown - 1) * 4, HEART_CENTER[1], HEART_CENTER[2])
    radii = (width / 2, 47 * grown**0.8, 50 * grown**0.7)
    turn = rotation(z_deg=-18, y_deg=12)
    rim = tuple(r + 3 for r in radii)
    scene.ellipsoid(center, rim, Look(-85, organs.MEDIASTINUM), turn=turn)
    scene.ellipsoid(center, radii, Look(body.hu("heart") - 25, organs.HEART), turn=turn, deform=0.04)
    blood = Look(body.hu("heart") + 10, organs.HEART)
    x, y, z = center
    scene.ellipsoid((x - 0.28 * radii[0], y - 4, z), [0.5 * r for r in radii], blood, turn=turn)
    scene.ellipsoid((x + 0.42 * radii[0], y + 6, z), [0.47 * r for r in radii], blood, turn=turn)
    _paint_coronary(scene, body, center, radii)
    _paint_valve(scene, body, center)


def _paint_coronary(scene: Scene, body: Body, center, radii) -> None:
    lesion = body.study.lesion("coronary_calcification")
    if lesion is None:
        return
    rng = body.study.stream("coronary")
    look = Look(rng.uniform(520, 850), finding=bit_of("coronary_calcification"))
    for _ in range(lesion.count + 1):
        t = rng.uniform(-0.9, 0.9)
        angle = rng.uniform(0.5, 2.4)
        point = [
            center[0] + radii[0] * np.cos(angle) * 0.95,
            center[1] + radii[1] * np.sin(angle) * 0.95 * np.sqrt(1 - t * t),
            center[2] + radii[2] * 0.8 * t,
        ]
        half = lesion.size_mm / 2
        scene.ellipsoid(point, (half * 0.6, half * 0.6, half), look, turn=rotation(y_deg=rng.uniform(-60, 60)))


def _paint_valve(scene: Scene, body: Body, center) -> None:
    lesion = body.study.lesion("aortic_valve_calcification")
    if lesion is None:
        return
    rng = body.study.stream("valve")
    look = Look(rng.uniform(600, 900), finding=bit_of("aortic_valve_calcification"))
    middle = np.array(center) + np.array((4, 2, 16))
    for _ in range(3):
        point = middle + rng.uniform(-0.35, 0.35, 3) * lesion.size_mm
        scene.ellipsoid(
            point, np.array((0.34, 0.3, 0.2)) * lesion.size_mm, look, turn=rotation(z_deg=rng.uniform(0, 90))
        )


def paint_esophagus(scene: Scene, body: Body) -> None:
    """Esophagus, and the hiatal hernia behind the heart."""
    wall = Look(body.hu("bowel") - 20, organs.STOMACH)
    scene.tube([body.at(-6, -44, 260), body.at(-10, -40, 150), body.at(-22, -22, 92)], 8, wall)
    lesion = body.study.lesion("hiatal_hernia")
    if lesion is None:
        return
    bit = bit_of("hiatal_hernia")
    radius = lesion.size_mm / 2
    center = body.at(-14, -36, 116)
    outer = (radius * 1.05, radius * 0.9, radius)
    scene.ellipsoid(center, outer, Look(body.hu("bowel"), organs.STOMACH, bit), deform=0.05)
    inner = [max(1.0, r - 5) for r in outer]
    scene.ellipsoid(center, inner, Look(22, organs.STOMACH, bit, texture=30, wavelength_mm=6), deform=0.05)
    level = center[1] + 0.15 * radius
    scene.ellipsoid(center, inner, Look(-960, organs.STOMACH, bit), deform=0.05, clip=(0, 1, 0, level))
