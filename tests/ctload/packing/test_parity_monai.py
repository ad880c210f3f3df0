"""The merlin preset against the MONAI chain of the Merlin release, and ct-rate against CT-CLIP's interpolation.

Sizes whose formula gives an exact half (2.5 -> 3 mm with an even number of slices) are left out of the parity:
MONAI computes the size from float corners and rounds half to even, so its result there hangs on the last bit of the
affine. Here the value is rounded to 1e-6 first, and one voxel more or less is then a matter of definition.
"""

import numpy as np
import pytest

from ctload.packing.resample import prepare, prepare_exact
from ctload.readers import read_source
from ctload.readers.volume import Volume
from ctload.storage.preset import Preset
from tests.ctload.nifti_files import write_nifti
from tests.shared_data import ct

# In [0, 1] over 2000 HU: before rounding to whole HU, and after (half an HU is 2.5e-4).
BEFORE_ROUNDING, AFTER_ROUNDING = 1e-5, 2.6e-4

pytestmark = pytest.mark.filterwarnings(
    # MONAI registers a GPU decoder when its reader is made and warns that there is none; not what is tested here.
    "ignore:NvImgCodecPydicomReader:UserWarning",
)


def windowed(hu):
    return np.clip((hu.astype(np.float64) + 1000) / 2000, 0, 1)


def merlin_chain(path):
    """(D, H, W) in [0, 1] and the zyx affine, by MONAI's transforms with Merlin's parameters."""
    transforms = pytest.importorskip("monai.transforms", reason="needs monai (the test extra)")
    chain = transforms.Compose(
        [
            transforms.LoadImage(reader="NibabelReader", image_only=True),
            transforms.EnsureChannelFirst(),
            transforms.Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            transforms.Spacing(pixdim=(1.5, 1.5, 3.0), mode="bilinear"),
            transforms.ScaleIntensityRange(a_min=-1000, a_max=1000, b_min=0.0, b_max=1.0, clip=True),
            transforms.SpatialPad(spatial_size=(224, 224, 160)),
            transforms.CenterSpatialCrop(roi_size=(224, 224, 160)),
        ]
    )
    image = chain(str(path))
    return image.numpy()[0].transpose(2, 1, 0), np.asarray(image.affine)[:, [2, 1, 0, 3]]


def assert_equals_the_chain(path):
    expected, affine = merlin_chain(path)
    volume, merlin = read_source(path), Preset.from_name("merlin")
    stored = prepare(volume, merlin)
    assert np.abs(windowed(prepare_exact(volume, merlin)) - expected).max() <= BEFORE_ROUNDING
    assert np.abs(windowed(stored.arrays["0"]) - expected).max() <= AFTER_ROUNDING
    assert np.allclose(stored.affine, affine, atol=1e-6)
    assert expected.std() > 0.05  # there is something to compare


@pytest.mark.parametrize(
    "name", ["totalseg_example_torso/example_ct.nii.gz", "crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz"]
)
def test_merlin_equals_the_monai_chain_on_real_studies(name):
    assert_equals_the_chain(ct(name))


SYNTHETIC = {
    # (x, y, z) shape and spacing in mm, axis codes: smaller and larger than the grid, finer and coarser, all orders.
    "chest": ((260, 250, 60), (0.703125, 0.703125, 2.5), "LPS"),
    "thick": ((130, 140, 30), (1.9, 1.9, 5.0), "RAS"),
    "coronal": ((90, 100, 200), (2.1, 3.3, 1.7), "LIP"),
    "long": ((120, 120, 330), (0.9, 0.9, 2.0), "RPI"),
    "unchanged": ((100, 90, 50), (1.5, 1.5, 3.0), "RAS"),
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_merlin_equals_the_monai_chain_on_every_kind_of_grid(tmp_path, name):
    shape, spacing, codes = SYNTHETIC[name]
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        world, sign = directions[code]
        affine[world, axis] = sign * spacing[axis]
    affine[:3, 3] = (31.5, -120.25, 400.0)
    noise = np.random.default_rng(5).integers(-1100, 1500, shape).astype(np.int16)
    assert_equals_the_chain(write_nifti(tmp_path / "a.nii", noise, sform=affine))


def test_merlin_equals_the_monai_chain_on_an_oblique_volume(tmp_path):
    noise = np.random.default_rng(6).integers(-1100, 1500, (80, 90, 40)).astype(np.int16)
    assert_equals_the_chain(write_nifti(tmp_path / "a.nii", noise))


def test_clipping_before_interpolation_would_break_the_parity():
    """The order of clip and interpolation is not a matter of taste: on padded CT it moves voxels by over 0.1."""
    path = ct("crlm_ct_1004_abdomen/nifti_dcm2niix/2_CT_CH_AB_PEL.nii.gz")
    expected, _ = merlin_chain(path)
    volume = read_source(path)
    clipped = Volume(volume.voxels.clip(-1024, 3071), volume.affine, "HU", volume.affine)
    wrong = windowed(prepare_exact(clipped, Preset.from_name("merlin")))
    assert np.abs(wrong - expected).max() > 0.1


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((70, 200, 180), (2.5, 0.8, 0.8)), ((300, 90, 100), (1.0, 4.13, 4.7))]
)
def test_ct_rate_equals_the_interpolation_of_ct_clip(shape, spacing_mm):
    """F.interpolate(trilinear, align_corners=False) to floor(n * old / new), centre crop or pad to 240x480x480.

    Sizes that come out whole are left out: there CT-CLIP's floor hangs on the last bit of the division.
    """
    torch = pytest.importorskip("torch", reason="needs torch (the train extra)")
    voxels = np.random.default_rng(8).integers(-1024, 2000, shape).astype(np.int16)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1
    exact = prepare_exact(Volume(voxels, affine, "HU", affine), Preset.from_name("ct-rate"))
    size = [int(n * old / new) for n, old, new in zip(shape, spacing_mm, (1.5, 0.75, 0.75), strict=True)]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(voxels.astype(np.float64))[None, None], size=size, mode="trilinear", align_corners=False
    )[0, 0].numpy()
    assert exact.shape == (240, 480, 480)
    before = [max(want - n, 0) // 2 for n, want in zip(size, exact.shape, strict=True)]
    start = [max((n - want) // 2, 0) for n, want in zip(size, exact.shape, strict=True)]
    kept = [min(n, want) for n, want in zip(size, exact.shape, strict=True)]
    found = exact[tuple(slice(b, b + k) for b, k in zip(before, kept, strict=True))]
    wanted = expected[tuple(slice(s, s + k) for s, k in zip(start, kept, strict=True))]
    assert np.abs(found - wanted).max() <= 2e-2  # HU: 1e-5 in [0, 1]
