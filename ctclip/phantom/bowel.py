"""Small bowel, colon and appendix, free air; obstruction, edema of the wall and appendicitis."""

import numpy as np

from ctclip.phantom import organs
from ctclip.phantom.body import Body
from ctclip.phantom.catalogue import bit_of
from ctclip.phantom.shape import Look, Scene

COLON = {
    "ascending colon": ((94, -22, -112), (102, -26, -60), (98, -18, -10)),
    "transverse colon": ((98, -18, -10), (62, 48, -24), (0, 64, -38), (-62, 50, -14), (-100, -14, 34)),
    "descending colon": ((-100, -14, 34), (-110, -34, -30), (-104, -28, -105)),
    "sigmoid": ((-104, -28, -105), (-58, 2, -142), (-10, -34, -132), (0, -50, -165), (0, -50, -225)),
}  # fmt: skip
BOWEL_CENTER = (0.0, 24.0, -68.0)
BOWEL_RADII = (86.0, 44.0, 62.0)


def paint_bowel(scene: Scene, body: Body) -> None:
    """Small bowel loops, then the colon around them, then the appendix."""
    _paint_small_bowel(scene, body)
    for name, points in COLON.items():
        _paint_colon_segment(scene, body, name, points)
    _paint_appendix(scene, body)


def _walk(rng: np.random.Generator, num_points: int, step: float) -> np.ndarray:
    """(num_points, 3) points of a smooth walk that stays inside the unit ball."""
    points, heading = np.zeros((num_points, 3)), rng.standard_normal(3)
    place = rng.uniform(-0.5, 0.5, 3)
    for k in range(num_points):
        heading = (
            heading / np.linalg.norm(heading)
            + 0.7 * rng.standard_normal(3)
            - 0.9 * place * (np.linalg.norm(place) > 0.7)
        )
        place = place + step * heading / np.linalg.norm(heading)
        place = place / max(1.0, float(np.linalg.norm(place)))
        points[k] = place
    return points


def _paint_small_bowel(scene: Scene, body: Body) -> None:
    """Loops of collapsed or part-filled bowel; obstructed loops are wide, full of fluid, with gas on top."""
    lesion = body.study.lesion("bowel_obstruction")
    rng = body.study.study_stream("small bowel")
    scale = body.study.patient.scale
    points = _walk(rng, 64, 0.42) * np.array(BOWEL_RADII) * scale + body.at(*BOWEL_CENTER)
    gas = rng.random(64) < 0.1
    content = rng.uniform(15, 60, 64)
    wall = Look(body.hu("bowel"), organs.SMALL_BOWEL)
    for k in range(63):
        scene.capsule(points[k], points[k + 1], 9.5, wall)
        inside = Look(-700 if gas[k] else content[k], organs.SMALL_BOWEL)
        scene.capsule(points[k], points[k + 1], 6.0, inside)
    if lesion is not None:
        _paint_obstruction(scene, body, lesion.size_mm, 9 + 2 * lesion.severity)


def _paint_obstruction(scene: Scene, body: Body, width_mm: float, num_loops: int) -> None:
    rng = body.study.study_stream("obstruction")
    scale = body.study.patient.scale
    bit = bit_of("bowel_obstruction")
    wall = Look(body.hu("bowel"), organs.SMALL_BOWEL, bit)
    fluid = Look(14, organs.SMALL_BOWEL, bit)
    gas = Look(body.hu("gas"), organs.SMALL_BOWEL, bit)
    radius = width_mm / 2
    for k in range(num_loops):
        row, column = divmod(k, 3)
        middle = np.array(body.at(-62 + 62 * column, 20 + rng.uniform(-12, 26), -20 - 32 * row + rng.uniform(-6, 6)))
        reach = np.array((rng.uniform(22, 36), rng.uniform(-12, 12), rng.uniform(-6, 6))) * scale
        begin, end = middle - reach, middle + reach
        scene.capsule(begin, end, radius + 1.5, wall)
        scene.capsule(begin, end, radius, fluid)
        level = middle[1] + rng.uniform(0.1, 0.5) * radius
        scene.capsule(begin, end, radius, gas, clip=(0, 1, 0, level))


def _paint_colon_segment(scene: Scene, body: Body, name: str, points) -> None:
    """A segment as haustra: a tube whose radius swells and shrinks, with stool and gas inside."""
    lesion = body.study.lesion("submucosal_edema")
    rng = body.study.study_stream(name)
    corners = np.array([body.at(*p) for p in points])
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))]
    stations = np.arange(0, lengths[-1] + 12, 13.0)
    course = np.stack([np.interp(stations, lengths, corners[:, axis]) for axis in range(3)], axis=1)
    swell = 17 + 3.5 * np.sin(np.arange(len(course)) * 2.2 + rng.uniform(0, 6)) + rng.uniform(-2, 2)
    if name == "sigmoid":
        swell -= 4
    if lesion is not None and lesion.site == name:
        _paint_edema(scene, body, course, swell, lesion.size_mm)
        return
    wall = Look(body.hu("bowel"), organs.COLON)
    scene.tube(course, list(swell + 2.0), wall)
    is_gassy = rng.random() < 0.35
    stool = Look(-620 if is_gassy else 20, organs.COLON, texture=300 if is_gassy else 120, wavelength_mm=7)
    scene.tube(course, list(swell), stool)


def _paint_edema(scene: Scene, body: Body, course: np.ndarray, swell: np.ndarray, thickness: float) -> None:
    """Target sign: enhancing muscularis, a thick layer at water density, enhancing mucosa, a narrow lumen."""
    bit = bit_of("submucosal_edema")
    outer = swell + 0.5 * thickness
    layers = ((1.5, body.hu("bowel"), -1), (0.0, 14.0, bit))
    for extra, value, finding in layers:
        scene.tube(course, list(outer + extra), Look(value, organs.COLON, finding))
    inner = np.maximum(outer - thickness, 4)
    scene.tube(course, list(inner), Look(body.hu("bowel") + 15, organs.COLON))
    scene.tube(course, list(np.maximum(inner - 2.5, 2)), Look(20, organs.COLON))


def _paint_appendix(scene: Scene, body: Body) -> None:
    lesion = body.study.lesion("appendicitis")
    rng = body.study.stream("appendix")
    drop = rng.uniform(-16, 4)
    course = [body.at(92, -20, -112), body.at(78, -8, -124 + drop * 0.4), body.at(58, 4, -128 + drop)]
    if lesion is None:
        scene.tube(course, 3.0, Look(body.hu("bowel") - 10, organs.APPENDIX))
        return
    bit = bit_of("appendicitis")
    radius = lesion.size_mm / 2
    haze = Look(
        -15,
        finding=bit,
        over=(organs.CAVITY_FAT,),
        reticular=0.9,
        wavelength_mm=7,
        opacity=min(1.0, 0.65 * lesion.effect + 1e-3),
    )
    spread = 20 + 5 * lesion.severity
    scene.ellipsoid(course[1], (spread * 1.3, spread, spread), haze)
    scene.tube(course, radius, Look(body.hu("bowel") + 15, organs.APPENDIX, bit))
    scene.tube(course, max(1.0, radius - 2.5), Look(14, organs.APPENDIX, bit))
    if lesion.severity > 0:
        scene.ellipsoid(course[1], (3.2, 3.2, 4), Look(420, organs.APPENDIX, bit))


def paint_free_air(scene: Scene, body: Body) -> None:
    """Gas under the anterior wall (the patient lies on the back), over whatever is there."""
    lesion = body.study.lesion("free_air")
    if lesion is None:
        return
    scale = body.study.patient.scale
    look = Look(body.hu("gas"), organs.GAS, bit_of("free_air"), over=organs.INSIDE_CAVITY)
    rng = body.study.study_stream("free air")
    x = rng.uniform(-10, 35)
    front = body.half_depth - 1
    # What lies before the level is gas: a cap of the cavity, `size_mm` deep.
    clip = (0.0, 1.0, 0.0, front - lesion.size_mm)
    scene.ellipsoid(
        (x * scale, 0.0, 42 * scale), (75 * scale + lesion.size_mm, front, 72 * scale + lesion.size_mm), look, clip=clip
    )
