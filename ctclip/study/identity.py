"""What a cell was trained and scored on, as digests: two cells with equal ones saw the same words, labels and voxels.

Places do not count: the same cohort packed again elsewhere has the same digests.
"""

from dataclasses import dataclass

import xxhash

from ctclip.cohorts.cohort import Cohort
from ctclip.data import check_store, join_cohort, threads_per_rank
from ctclip.study.grid import Cell
from ctclip.texts.prompts import PromptSet
from ctload.storage.digests import column_bytes
from ctload.storage.store import open_store

_PLACES = ("path",)


@dataclass(frozen=True)
class DataIdentity:
    """Digests (hex) of what a cell's result depends on besides its configuration.

    Attributes:
        cohort: Every column of the cohort's table but the paths, in order of rows.
        store: Ids and voxel digests of the cohort's studies in the store.
        prompts: Every text that scores a finding.
    """

    cohort: str
    store: str
    prompts: str


def identify_data(cell: Cell, cohort: Cohort, prompts: PromptSet) -> DataIdentity:
    """The identity of a cell's data; it reads the store's manifest and no voxel.

    Raises:
        CohortError: Studies are missing in the store.
    """
    store = open_store(check_store(cell.config.store), num_threads=threads_per_rank())
    packed = join_cohort(store, cohort, unpacked=cell.config.data.unpacked)
    texts = repr((prompts.prompts, prompts.normal)).encode()
    return DataIdentity(_table_digest(cohort), packed.fingerprint, xxhash.xxh3_128_hexdigest(texts))


def _table_digest(cohort: Cohort) -> str:
    digest = xxhash.xxh3_128()
    for name in sorted(set(cohort.table.column_names) - set(_PLACES)):
        digest.update(name.encode())
        for part in column_bytes(cohort.table[name]):
            digest.update(part)
    return digest.hexdigest()
