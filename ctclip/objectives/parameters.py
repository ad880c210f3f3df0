"""What each objective lets one choose. Frozen dataclasses without torch: a configuration holds them.

A field's docstring is its help: the default, and where the default comes from. [certain] is read in the authors'
released code or figure; [inferred] is this project's choice where neither says, and flips by the field's value.
METHODS.md beside the packages' README tells each method's story.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ctclip.texts.text_augmentation import TextAugmentation


@dataclass(frozen=True)
class ClipParameters:
    """Symmetric InfoNCE over the studies of a batch (Radford et al. 2021); what Merlin trains with."""

    weight: float = 1.0
    """Factor of the term."""


@dataclass(frozen=True)
class OffclipParameters:
    """OFF-CLIP (arXiv 2503.01794): normal-normal pairs are positives, InfoNCE only among the abnormal.

    Published for chest X-rays; here it is ported to CT, not a reproduction.
    """

    weight_off_diagonal: float = 1.0
    """Factor of the off-diagonal term. [inferred: the figure shows a plain "+"]"""
    weight_abnormal: float = 1.0
    """Factor of the InfoNCE of abnormal studies. [inferred: the figure shows a plain "+"]"""
    reduction: Literal["mean", "siglip", "balanced"] = "mean"
    """Of the off-diagonal term's cells: their mean; their sum / B, as SigLIP; or half the mean over positives plus
    half the mean over negatives. [inferred: torch's default for this loss]"""
    abnormal_pairs: Literal["negative", "ignore"] = "negative"
    """Cells of two different abnormal studies in the off-diagonal term. [certain but for a reading of the figure,
    where they are as white as every other negative]"""
    unknown: Literal["abnormal", "ignore"] = "abnormal"
    """Units of unknown normality: as abnormal ones, positive with their own text only; or left out of the loss.
    [inferred: the paper's classifier knows no third answer]"""
    scale_init: float = 10.0
    """First factor of the cosines in the off-diagonal term, learned. [inferred: SigLIP's; CARZero's logits come
    from an MLP that has a scale and a bias of its own]"""
    bias_init: float | None = None
    """First bias of the off-diagonal term, learned. Not given: the log odds of a positive cell at this batch size
    and this rate of normals. SigLIP's -10 is right only where positives are about 1 in 32,000. [inferred]"""
    pair_unit: Literal["study", "section", "anatomy"] = "section"
    """Whose normality counts: the whole report's (the paper's reading), that of the step's text unit, or that of
    each anatomy apart, averaged over anatomies. [inferred for CT, where 6 % of reports are normal throughout but
    64 % of hearts; with full reports alone, section is study]"""
    filter_text: bool = True
    """Leave normal sentences out of abnormal texts. [certain]"""
    text_mode: Literal["one_sentence", "all"] = "all"
    """What is read of the kept sentences: one, drawn at each access, as the released loader does [certain], or all
    in order, which suits a text tower that reads long texts. [inferred, hence not the paper's]"""


@dataclass(frozen=True)
class MomentumParameters:
    """A momentum encoder and its feature queue (He et al. 2020, arXiv 1911.05722)."""

    momentum: float = 0.999
    """Share of the key encoder that stays at each optimizer step. [MoCo's; MoCoCLIP's value is not published]"""
    queue: int | None = None
    """K, keys that are kept. Not given: the largest power of two that is at most 65536 and a quarter of the training
    studies. MoCo's 65536 on a small cohort would hold a query's own older keys. [inferred]"""
    temperature: float = 0.07
    """Divides the cosines of query and keys. MoCo v1's; v2 took 0.2. [inferred]"""
    exclude: Literal["study", "patient"] = "study"
    """Whose older keys are no negatives: the query's own study, or every study of the patient. MoCo excludes none
    and needs not, at ImageNet's size. [inferred]"""
    queue_init: Literal["masked", "random"] = "masked"
    """Empty slots of a new queue: left out of the sum, or random unit vectors, as in MoCo. [inferred]"""
    dim: int = 128
    """Width of the projections that are compared. [MoCo's]"""
    norm: Literal["own", "follow"] = "own"
    """Batch-norm statistics of the momentum copy, which evaluates: running ones of its own activations; or those of
    the trained encoder, followed as the weights are. The latter begin at 0 and 1 and lag behind: with momentum 0.99
    all keys were alike (cosine 0.999) and the term stayed at chance. MoCo shuffles the batch among GPUs in place of
    this. [inferred]"""
    share_projection: bool = False
    """Compare the joint embeddings themselves in place of a projection of their own. MoCo v2 has its own head.
    [inferred]"""


@dataclass(frozen=True)
class MococlipParameters:
    """MoCoCLIP (arXiv 2503.13134): a momentum image branch beside CLIP. No code is public.

    Published for chest X-rays; here it is ported to CT, not a reproduction.
    """

    mode: Literal["itc", "moco", "moco+itc", "cross_modal"] = "moco+itc"
    """Image-text contrast alone, image-image contrast alone, both [the paper's ablation], or both towers' momentum
    copies with two queues as in ALBEF and BLIP, which the abstract does not claim."""
    weight_itc: float = 1.0
    """Factor of the image-text term. [inferred]"""
    weight_moco: float = 1.0
    """Factor of the momentum term. [inferred]"""
    image: MomentumParameters = field(default_factory=MomentumParameters)
    """Momentum encoder and queue. MoCoCLIP's is of images alone. [inferred from "visual branch"]"""


@dataclass(frozen=True)
class AnatomyParameters:
    """How an anatomy's voxels become one image embedding."""

    source: Literal["masks", "attention"] = "masks"
    """Where an anatomy is: in the label map, as fVLM has it; or wherever its query looks, for cohorts without masks.
    The latter is not fVLM. [inferred]"""
    pooling: Literal["attention", "mean"] = "attention"
    """Of the anatomy's tokens of all stages: attention with one learned query per anatomy [certain], or their mean."""
    cells: Literal["touched", "share"] = "touched"
    """Only for the mean: a token counts when its cell holds any voxel of the anatomy [certain], or as much as it
    holds, which keeps small anatomies apart on coarse grids."""
    needs_whole: bool = True
    """An anatomy whose voxels reach a face of the crop is left out. [certain; off where crops always cut it]"""
    normal_by: Literal["rules", "conclusion"] = "rules"
    """What makes an anatomy's text normal: the rules on its sentences [inferred], or an impression that does not
    mention it, as in fVLM's data, where a language model wrote that impression. [certain]"""


@dataclass(frozen=True)
class LocalParameters:
    """The per-anatomy term of fVLM (arXiv 2501.14548), read in the released code but where marked."""

    reduction: Literal["sum", "mean"] = "sum"
    """Over the anatomies in use. The sum is the released code's; CA-GCL takes the mean here."""
    normal_positives: bool = True
    """Two normal units of one anatomy are positives. [certain]"""
    text_positives: bool = True
    """Two units of one anatomy with the same text are positives. [certain]"""
    needs_abnormal: bool = True
    """An anatomy counts only where at least one study of the batch is abnormal there. [certain]"""
    soft_alpha: float = 0.0
    """Share of a teacher's softmax in the targets. 0 is the released forward pass; its configuration still says 0.5,
    and the paper tells of two models that teach each other. [inferred: the teacher is the momentum copy]"""


@dataclass(frozen=True)
class FvlmParameters:
    """fVLM (arXiv 2501.14548): image and text of one anatomy at a time."""

    local: LocalParameters = field(default_factory=LocalParameters)
    """The per-anatomy term."""
    anatomy: AnatomyParameters = field(default_factory=AnatomyParameters)
    """The image embedding of an anatomy, and what makes its text normal."""


@dataclass(frozen=True)
class GlobalParameters:
    """CA-GCL's term across anatomies (arXiv 2605.13544). No code is public; its form here is inferred."""

    form: Literal["all", "cross_only", "category"] = "all"
    """all: every other unit of the batch is a negative but for those the local term calls positive. cross_only: the
    same without negatives of the same anatomy. category: all units of an anatomy are positives of each other.
    [inferred: `all` is the smallest change to the local term that has the property the abstract names]"""
    weight: float = 1.0
    """Factor of the term. [inferred]"""
    own_temperature: bool = False
    """A learned logit scale of its own, or the local term's. [inferred]"""
    mask_equal_text: bool = True
    """Units of two anatomies with the same text are neither positive nor negative: a sentence about aorta and heart
    belongs to both. [inferred]"""
    weight_text: float = 0.0
    """Factor of a contrast among texts alone, units of one anatomy being positives. [inferred, hence off]"""


@dataclass(frozen=True)
class CagclParameters:
    """CA-GCL (arXiv 2605.13544): fVLM's local term and one across anatomies. Form of the global term inferred."""

    local: LocalParameters = field(default_factory=lambda: LocalParameters(reduction="mean"))
    """The per-anatomy term; its mean over anatomies, so that it and the global term are of one size. [inferred]"""
    across: GlobalParameters = field(default_factory=GlobalParameters)
    """The term across anatomies."""
    anatomy: AnatomyParameters = field(default_factory=AnatomyParameters)
    """As in fVLM."""
    texts: TextAugmentation = field(default_factory=TextAugmentation)
    """Other orders and parts of an anatomy's sentences, while training. [named in the abstract; chances inferred]"""
    weight_volume: float = 0.0
    """Factor of a CLIP term of whole volumes and whole reports. "Global" is read as across anatomies, not as whole
    volume. [inferred, hence off]"""


ObjectiveName = Literal["clip", "offclip", "mococlip", "fvlm", "cagcl"]


@dataclass(frozen=True)
class Methods:
    """The choices of every objective; a run reads those of the objectives it names."""

    clip: ClipParameters = field(default_factory=ClipParameters)
    """CLIP, as Merlin."""
    offclip: OffclipParameters = field(default_factory=OffclipParameters)
    """OFF-CLIP, ported to CT."""
    mococlip: MococlipParameters = field(default_factory=MococlipParameters)
    """MoCoCLIP, ported to CT."""
    fvlm: FvlmParameters = field(default_factory=FvlmParameters)
    """fVLM."""
    cagcl: CagclParameters = field(default_factory=CagclParameters)
    """CA-GCL."""

    def anatomy(self, names: Sequence[ObjectiveName]) -> AnatomyParameters | None:
        """How the named objectives have anatomies pooled; None where they look at studies whole."""
        if "cagcl" in names:
            return self.cagcl.anatomy
        if "fvlm" in names:
            return self.fvlm.anatomy
        if "offclip" in names and self.offclip.pair_unit == "anatomy":
            return AnatomyParameters()
        return None
