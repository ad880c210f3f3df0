"""Which studies are drawn, and how: the share of a split, the sections that fill a batch, the sampler.

Enter the joined tables; leave Studies and a Sampler that is not yet bound. It knows nothing of voxels or texts.
"""

from dataclasses import replace

from ctclip.cohorts.cohort import Cohort
from ctclip.config import DataConfig
from ctclip.texts.text_units import ABNORMAL, FULL, TEXT
from ctload.errors import SamplerError
from ctload.sampling.sampler import Sampler, ShuffleSampler, StratifiedSampler
from ctload.sampling.subset import nested_subsets
from ctload.sampling.twin import ShuffledTwin
from ctload.sampling.units import AlternatingUnits
from ctload.storage.manifest import Studies


def take_fraction(studies: Studies, cohort: Cohort, config: DataConfig, *, seed: int) -> Studies:
    """The nested share `config.fraction` of a split's studies (ctload/sampling/subset.py).

    Args:
        studies: Of the split, in the store.
        cohort: The split; its patients are whole, its findings are balanced.
        config: fraction and fractions.
        seed: Of the choice.

    Raises:
        SamplerError: A finding of the split would have no positive study left.
    """
    if config.fraction == 1:
        return studies
    found = [name for name in cohort.findings if (cohort.labels()[:, cohort.findings.index(name)] == 1).any()]
    joined = join_columns(studies, cohort.table.select(["study", "patient", *found]))
    shares = sorted({*config.fractions, config.fraction})
    rows = nested_subsets(joined, shares, labels=found, patient="patient", seed=seed)[config.fraction]
    return studies.take(rows)


def join_columns(studies: Studies, columns) -> Studies:
    """Studies.join, where columns of the same name that were carried from the packing table give way."""
    names = [name for name in columns.column_names if name != "study" and name in studies.table.column_names]
    return Studies(studies.table.drop_columns(names), studies.store).join(columns)


def make_sampler(config: DataConfig, sections: tuple[str, ...], *, seed: int) -> Sampler:
    """The sampler of a configuration, its alternation over these sections."""
    schedule = config.schedule if sections or config.schedule != "alternate" else "full"
    units = AlternatingUnits(sections, full=FULL, schedule=schedule)
    if config.sampler == "shuffle":
        by = ABNORMAL if config.eligible == "normality" else TEXT
        return ShuffleSampler(config.batch_size, seed, by=by, units=units)
    arm = StratifiedSampler(
        ABNORMAL, config.quotas, config.batch_size, seed, units=units, small_stratum=config.small_stratum
    )
    return ShuffledTwin(arm, config.twin_epochs) if config.sampler == "twin" else arm


def drawable_sections(studies: Studies, config: DataConfig) -> tuple[tuple[str, ...], dict[str, str]]:
    """Sections of the configuration that can fill a batch, and the others with the reason.

    With config.small_section == "error" all are returned, and binding the sampler will refuse the first that cannot.
    """
    if config.schedule == "full":
        return (), {}
    if config.small_section == "error":
        return config.sections, {}
    left_out = {}
    for section in config.sections:
        try:
            make_sampler(replace(config, schedule="sections"), (section,), seed=0).bind(studies)
        except SamplerError as error:
            left_out[section] = error.message
    return tuple(section for section in config.sections if section not in left_out), left_out
