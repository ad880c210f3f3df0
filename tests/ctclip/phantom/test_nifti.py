"""The NIfTI files are what other readers expect, say that they are synthetic, and repeat to the byte."""

import gzip

import nibabel
import numpy as np
import pytest

from ctclip.phantom.nifti import nifti_bytes, write_nifti
from ctload.geometry import from_xyz_affine

AFFINE = np.array([[0, 0, 1.5, -20], [0, -2.5, 0, 30], [3.0, 0, 0, -100], [0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint32"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nibabel_reads_the_voxels_and_the_affine(tmp_path, dtype, name):
    voxels = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    write_nifti(tmp_path / name, voxels, AFFINE)
    image = nibabel.load(tmp_path / name)
    assert image.get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(np.asarray(image.dataobj).T, voxels)
    assert np.allclose(image.affine, from_xyz_affine(AFFINE))
    assert image.header.get_zooms() == (1.5, 2.5, 3.0)
    assert b"synthetic phantom" in bytes(image.header["descrip"])
    assert int(image.header["sform_code"]) == 1


def test_the_gzip_stream_holds_no_time_and_no_name(tmp_path):
    voxels = np.zeros((4, 4, 4), np.int16)
    for name in ("first.nii.gz", "second.nii.gz"):
        write_nifti(tmp_path / name, voxels, AFFINE)
    content = [(tmp_path / name).read_bytes() for name in ("first.nii.gz", "second.nii.gz")]
    assert content[0] == content[1]
    assert content[0][4:8] == b"\0\0\0\0"
    assert gzip.decompress(content[0]) == nifti_bytes(voxels, AFFINE)
