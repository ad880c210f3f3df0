"""ctload: volumes of CT on disk -> batches on the device. Fast, exact, resumable; see ctload/README.md.

A batch is a pure function of (seed, epoch, step): samplers, crops and augmentations draw a BatchPlan, pipelines
execute it. Importing this package loads neither torch nor DALI.
"""

from ctload.errors import CtloadError
from ctload.geometry import Box
from ctload.loading.batch import Batch
from ctload.loading.loader import Loader
from ctload.packing.packer import pack
from ctload.planning.aimed_crop import ForegroundCrop, LabelCrop
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, RandomCrop, WholeVolume
from ctload.planning.plan import BatchPlan
from ctload.planning.resized_crop import RandomResizedCrop
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.subset import nested_subsets
from ctload.sampling.twin import ShuffledTwin
from ctload.sampling.units import AlternatingUnits
from ctload.sampling.weighted import WeightedSampler
from ctload.storage.manifest import Studies
from ctload.storage.store import Store, open_store
from ctload.storage.verification import verify

__all__ = [
    "AlternatingUnits",
    "Augment",
    "Batch",
    "BatchPlan",
    "Box",
    "CenterCrop",
    "CtloadError",
    "ForegroundCrop",
    "HuWindow",
    "LabelCrop",
    "Loader",
    "RandomCrop",
    "RandomResizedCrop",
    "SequentialSampler",
    "ShuffleSampler",
    "ShuffledTwin",
    "Store",
    "StratifiedSampler",
    "Studies",
    "WeightedSampler",
    "WholeVolume",
    "nested_subsets",
    "open_store",
    "pack",
    "verify",
]
