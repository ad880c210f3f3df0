"""ctload: volumes of CT on disk -> batches on the device. Fast, exact, resumable; see ctload/README.md.

A batch is a pure function of (seed, epoch, step): samplers, crops and augmentations draw a BatchPlan, pipelines
execute it. Importing this package loads neither torch nor DALI.
"""

from ctload.augment import Augment
from ctload.batch import Batch
from ctload.crop import CenterCrop, RandomCrop, WholeVolume
from ctload.crop_aimed import ForegroundCrop, LabelCrop
from ctload.crop_resized import RandomResizedCrop
from ctload.errors import CtloadError
from ctload.geometry import Box
from ctload.loader import Loader
from ctload.manifest import Studies
from ctload.packing import pack
from ctload.plan import BatchPlan
from ctload.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.store import Store, open_store
from ctload.subset import nested_subsets
from ctload.twin import ShuffledTwin
from ctload.units import AlternatingUnits
from ctload.verification import verify
from ctload.weighted import WeightedSampler
from ctload.window import HuWindow

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
