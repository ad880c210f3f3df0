"""Preset: what a store contains, as numbers. Its hash stands in every store, so that two stores with equal hashes
hold voxels made by the same rule. It knows nothing of files; `ctload.packing.resample` carries it out.
"""

import json
import re
from dataclasses import asdict, dataclass

import xxhash

from ctload.errors import PresetMismatchError
from ctload.geometry import Triple

# Raise this when the resampler or the rounding changes what a preset gives: all hashes change with it.
RULES_VERSION = 1

ALIGNMENTS = ("first_voxel", "edges", "centre")


@dataclass(frozen=True)
class Preset:
    """One rule from a canonical (RAS+) volume to the stored one. All triples are (z, y, x).

    Attributes:
        name: How the command line calls it.
        spacing_mm: Spacing of the stored grid in mm; None keeps the source's voxels.
        grid: Shape (D, H, W) in voxels after centre crop and padding; None keeps the extent.
        clip_hu: Range in HU that stored values are clipped to, after interpolation; None clips nothing. Volumes in
            another unit are never clipped.
        antialias: Where the grid gets coarser, a triangle filter as wide as the new voxel takes the place of the
            two nearest voxels.
        align: Where the new grid lies on the old one. "first_voxel": the first voxel centres coincide, the size is
            round((n - 1) * old / new + 1). "edges": the outer faces coincide, the size is floor(n * old / new) and
            the spacing gives way. "centre": the centres coincide, the size is round(n * old / new).
        fill_hu: Value outside the volume, in HU.
    """

    name: str
    spacing_mm: tuple[float, float, float] | None = None
    grid: Triple | None = None
    clip_hu: tuple[float, float] | None = None
    antialias: bool = False
    align: str = "first_voxel"
    fill_hu: int = -1024

    def __post_init__(self) -> None:
        if self.spacing_mm is not None and not all(0.01 <= spacing <= 1000 for spacing in self.spacing_mm):
            raise PresetMismatchError(f"spacing must lie in 0.01..1000 mm along (z, y, x), got {self.spacing_mm}")
        if self.grid is not None and not all(1 <= size <= 8192 for size in self.grid):
            raise PresetMismatchError(f"grid must lie in 1..8192 voxels along (z, y, x), got {self.grid}")
        if self.align not in ALIGNMENTS:
            raise PresetMismatchError(f"align must be one of {', '.join(ALIGNMENTS)}, got {self.align!r}")

    @property
    def hash(self) -> str:
        """xxh3_64 hex of all fields and of RULES_VERSION; the same on every machine and in every process."""
        text = json.dumps({"rules": RULES_VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return xxhash.xxh3_64_hexdigest(text.encode())

    @classmethod
    def from_name(cls, name: str) -> "Preset":
        """A preset by name, or a general one by its spacing: "3x1.5x1.5mm", "3x1.5x1.5mm@160x224x224" (z, y, x).

        A general preset is antialiased, centred, clipped to [-1024, 3071] HU.

        Raises:
            PresetMismatchError: Neither a name of PRESETS nor a spacing.
        """
        if name in PRESETS:
            return PRESETS[name]
        number = r"(\d+(?:\.\d+)?)"
        found = re.fullmatch(rf"{number}x{number}x{number}mm(?:@(\d+)x(\d+)x(\d+))?", name)
        if found is None:
            raise PresetMismatchError(
                f"no preset {name!r}; there are {', '.join(PRESETS)}, or give a spacing and, if wanted, a grid as "
                "(z, y, x): '3x1.5x1.5mm' or '3x1.5x1.5mm@160x224x224'"
            )
        z_mm, y_mm, x_mm, depth, height, width = found.groups()
        return cls(
            name,
            spacing_mm=(float(z_mm), float(y_mm), float(x_mm)),
            grid=None if depth is None else (int(depth), int(height), int(width)),
            clip_hu=(-1024, 3071),
            antialias=True,
            align="centre",
        )


PRESETS = {
    # Lossless: the source's own voxels, turned to RAS+.
    "native": Preset("native"),
    # StanfordMIMI/Merlin, merlin/data/monai_transforms.py: Spacing(1.5, 1.5, 3) bilinear, 224 x 224 x 160.
    "merlin": Preset("merlin", spacing_mm=(3.0, 1.5, 1.5), grid=(160, 224, 224), clip_hu=(-1024, 3071)),
    # ibrahimethemhamamci/CT-CLIP, scripts/data.py: 0.75 x 0.75 x 1.5 mm by F.interpolate(trilinear,
    # align_corners=False) to floor(n * old / new), then 480 x 480 x 240 by centre crop or padding.
    "ct-rate": Preset(
        "ct-rate", spacing_mm=(1.5, 0.75, 0.75), grid=(240, 480, 480), clip_hu=(-1024, 3071), align="edges"
    ),
}
