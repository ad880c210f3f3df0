"""The frame of the body: skin, fat, muscle, spine, ribs and pelvis, with the findings that live there.

Patient axes in mm: x to the right, y anterior, z superior; z = 0 is the level of the renal hila (L2), the dome of the
liver is near +112, the symphysis near -215. Lengths are of a mean adult and are scaled by the patient's `scale`.
"""

from dataclasses import dataclass

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.organs import tissue_hu
from ctclip.phantom.shape import Look, Scene, rotation
from ctclip.phantom.study import PhantomStudy

VERTEBRAE = {"T9": 206, "T10": 175, "T11": 144, "T12": 112, "L1": 79, "L2": 45, "L3": 10, "L4": -26, "L5": -62}
SPINE_Y = -70.0
PSOAS = ((36, -64, 50), (44, -58, -20), (62, -38, -110), (84, 8, -200))
MUSCLE_MM = 13.0
HOLE_MM = 15.0  # how far the shells of the body wall reach under the next one


@dataclass(frozen=True)
class Body:
    """Measures of one patient's body, mm.

    Args:
        study: Whose it is.
        half_width: Of the cavity inside the muscle wall.
        half_depth: Of the same.
    """

    study: PhantomStudy
    half_width: float
    half_depth: float

    def at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A point of the mean adult, scaled to this patient."""
        scale = self.study.patient.scale
        return (x * scale, y * scale, z * scale)

    def hu(self, tissue: str) -> float:
        """HU of a tissue in this study's phase."""
        return tissue_hu(tissue, self.study.phase)

    def jitter(self, k: int, mm: float) -> float:
        """A shift that stays with the patient: `mm` is its standard deviation."""
        return self.study.patient.jitter[k] * mm


def make_body(study: PhantomStudy) -> Body:
    """The frame of one patient."""
    scale = study.patient.scale
    visceral = 0.25 * (study.patient.fat_mm - 20)  # thick subcutaneous fat comes with some visceral fat
    return Body(study, 138 * scale + visceral, 92 * scale + visceral)


def paint_frame(scene: Scene, body: Body) -> None:
    """Skin, subcutaneous fat, muscle wall, and the cavity filled with fat."""
    fat = body.study.patient.fat_mm
    wall_x, wall_y = body.half_width + MUSCLE_MM, body.half_depth + MUSCLE_MM
    skin = Look(10, organs.SUBCUTANEOUS)
    under = Look(body.hu("fat"), organs.SUBCUTANEOUS, texture=7, wavelength_mm=14)
    wall = Look(body.hu("muscle"), organs.MUSCLE, texture=8, wavelength_mm=7)
    cavity = Look(body.hu("fat"), organs.CAVITY_FAT, texture=14, wavelength_mm=9)
    middle, long = (0.0, 0.0, 0.0), 420.0
    hole = (wall_x - HOLE_MM, wall_y - HOLE_MM)
    scene.column(middle, (wall_x + fat + 2, wall_y + fat + 2, long), skin, square=0.35, hole=hole)
    scene.column(middle, (wall_x + fat, wall_y + fat, long), under, square=0.35, hole=hole)
    _paint_anasarca(scene, body)
    inner = (body.half_width - HOLE_MM, body.half_depth - HOLE_MM)
    scene.column(middle, (wall_x, wall_y, long), wall, square=0.3, hole=inner)
    scene.column(middle, (body.half_width, body.half_depth, long), cavity, square=0.25)


def _paint_anasarca(scene: Scene, body: Body) -> None:
    lesion = body.study.lesion("anasarca")
    if lesion is None:
        return
    fat = body.study.patient.fat_mm
    wall_x, wall_y = body.half_width + MUSCLE_MM, body.half_depth + MUSCLE_MM
    density = min(1.0, lesion.effect * (0.35, 0.5, 0.7)[lesion.severity])
    strands = Look(
        5, finding=bit_of("anasarca"), over=(organs.SUBCUTANEOUS,), wavelength_mm=9,
        reticular=0.25 + 0.5 * density, opacity=max(density, 1e-3),
    )  # fmt: skip
    scene.column((0, 0, 0), (wall_x + fat, wall_y + fat, 420), strands, square=0.35)


def paint_back(scene: Scene, body: Body) -> None:
    """Muscles beside the spine, pelvis and ribs."""
    muscle = Look(body.hu("muscle"), organs.MUSCLE, texture=10, wavelength_mm=6)
    scale = body.study.patient.scale
    scene.column(body.at(0, -92, 30), (74 * scale, 27 * scale, 400), muscle, square=0.3)
    for side in (1, -1):
        psoas = [body.at(side * x, y, z) for x, y, z in PSOAS]
        scene.tube(psoas, [9, 19, 24, 17], muscle)
        _paint_pelvis(scene, body, side, muscle)
    bone = Look(body.hu("trabecular") + 40, organs.BONE, texture=40, wavelength_mm=5)
    scene.ellipsoid(body.at(0, -82, -120), (50 * scale, 22 * scale, 52 * scale), bone, turn=rotation(x_deg=-20))
    _paint_ribs(scene, body)


def _paint_pelvis(scene: Scene, body: Body, side: int, muscle: Look) -> None:
    scale = body.study.patient.scale
    cortex = Look(body.hu("cortical") - 120, organs.BONE)
    marrow = Look(150, organs.BONE, texture=40, wavelength_mm=6)
    gluteal = rotation(z_deg=30 * side)
    scene.ellipsoid(body.at(108 * side, -62, -140), (42 * scale, 40 * scale, 78 * scale), muscle, turn=gluteal)
    wing = rotation(z_deg=-38 * side, y_deg=14 * side)
    scene.ellipsoid(body.at(92 * side, -22, -108), (11 * scale, 60 * scale, 50 * scale), cortex, turn=wing)
    scene.ellipsoid(body.at(92 * side, -22, -108), (7 * scale, 56 * scale, 46 * scale), marrow, turn=wing)
    scene.ellipsoid(body.at(88 * side, -4, -195), (36 * scale, 34 * scale, 34 * scale), cortex)
    scene.ellipsoid(body.at(90 * side, -4, -195), (30 * scale, 29 * scale, 29 * scale), marrow)


def _paint_ribs(scene: Scene, body: Body) -> None:
    """Ribs 8 to 12 as arcs in the muscle wall that run forward and down."""
    look = Look(body.hu("cortical") - 100, organs.BONE)
    radius_x, radius_y = body.half_width + 6, body.half_depth + 6
    for level, (top, reach) in enumerate(((240, 150), (212, 145), (184, 135), (156, 118), (128, 98), (98, 70))):
        angles = np.deg2rad(np.linspace(12, reach, 9))
        for side in (1, -1):
            points = [
                (
                    side * radius_x * np.sin(t) ** 0.85,
                    -radius_y * np.cos(t),
                    (top - (22 + 3 * level) * t) * body.study.patient.scale,
                )
                for t in angles
            ]
            scene.tube(points, 4.2, look)


def paint_spine(scene: Scene, body: Body) -> None:
    """Vertebrae with cortex and marrow, discs, canal; osteopenia and fracture change them."""
    scale = body.study.patient.scale
    rng = body.study.stream("spine")
    trabecular = body.hu("trabecular") + 14 * float(np.clip(rng.standard_normal(), -1.6, 1.6))
    osteopenia = body.study.lesion("osteopenia")
    bit = -1
    if osteopenia is not None:
        target = (102, 86, 68)[osteopenia.severity]
        trabecular += osteopenia.effect * (target - trabecular)
        bit = bit_of("osteopenia")
    disc = Look(body.hu("disc"), organs.SPINE)
    canal = Look(25, organs.MUSCLE)
    arch = Look(trabecular + 150, organs.SPINE)
    scene.tube([body.at(0, SPINE_Y, 260), body.at(0, SPINE_Y + 4, 30), body.at(0, SPINE_Y - 4, -90)], 16 * scale, disc)
    for z in VERTEBRAE.values():
        scene.ellipsoid(body.at(0, SPINE_Y - 24, z), (26 * scale, 9 * scale, 9 * scale), arch)
        scene.capsule(body.at(0, SPINE_Y - 30, z - 4), body.at(0, SPINE_Y - 48, z - 12), 4.5 * scale, arch)
    scene.tube([body.at(0, SPINE_Y - 22, 260), body.at(0, SPINE_Y - 22, -90)], 8 * scale, canal)
    fracture = body.study.lesion("fracture")
    for name, z in VERTEBRAE.items():
        loss = fracture.size_mm if fracture is not None and fracture.site == name else 0.0
        _paint_vertebra(scene, body, z, trabecular, loss, bit)


def _paint_vertebra(scene: Scene, body: Body, z: float, trabecular: float, loss_mm: float, bit: int) -> None:
    """One vertebral body; a fracture lowers its upper end plate and leaves a dense band under it."""
    scale = body.study.patient.scale
    x, y, middle = body.at(0, SPINE_Y, z)
    half = 14 * scale
    top = middle + half - loss_mm
    center = (x, y, (top + middle - half) / 2)
    reach = (top - middle + half) / 2
    is_broken = loss_mm > 0
    if is_broken:
        bit = bit_of("fracture")
    weaker = 0.55 + 0.45 * min(1.0, trabecular / 170)  # osteopenia thins the cortex as well
    cortex = Look(body.hu("cortical") * 0.75 * weaker, organs.SPINE, bit_of("fracture") if is_broken else -1)
    marrow = Look(trabecular, organs.SPINE, bit, texture=16, wavelength_mm=5)
    scene.column(center, (23 * scale, 17.5 * scale, reach), cortex, square=0.3)
    scene.column(center, (21 * scale, 15.5 * scale, reach - 1.6), marrow, square=0.3)
    if is_broken:
        band = Look(430, organs.SPINE, bit)
        scene.column((x, y, top - 4.0), (20 * scale, 14.5 * scale, 2.4), band, square=0.3)
