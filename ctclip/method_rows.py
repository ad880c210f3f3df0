"""What a run's objectives need of its data: rows by study or by anatomy, views, label maps; or a refusal.

Enter a configuration and the joined tables. It reads no voxel and knows no tensor.
"""

from ctclip.anatomy_rows import AnatomyRows, has_label, make_anatomy_rows
from ctclip.cohorts.cohort import Cohort
from ctclip.config import TrainConfig
from ctclip.errors import ConfigError
from ctclip.objectives.parameters import AnatomyParameters, ObjectiveName
from ctclip.objectives.requirements import RunFacts, check_objectives, check_run
from ctclip.study_rows import StudyRows, make_study_rows
from ctclip.texts.anatomies import ANATOMY_SETS, Anatomy
from ctclip.texts.text_units import TextUnits
from ctload.storage.manifest import Studies


def num_views(config: TrainConfig) -> int:
    """Views of each study that the run's objectives compare."""
    return 2 if "mococlip" in config.objective and config.mococlip.mode != "itc" else 1


def anatomy_of(config: TrainConfig) -> AnatomyParameters | None:
    """How the run's model pools anatomies; None where it looks at studies whole."""
    return config.methods.anatomy(config.objective)


def anatomies_of(config: TrainConfig) -> tuple[Anatomy, ...]:
    """The anatomies that the run's model pools; none where it looks at studies whole."""
    return () if anatomy_of(config) is None else ANATOMY_SETS[config.data.anatomies]


def label_maps(config: TrainConfig) -> tuple[str, ...]:
    """Stored label maps that come with each batch."""
    parameters = anatomy_of(config)
    return (config.data.anatomy_label,) if parameters is not None and parameters.source == "masks" else ()


def training_rows(
    config: TrainConfig, cohort: Cohort, studies: Studies, texts: TextUnits
) -> StudyRows | AnatomyRows | None:
    """What the run's objectives know of the studies; None for CLIP alone.

    Args:
        config: Of the run.
        cohort: The training split.
        studies: Those of it in the store, with the columns of ctclip.texts.text_units.
        texts: Of the units that are trained on.

    Raises:
        ConfigError: Objectives that count a term twice or need other rows than each other, a unit without a pair of
            normals, masks that are missing, or a queue larger than the data.
    """
    if config.objective == ("clip",):
        return None
    methods = config.methods
    check_objectives(config.objective, methods)
    _check_rows(config)
    rows = _rows(config, cohort, studies, texts)
    masks = label_maps(config)
    facts = RunFacts(
        len(studies),
        config.steps,
        rows.counts(),
        has_masks=bool(masks) and has_label(studies, *masks),
        num_views=num_views(config),
    )
    check_run(config.objective, methods, facts)
    return rows


def _rows(config: TrainConfig, cohort: Cohort, studies: Studies, texts: TextUnits) -> StudyRows | AnatomyRows:
    parameters = anatomy_of(config)
    if parameters is None:
        is_filtered = "offclip" in config.objective and config.offclip.filter_text
        return make_study_rows(cohort, studies, texts, config.offclip, is_filtered=is_filtered, seed=config.seed)
    reading = None
    if "cagcl" in config.objective:
        reading = config.cagcl.texts
    elif "offclip" in config.objective:
        reading = config.offclip
    return make_anatomy_rows(
        cohort,
        studies,
        anatomies_of(config),
        parameters,
        label=config.data.anatomy_label,
        reading=reading,
        seed=config.seed,
    )


def _check_rows(config: TrainConfig) -> None:
    methods = config.methods
    apart = [name for name in config.objective if methods.anatomy((name,)) is not None]
    whole: list[ObjectiveName] = [name for name in config.objective if name not in apart]
    if apart and whole:
        raise ConfigError(
            f"objective {apart[0]!r} looks at anatomies apart and {whole[0]!r} at studies whole; a run has rows of one "
            "kind: name objectives of one kind, or train two runs"
        )
    for name, local in (("fvlm", methods.fvlm.local), ("cagcl", methods.cagcl.local)):
        if name in config.objective and local.soft_alpha:
            raise ConfigError(
                f"{name}.local.soft_alpha={local.soft_alpha} needs a teacher, which no run has; set it to 0"
            )
    if "cagcl" in config.objective and methods.cagcl.weight_volume:
        raise ConfigError(
            f"cagcl.weight_volume={methods.cagcl.weight_volume} needs embeddings of whole volumes beside those of "
            "anatomies, and a run has rows of one kind; set it to 0"
        )
