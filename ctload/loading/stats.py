"""LoaderStats: where a loader's time went. Plain data."""

from dataclasses import dataclass, fields

from ctload.storage.read_probe import ReadCost


@dataclass(frozen=True)
class LoaderStats:
    """Sums over delivered batches; seconds of wall time.

    draw_s, probe_s, read_s, decode_s, copy_s, pipeline_s and full_s are of the loader's own thread and add up to its
    time; wait_s is of the caller's, beside it. A training step that never waits has wait_s near 0 and full_s large.
    With wait_s large, the largest of the others names what holds the loader back.

    What the loader's thread waited for voxels is measured, but read, decode and copy happen inside one future of
    tensorstore. So one study is read once more by steps in the first batches 0, 1, 2, 4, 8, ... and then in every
    128th (storage/read_probe.py), and the waiting is divided as the time of those reads was: read_s, decode_s and
    copy_s add up to what was measured, and the shares are those of the probed reads so far.

    Attributes:
        num_batches: Delivered batches.
        num_studies: Studies in them.
        num_replaced: Substitutes in them.
        num_probed: Studies read once more by steps.
        wait_s: The caller waited for a batch.
        draw_s: Drawing plans and starting reads.
        probe_s: Reading by steps.
        read_s: Waiting for voxels: bytes of files, from the disk or from the system's cache.
        decode_s: Waiting for voxels: decompression and checksums.
        copy_s: Waiting for voxels: from decoded chunks to their slot.
        pipeline_s: Executing plans, copies to a GPU included.
        full_s: Waiting for the caller to take a finished batch.
    """

    num_batches: int = 0
    num_studies: int = 0
    num_replaced: int = 0
    num_probed: int = 0
    wait_s: float = 0.0
    draw_s: float = 0.0
    probe_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    copy_s: float = 0.0
    pipeline_s: float = 0.0
    full_s: float = 0.0

    def __add__(self, other: "LoaderStats") -> "LoaderStats":
        return LoaderStats(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def divide_wait(waited_s: float, cost: ReadCost) -> LoaderStats:
    """The waiting for voxels as read_s, decode_s and copy_s, in the proportion of a cost; all of it is read_s where
    nothing was probed."""
    whole = cost.file_s + cost.decode_s + cost.copy_s
    if whole <= 0:
        return LoaderStats(read_s=waited_s)
    decode_s, copy_s = waited_s * cost.decode_s / whole, waited_s * cost.copy_s / whole
    return LoaderStats(read_s=waited_s - decode_s - copy_s, decode_s=decode_s, copy_s=copy_s)
