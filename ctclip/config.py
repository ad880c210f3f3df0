"""The configuration of one run: frozen dataclasses, read and written as JSON. A field's docstring is its help.

It knows nothing of torch; the builders that read it say what they refuse. The command line is made from these classes;
starting points are in presets.py.
"""

from dataclasses import dataclass, field
from typing import Literal

from ctclip.objectives.parameters import (
    CagclParameters,
    FvlmParameters,
    Methods,
    MococlipParameters,
    ObjectiveName,
    OffclipParameters,
)
from ctclip.reports.sections import SECTIONS
from ctload.planning.augment import Augment


@dataclass(frozen=True)
class ImageConfig:
    """The image tower, an inflated ResNet of bottlenecks (ctclip/models/inflated_resnet.py)."""

    blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Bottlenecks in each of the four stages."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Inner width of each stage's bottlenecks; a stage gives 4 times as many channels."""
    stem_width: int = 16
    """Channels after the stem."""
    stem_planes: int = 0
    """Input planes of the stem's kernel that are summed for a one-channel volume, as Merlin's 3. 0: one plane per
    channel of the volume."""
    norm: Literal["torch", "fused"] = "torch"
    """Batch norm: torch's, or with its ReLU and addition in one kernel of ctkernels on a GPU, whose gain is not
    measured yet. The weights fit both."""


@dataclass(frozen=True)
class TextConfig:
    """The text tower: any Hugging Face encoder, or a small BERT trained from nothing."""

    name: str = ""
    """Name or folder of a Hugging Face encoder, read by from_pretrained. Empty: a small BERT whose WordPiece
    vocabulary is trained on the cohort's own reports; nothing is downloaded."""
    max_length: int = 512
    """Longest text in tokens; the rest is cut off, and how many reports that meets is printed."""
    pooling: Literal["first", "mean"] = "first"
    """What stands for the text: its first token (CLS), as in Merlin, or the mean over its tokens."""
    vocabulary: int = 4096
    """Only without name: entries of the WordPiece vocabulary at most."""
    width: int = 128
    """Only without name: hidden width."""
    layers: int = 2
    """Only without name: transformer layers."""
    heads: int = 4
    """Only without name: attention heads."""
    dropout: float = 0.0
    """Only without name: dropout of hidden values and of attention."""


@dataclass(frozen=True)
class ModelConfig:
    """The dual encoder."""

    image: ImageConfig = field(default_factory=ImageConfig)
    """Image tower."""
    text: TextConfig = field(default_factory=TextConfig)
    """Text tower."""
    embedding_dim: int = 512
    """Dimension of the joint space."""
    logit_scale: float = 1.0
    """Natural log of the first logit scale. Merlin starts at 1.0, CLIP at 2.659."""


@dataclass(frozen=True)
class DataConfig:
    """What makes up a batch."""

    batch_size: int = 16
    """Studies per optimizer step, over all ranks."""
    crop: tuple[int, int, int] | None = None
    """Voxels (z, y, x) of each volume that are read. None: the whole volume, which must be the same for all."""
    crop_at: Literal["center", "random"] = "center"
    """Where a training crop lies; embedding always takes the center."""
    pad: bool = False
    """Whether volumes smaller than the crop are padded, or refused."""
    windows_hu: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)
    """(low, high) in HU of each window; every window is one channel."""
    channels: tuple[str, ...] = ("0",)
    """Arrays of the store that are read; each gives all windows."""
    augment: Augment = field(default_factory=Augment)
    """Random changes of a training volume; none by default, as in Merlin."""
    schedule: Literal["alternate", "full", "sections"] = "alternate"
    """Text of a step: full report and one section in turn, always the full report, or always one section."""
    sections: tuple[str, ...] = SECTIONS
    """Sections that are visited, each as often as the others."""
    small_section: Literal["leave_out", "error"] = "leave_out"
    """What to do with a section that too few studies have to fill a batch: leave it out and say so, or stop."""
    unpacked: Literal["error", "leave_out"] = "error"
    """What to do with studies of the cohort that the store does not hold."""
    sampler: Literal["shuffle", "stratified", "twin"] = "shuffle"
    """Shuffle; batches with exact numbers of normal and abnormal studies in the step's text unit; or the stratified
    sampler's shuffled twin: its draws, permuted across batches (ctload/sampling/twin.py)."""
    quotas: dict[str, float] = field(default_factory=lambda: {"normal": 50.0, "abnormal": 50.0})
    """Not for shuffle: share of normal and abnormal studies in every batch."""
    small_stratum: Literal["error", "repeat"] = "error"
    """Not for shuffle: what to do with a stratum smaller than its quota."""
    twin_epochs: int = 1
    """Only for the twin: epochs over which draws are permuted; it has the stratified sampler's draws after each."""
    eligible: Literal["text", "normality"] = "text"
    """Studies that shuffle draws for a text unit: all with a text, or, as the other samplers, those of them that are
    known to be normal or abnormal in it."""
    fraction: float = 1.0
    """Share of the training studies that is used, whole patients only, each finding about as often as in the whole;
    drawn from the run's seed. The vocabulary of a text tower without a name is that of the whole."""
    fractions: tuple[float, ...] = (0.2, 0.4)
    """Shares that nest: a smaller one lies inside every larger one, and `fraction` among them."""
    pipeline: Literal["auto", "numba", "dali", "reference"] = "auto"
    """What executes the plans. auto: numba on the CPU, NVIDIA DALI on a GPU. dali also runs on the CPU; reference is
    the same in plain NumPy, slow."""
    prefetch: int = 2
    """Batches decoded ahead."""
    cache_gib: float = 0.0
    """GiB of memory of each rank for decoded volumes, which are then decoded once; they are int16, and the least
    recently used go first."""
    anatomies: Literal["phantom", "ct-rate"] = "phantom"
    """Only for objectives that look at anatomies apart: which they are (ctclip/texts/anatomies.py)."""
    anatomy_label: str = "organs"
    """Only for objectives that look at anatomies apart: the stored label map, packed from a column label:organs."""
    on_corrupt: Literal["raise", "replace"] = "raise"
    """What to do with a study whose bytes in the store are damaged: stop, naming it; or take the next study of its
    stratum, warn, and write it to RUN/quarantine.json."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine decay over the steps of the run."""

    learning_rate: float = 1e-3
    """Highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    weight_decay: float = 0.05
    """Of weights with two axes or more; not of biases, norms and the logit scale."""
    warmup_steps: int = 50
    """Steps of linear warm-up from 0."""
    final_share: float = 0.01
    """Share of the learning rate that is left at the last step."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; a larger one is scaled down."""
    max_logit_scale: float = 4.6052
    """Upper bound of the log of the logit scale (100, as in CLIP)."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    cohort: str = ""
    """Where studies, reports, labels and splits come from: table:FILE.csv, table:FILE.parquet,
    phantom:DIR, merlin:DIR, ct-rate:DIR or rad-chestct:DIR."""
    store: str = ""
    """Store that `ctload pack` made of the cohort's volumes."""
    findings: tuple[str, ...] = ()
    """Only for table: its label columns. Empty: those that bear the name of a finding this program knows."""
    out: str = "runs/train"
    """Folder of the run. Where it holds a checkpoint, the run goes on from it."""
    init: str = "random"
    """Weights that a new run begins with: random; imagenet (torchvision's file in torch's download folder); a file, a
    checkpoint of Merlin or a torchvision ResNet; or the folder of another run. Nothing is unpickled."""
    steps: int = 1000
    """Optimizer steps. 0: a run of the weights that init names, to be embedded and evaluated as they are."""
    seed: int = 0
    """Of weights, order, crops, augmentation and dropout."""
    objective: tuple[ObjectiveName, ...] = ("clip",)
    """What is minimised, the sum where several are named; METHODS.md tells what each is."""
    offclip: OffclipParameters = field(default_factory=OffclipParameters)
    """Only for the objective offclip: OFF-CLIP, ported to CT, not a reproduction."""
    mococlip: MococlipParameters = field(default_factory=MococlipParameters)
    """Only for the objective mococlip: MoCoCLIP, ported to CT, not a reproduction."""
    fvlm: FvlmParameters = field(default_factory=FvlmParameters)
    """Only for the objective fvlm: image and text of one anatomy at a time."""
    cagcl: CagclParameters = field(default_factory=CagclParameters)
    """Only for the objective cagcl: CA-GCL, form of its global term inferred."""
    data: DataConfig = field(default_factory=DataConfig)
    """Batches."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Model."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a CUDA device where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the towers' passes in training. auto: bfloat16 on CUDA, else float32 (bfloat16 pays with AVX512_BF16)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile. auto: on for CUDA, off on the CPU, where a minute of compiling pays after about 250 steps."""
    threads: int = 0
    """CPU threads of torch; 0 leaves them as they are. Recorded, since results depend on it in the last bits."""
    micro_batch: int | Literal["off", "auto"] = "off"
    """Studies of one forward pass; the gradient is that of the whole batch (gradient cache: one more forward pass
    for less memory). off: a rank's whole part. auto: the largest that fits, found at the start and kept on resume."""
    bn_group: int = 0
    """Studies that share batch-norm statistics. 0: those of one forward pass. A result does not depend on the
    number of ranks where this is given; checked on resume."""
    ema_decay: float = 0.0
    """Decay of the average of the weights that is evaluated in their place, such as 0.999; 0: none is kept."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do after a step whose loss or gradient is not finite (it never changes the weights): stop, naming the
    studies, or warn, count and go on, for up to 10 such steps in a row."""
    activation_budget: float = 1.0
    """Share of the image tower's activations that compiled code may keep, 0 to 1; the rest is computed again in the
    backward pass. Below 1 it needs torch.compile."""
    profile_steps: int = 0
    """Steps that torch.profiler records into RUN/profile, after 5 steps of warming up; 0: none."""
    checkpoint_every: int = 200
    """Steps between checkpoints; one more is written at the end, on SIGTERM and on SIGUSR1 (which goes on)."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl and looks at the loss on CUDA."""
    allow_inexact_resume: bool = False
    """Resume although compile mode, threads, device or another setting differs: the bits will differ from those of
    a run that never stopped."""

    @property
    def methods(self) -> Methods:
        """The choices of all objectives."""
        return Methods(offclip=self.offclip, mococlip=self.mococlip, fvlm=self.fvlm, cagcl=self.cagcl)
