"""What `ctload view` draws: sides, spacing, window and labels, held against a volume whose corners are marked."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from ctload.cli import main
from ctload.planning.window import HuWindow
from ctload.storage.prepared import Prepared
from ctload.voxels.planes import PLANES, axis_letters, montage, plane_pixels
from ctload.voxels.png import png_bytes
from tests.ctload.prepared import make_prepared, write_store

WINDOW = HuWindow(0, 100)
RAS = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])  # (z, y, x) -> RAS+


def pixels_of(content: bytes) -> np.ndarray:
    """(H, W, 3) of a PNG, read back by the letter of its specification."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        assert struct.unpack(">I", content[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        parts[kind], at = body, at + 12 + size
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_a_png_is_read_back_as_it_was():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(png_bytes(pixels)), pixels)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_sides_are_where_a_radiologist_expects_them_whatever_way_the_array_runs(plane, signs):
    affine = RAS * np.array([*signs, 1])
    # One quarter is white: head, front and the patient's right, as far as the plane shows them.
    voxels = np.zeros((30, 30))
    half = [slice(15, None) if signs[axis] > 0 else slice(0, 15) for axis in (plane.down, plane.right)]
    voxels[half[0], half[1]] = 100
    drawn = plane_pixels(plane, voxels, affine, window=WINDOW, mm_per_pixel=0.5)
    height, width, _ = drawn.shape
    quarters = [
        drawn[rows, columns].mean()
        for rows in (slice(30, height // 2 - 12), slice(height // 2 + 12, height - 30))
        for columns in (slice(30, width // 2 - 12), slice(width // 2 + 12, width - 30))
    ]
    assert quarters[0] == 255
    assert quarters[1:] == [0, 0, 0]


def test_letters_name_the_ends_of_each_axis_of_an_oblique_volume_too():
    assert axis_letters(RAS) == [("I", "S"), ("P", "A"), ("L", "R")]
    turned = RAS.copy()
    turned[:3, 2] = (-1.9, 0.6, 0.1)
    assert axis_letters(turned)[2] == ("R", "L")


def test_pixels_are_square_in_mm_and_the_window_maps_to_black_and_white():
    axial, coronal, _ = PLANES
    grey = np.full((10, 20), 50.0)
    assert plane_pixels(axial, grey, RAS, window=WINDOW, mm_per_pixel=1).shape == (20, 40, 3)
    assert plane_pixels(coronal, grey, RAS, window=WINDOW, mm_per_pixel=1).shape == (40, 40, 3)
    for value, seen in ((-50, 0), (50, 128), (200, 255)):
        drawn = plane_pixels(axial, np.full((4, 4), value), RAS, window=WINDOW, mm_per_pixel=2)
        assert set(drawn.ravel().tolist()) == {seen}


def test_labels_colour_their_voxels_alone():
    labels = np.zeros((40, 40), np.uint8)
    labels[:20] = 1
    drawn = plane_pixels(PLANES[0], np.full((40, 40), 50), RAS, window=WINDOW, mm_per_pixel=2, labels=labels)
    is_grey = (drawn == drawn[:, :, :1]).all(axis=2)
    assert is_grey[:20, 20:].all()  # anterior half, at the top
    assert not is_grey[22:, 20:30].all()
    assert montage([drawn, drawn[:10]]).shape == (40, 88, 3)


def marked() -> Prepared:
    return make_prepared(3, shape=(20, 30, 40), labels=("organs",))


def view(folder: Path, *words: str) -> int:
    return main(["view", str(folder / "store.zarr"), "a", "--out", str(folder / "a.png"), *words])


def test_view_writes_three_planes_and_says_what_they_are(tmp_path, capsys):
    write_store(tmp_path / "store.zarr", {"a": marked()})
    assert view(tmp_path, "--at", "1", "2", "3", "--label", "organs", "--size", "64") == 0
    told = capsys.readouterr().out
    assert "20 x 30 x 40 voxels of 2.502 x 0.8246 x 0.7348 mm" in told
    assert "coronal   y = 2" in told
    assert pixels_of((tmp_path / "a.png").read_bytes()).shape[0] == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--at", "20", "0", "0"], "outside the volume (20, 30, 40)"),
        (["--label", "liver"], "no array 'labels/liver'"),
        (["--window", "5", "5"], "low < high"),
        (["--size", "2"], "at least 16"),
    ],
)
def test_wrong_words_are_named(tmp_path, capsys, words, message):
    write_store(tmp_path / "store.zarr", {"a": marked()})
    assert view(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_another_unit_needs_a_window(tmp_path, capsys):
    write_store(tmp_path / "store.zarr", {"a": make_prepared(0, unit="SUV", scale=0.01)})
    assert view(tmp_path) == 2
    assert "--window" in capsys.readouterr().err
    assert view(tmp_path, "--window", "0", "10") == 0
