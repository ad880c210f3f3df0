"""Voxels: loops over voxels in numba, and pictures of them."""
