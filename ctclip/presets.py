"""Starting points of a run's configuration, by name."""

from dataclasses import replace

from ctclip.config import DataConfig, ImageConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig
from ctclip.errors import ConfigError
from ctclip.objectives.parameters import MococlipParameters, MomentumParameters
from ctload.planning.augment import Augment

_MERLIN_IMAGE = ImageConfig((3, 8, 36, 3), (64, 128, 256, 512), stem_width=64, stem_planes=3)
_MERLIN_TEXT = TextConfig("yikuan8/Clinical-Longformer", max_length=1024)
_SMALL_IMAGE = ImageConfig((2, 2, 2, 2), (32, 64, 128, 256), stem_width=32)
_SMALL_TEXT = TextConfig(pooling="mean", width=256, layers=4, heads=4, vocabulary=8192)

# MoCo v2's crops and colours as CT has them; no mirroring, since reports name sides (METHODS.md).
TWO_VIEWS = Augment(
    scale=(1.0, 1.26),  # of a crop of 0.5 to 1 of the volume
    translate_voxels=(3.0, 6.0, 6.0),
    contrast=(0.9, 1.1),
    brightness=0.1,
    gamma=(0.7, 1.5),
    gamma_probability=0.5,
    noise_sigma=(0.0, 0.02),
    noise_probability=0.5,
    blur_sigma=(0.0, 1.0),
    blur_probability=0.5,
)

_TINY = TrainConfig(
    data=DataConfig(windows_hu=((-1000.0, 1000.0), (-150.0, 250.0))),
    model=ModelConfig(ImageConfig(), TextConfig(pooling="mean"), embedding_dim=128, logit_scale=2.3),
)

PRESETS: dict[str, TrainConfig] = {
    "tiny": _TINY,
    "offclip": replace(_TINY, objective=("offclip",)),
    "mococlip": replace(
        _TINY,
        objective=("mococlip",),
        mococlip=MococlipParameters(image=MomentumParameters(momentum=0.98)),  # 1 - 20 / steps
        data=replace(_TINY.data, augment=TWO_VIEWS),
    ),
    "fvlm": replace(_TINY, objective=("fvlm",), data=replace(_TINY.data, schedule="full")),
    "cagcl": replace(_TINY, objective=("cagcl",), data=replace(_TINY.data, schedule="full")),
    "merlin-small": TrainConfig(
        data=DataConfig(windows_hu=((-1000.0, 1000.0), (-150.0, 250.0))),
        model=ModelConfig(_SMALL_IMAGE, _SMALL_TEXT, embedding_dim=256, logit_scale=2.3),
        optim=OptimConfig(learning_rate=5e-4, warmup_steps=500),
        steps=20_000,
        checkpoint_every=1000,
    ),
    "merlin": TrainConfig(
        data=DataConfig(batch_size=18),
        model=ModelConfig(_MERLIN_IMAGE, _MERLIN_TEXT, embedding_dim=512),
        optim=OptimConfig(learning_rate=1e-5, warmup_steps=500),
        steps=85_000,  # 15,314 training studies x 100 epochs at batch 18
        checkpoint_every=1000,
    ),
}


OLD_PRESET_NAMES = {"small": "merlin-small"}


def preset(name: str, **changes: object) -> TrainConfig:
    """A preset with some of its top-level fields replaced.

    Raises:
        ConfigError: No such preset.

    Example:
        >>> preset("tiny", steps=500).steps
        500
    """
    name = OLD_PRESET_NAMES.get(name, name)
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)  # pyright: ignore[reportArgumentType]
