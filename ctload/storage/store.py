"""Store: volumes on disk in, boxes of voxels out. Opens, checks, reads; it draws nothing and changes nothing."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ctload.errors import CtloadError, ManifestError
from ctload.geometry import Box
from ctload.process import forkguard
from ctload.process.cores import thread_share
from ctload.storage import layout
from ctload.storage.header import StoreHeader, read_header
from ctload.storage.manifest import Studies
from ctload.storage.manifest_file import read_manifest
from ctload.storage.read_probe import ReadCost, ReadProbe
from ctload.storage.shard_reader import PendingRead, StoredArray, check_shard, open_array, reader_context, start_box

# What finds and checks the files of a study.
_LOCATION = ("study", "path", "depth", "height", "width", "channels", "labels", "metadata_digests")
_MAX_OPEN = 2048  # arrays kept open, about 7 KB each; opening one takes 0.4 ms


def open_store(path: str | Path, *, num_threads: int | None = None, cache_bytes: int = 0) -> "Store":
    """Open a store for reading. The header and the manifest are held against their digests here, everything else
    when it is read.

    Args:
        path: Its folder.
        num_threads: Limit for decoding and for file access; None is one for each core that this process may use,
            divided by LOCAL_WORLD_SIZE where a launcher set it.
        cache_bytes: Memory for decoded chunks, the least recently used go first; each process has its own, worker
            processes and ranks too. Chunks are int16. Worth it where studies are read often and fit; 0 is none, and
            then the system's page cache holds them compressed.

    Raises:
        CtloadError: num_threads below 1, or cache_bytes below 0.
        StoreFormatError: No store, one of a newer format version, or one whose first pack did not end.
        ChecksumError: The header or the manifest is not what was written.
        ForkAfterOpenError: This process was forked after a store had been opened.

    Example:
        >>> store = open_store("chest.zarr")                    # doctest: +SKIP
        >>> store.read("study-1", Box((0, 0, 0), (16, 64, 64))).shape  # doctest: +SKIP
        (16, 64, 64)
    """
    root = Path(path)
    if num_threads is not None and num_threads < 1:
        raise CtloadError(f"num_threads must be at least 1, or None for all cores, got {num_threads}", path=root)
    if cache_bytes < 0:
        raise CtloadError(f"cache_bytes is bytes of memory, or 0 for no cache, got {cache_bytes}", path=root)
    forkguard.enter(root)
    header = read_header(root)
    return Store(root, header, read_manifest(root, header), num_threads, cache_bytes)


class Store:
    """An open store. Safe to read from several threads; a pickled one opens itself again in the other process.

    Attributes:
        path: Its folder.
        uuid: Its identity.
        preset: {"name", "hash", "fields"} of the preset it was packed with.
        studies: All its rows; `start_read` counts rows of this one, whatever selection was made of it.
    """

    def __init__(
        self, path: Path, header: StoreHeader, table: pa.Table, num_threads: int | None, cache_bytes: int = 0
    ) -> None:
        self.path = path
        self.uuid = header.uuid
        self.preset: dict[str, Any] = header.preset
        self.studies = Studies(table.combine_chunks(), self)
        self._num_threads = num_threads
        self._cache_bytes = cache_bytes
        self._context = reader_context(num_threads or thread_share(), cache_bytes)
        self._open = lru_cache(_MAX_OPEN)(self._open_array)

    def __len__(self) -> int:
        return len(self.studies)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} studies, preset {self.preset['name']})"

    def __reduce__(self):
        return (_reopen, (self.path, self._num_threads, self._cache_bytes))

    def where(self, **equals: Any) -> Studies:
        """The studies with these column values; see `Studies.where`."""
        return self.studies.where(**equals)

    def join(
        self, table: pa.Table | Mapping[str, Iterable[Any]], *, on: str = "study", missing: str = "error"
    ) -> Studies:
        """All studies with the columns of an outside table; see `Studies.join`."""
        return self.studies.join(table, on=on, missing=missing)

    def read(
        self, study: str, box: Box | None = None, *, array: str = "0", out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box of a study.

        Args:
            study: Its id.
            box: Voxels (z, y, x), half open; may reach past the volume, fill values are there. None: all of it.
            array: "0" for the volume, "1", "2", ... for further channels, "labels/<name>" for a label map.
            out: (D, H, W) of the box's shape and the array's dtype, C-contiguous; None makes one.

        Returns:
            (D, H, W) int16 (label maps uint8 or uint16): `out`, or a new array. Value in the study's unit =
            stored * scale + offset.

        Raises:
            ManifestError: No such study or array.
            ChecksumError: Bytes on disk are not what was written.
            MissingChunkError: A file or a chunk is gone.
            ForkAfterOpenError: This process was forked after the store had been opened.
        """
        stored = self._open(self.studies.row_of(study), array)
        wanted = Box.whole(stored.shape) if box is None else box
        if out is None:
            out = np.empty(wanted.shape, stored.handle.dtype.numpy_dtype)
        return self._start(stored, wanted, out).result()

    def start_read(self, row: int, box: Box, out: np.ndarray, *, array: str = "0") -> PendingRead:
        """Begin to read a box straight into `out`, and return at once.

        Args:
            row: Row of `Store.studies`.
            box: Voxels (z, y, x), half open; may reach past the volume, fill values are there.
            out: (D, H, W) of the box's shape and the array's dtype, C-contiguous; it belongs to the read until
                `result` of what is returned has come back. A label map may also be read into int16.
            array: As in `read`.

        Raises:
            ChecksumError: The study's metadata, or the size or tail of its shard, is not what was written.
            MissingChunkError: A file is gone. Damage inside the shard shows in `result`.
            ForkAfterOpenError: This process was forked after the store had been opened.
        """
        return self._start(self._open(row, array), box, out)

    def probe_read(self, probe: ReadProbe, row: int, box: Box, out: np.ndarray, *, array: str = "0") -> ReadCost:
        """What a read is made of, measured by steps; arguments and errors as of `start_read`, and OSError."""
        return probe.measure(self._open(row, array), box, out, is_cached=self._cache_bytes > 0)

    def _start(self, stored: StoredArray, box: Box, out: np.ndarray) -> PendingRead:
        forkguard.check(self.path, stored.study)
        check_shard(stored)
        dtype = stored.handle.dtype.numpy_dtype
        is_taken = out.dtype == dtype or (stored.array.startswith(layout.LABEL_PREFIX) and out.dtype == np.int16)
        if out.shape != box.shape or not is_taken or not out.flags.c_contiguous or not out.flags.writeable:
            raise CtloadError(
                f"out must be a writable C-contiguous {dtype} array of the box's shape {box.shape}, "
                f"got {out.dtype} {out.shape}",
                study=stored.study,
                path=self.path,
            )
        return start_box(stored, box, out, self._context)

    def _open_array(self, row: int, array: str) -> StoredArray:
        forkguard.check(self.path)
        table = self.studies.table
        values = {name: table[name][row].as_py() for name in _LOCATION}
        names = layout.array_names(values["channels"], values["labels"])
        if array not in names:
            raise ManifestError(
                f"no array {array!r}; this study has {', '.join(names)}", study=values["study"], path=self.path
            )
        return open_array(
            self.path / values["path"],
            values["study"],
            array,
            shape=layout.shape_of(values),
            digests=layout.metadata_digests(values),
            context=self._context,
        )


def _reopen(path: Path, num_threads: int | None, cache_bytes: int) -> Store:
    return open_store(path, num_threads=num_threads, cache_bytes=cache_bytes)
