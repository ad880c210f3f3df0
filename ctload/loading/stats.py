"""LoaderStats: where a loader's time went. Plain data."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class LoaderStats:
    """Sums over delivered batches; seconds of wall time.

    draw_s, read_s, pipeline_s and full_s are of the loader's own thread and add up to its time; wait_s is of the
    caller's, beside it. A training step that never waits has wait_s near 0 and full_s large. With wait_s large, the
    largest of read_s and pipeline_s names what holds the loader back.

    Attributes:
        num_batches: Delivered batches.
        num_studies: Studies in them.
        num_replaced: Substitutes in them.
        wait_s: The caller waited for a batch.
        draw_s: Drawing plans and starting reads.
        read_s: Waiting for files and decoding (tensorstore does both on its own threads).
        pipeline_s: Executing plans, copies to the device included.
        full_s: Waiting for the caller to take a finished batch.
    """

    num_batches: int = 0
    num_studies: int = 0
    num_replaced: int = 0
    wait_s: float = 0.0
    draw_s: float = 0.0
    read_s: float = 0.0
    pipeline_s: float = 0.0
    full_s: float = 0.0

    def __add__(self, other: "LoaderStats") -> "LoaderStats":
        return LoaderStats(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))
