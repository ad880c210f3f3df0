"""The validated table of studies: the only thing a sampler reads.

A manifest is an Arrow table with one row per study and the columns of SCHEMA, plus any column the packing table
carried (split, scanner, ...). Studies is a selection of its rows, with columns joined from outside. This file
knows nothing of voxels.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ctload.errors import ManifestError
from ctload.storage.digests import column_bytes

if TYPE_CHECKING:
    from ctload.storage.store import Store

SCHEMA = pa.schema(
    [
        ("study", pa.string()),
        ("path", pa.string()),  # folder of the volume, relative to the store
        ("depth", pa.int64()),  # shape (D, H, W) in voxels
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("spacing_z_mm", pa.float64()),
        ("spacing_y_mm", pa.float64()),
        ("spacing_x_mm", pa.float64()),
        ("affine", pa.list_(pa.float64())),  # 16 values, row by row: (z, y, x) -> RAS+ mm
        ("unit", pa.string()),  # HU | SUV | arbitrary
        ("scale", pa.float64()),  # value in `unit` = stored * scale + offset
        ("offset", pa.float64()),
        ("fill_value", pa.int64()),  # stored value outside the volume
        ("channels", pa.list_(pa.string())),  # array names inside the volume's group, "0" first
        ("labels", pa.list_(pa.string())),
        ("digest", pa.string()),  # xxh3_128 of all arrays' voxels, channels then labels
        ("metadata_digests", pa.list_(pa.string())),  # xxh3_128 of each zarr.json, as layout.metadata_files orders them
        ("stored_bytes", pa.int64()),  # compressed size of all arrays
        ("preset", pa.string()),  # hash of the preset
        ("source", pa.string()),  # keyed hash of the path relative to SOURCE
        ("source_digest", pa.string()),  # xxh3_128 of the source's bytes
        ("source_affine", pa.list_(pa.float64())),  # before canonicalisation and resampling
        ("num_clipped_low", pa.int64()),
        ("num_clipped_high", pa.int64()),
        ("max_rounding", pa.float64()),  # largest |stored - exact| in stored units; 0 when lossless
        (
            "blocks",
            pa.string(),
        ),  # see ctload/storage/blocks.py; "" in studies packed before there were any
    ]
)

# A volume of nothing but air is 160 times (lz4) to 2400 times (zstd) smaller in a store; beyond this, no volume is.
MAX_RATIO = 1 << 16


class Studies:
    """Rows of a manifest, in a fixed order, with what was joined to them. Immutable.

    Every sampler, crop and loader works on row numbers of one Studies object. `fingerprint` covers the ids, the
    voxel digests and all joined columns, so a saved state can be held against it.
    """

    def __init__(self, table: pa.Table, store: "Store | None" = None) -> None:
        self.table = table
        self.store = store
        self._row_of: dict[str, int] | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"Studies({len(self)} studies, columns: {', '.join(self.table.column_names)})"

    @property
    def ids(self) -> list[str]:
        return self.table["study"].to_pylist()

    def row_of(self, study: str) -> int:
        """Row of a study id.

        Raises:
            ManifestError: No such study here.
        """
        if self._row_of is None:
            self._row_of = {name: row for row, name in enumerate(self.ids)}
        if study not in self._row_of:
            raise ManifestError(
                f"no such study among these {len(self)}; `ctload info STORE --studies` lists the ids",
                study=study,
            )
        return self._row_of[study]

    @cached_property
    def shapes(self) -> np.ndarray:
        """(N, 3) int64, voxels along (z, y, x)."""
        return np.stack([self.column(name) for name in ("depth", "height", "width")], axis=1)

    @cached_property
    def spacings_mm(self) -> np.ndarray:
        """(N, 3) float64, mm along (z, y, x)."""
        return np.stack([self.column(f"spacing_{axis}_mm") for axis in "zyx"], axis=1)

    @property
    def affines(self) -> np.ndarray:
        """(N, 4, 4) float64, voxel index (z, y, x) -> RAS+ mm."""
        flat = self.table["affine"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, 4, 4)

    def column(self, name: str) -> np.ndarray:
        """(N,) values of a column. A null reads as NaN in numbers and as None in strings.

        Raises:
            ManifestError: No such column.
        """
        if name not in self.table.column_names:
            raise ManifestError(
                f"no column {name!r}; there are {', '.join(self.table.column_names)}. "
                "Studies.join(table, on='study') adds columns"
            )
        return self.table[name].to_numpy()

    def take(self, rows: Sequence[int] | np.ndarray) -> "Studies":
        """Some rows, in the order given."""
        return Studies(self.table.take(pa.array(np.asarray(rows, np.int64))), self.store)

    def where(self, **equals: Any) -> "Studies":
        """The studies whose columns have these values; a list, tuple or set means any of its members.

        Raises:
            ManifestError: No such column, or nothing is left.
        """
        mask = np.ones(len(self), bool)
        for name, wanted in equals.items():
            self.column(name)
            many = isinstance(wanted, list | tuple | set | frozenset)
            values = pa.array(list(wanted) if many else [wanted])
            try:
                hit = pc.call_function(
                    "is_in", [self.table[name]], pc.SetLookupOptions(values.cast(self.table[name].type))
                )
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ManifestError(
                    f"column {name!r} holds {self.table[name].type}, cannot be compared with {wanted!r}"
                ) from error
            mask &= hit.to_numpy(zero_copy_only=False)
        if not mask.any():
            raise ManifestError(f"no study has {equals}; there are {len(self)} studies before this filter")
        return self.take(np.flatnonzero(mask))

    def join(
        self, table: pa.Table | Mapping[str, Iterable[Any]], *, on: str = "study", missing: str = "error"
    ) -> "Studies":
        """Add the columns of an outside table: labels, section normality, splits.

        Args:
            table: Arrow table, or a mapping of columns; one row per value of `on`.
            on: The key column, in both.
            missing: "error" refuses studies the table does not know; "null" leaves nulls for them. Rows of the
                table without a study here are ignored.

        Raises:
            ManifestError: A key twice, a column that exists already, or a study without a row.
        """
        outside: pa.Table = pa.table({k: list(v) for k, v in table.items()}) if isinstance(table, Mapping) else table
        if on not in outside.column_names:
            raise ManifestError(f"the joined table has no column {on!r}; it has {outside.column_names}")
        clash = sorted((set(outside.column_names) & set(self.table.column_names)) - {on})
        if clash:
            raise ManifestError(f"columns {clash} exist already; rename them before joining")
        keys = outside[on].to_pylist()
        row_of = {key: row for row, key in enumerate(keys)}
        if len(row_of) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ManifestError(f"the joined table has {on}={twice!r} more than once")
        found = [row_of.get(key) for key in self.table[on].to_pylist()]
        absent = [key for key, row in zip(self.table[on].to_pylist(), found, strict=True) if row is None]
        if absent and missing != "null":
            raise ManifestError(
                f"{len(absent)} of {len(self)} studies have no row in the joined table, the first is "
                f"{absent[0]!r}; add rows, select with Studies.where, or pass missing='null'"
            )
        rows = pa.array(found, pa.int64())
        joined = self.table
        for name in outside.column_names:
            if name != on:
                joined = joined.append_column(name, pc.take(outside[name].combine_chunks(), rows))
        return Studies(joined, self.store)

    @cached_property
    def fingerprint(self) -> str:
        """xxh3_128 over ids, voxel digests and joined columns, in order."""
        digest = xxhash.xxh3_128()
        skip = set(SCHEMA.names) - {"study", "digest", "depth", "height", "width"}
        for name in sorted(self.table.column_names):
            if name not in skip:
                digest.update(name.encode())
                for part in column_bytes(self.table[name]):
                    digest.update(part)
        return digest.hexdigest()


def check_manifest(table: pa.Table, *, path: str) -> None:
    """Check a table against SCHEMA, the rule of one row per study, and what each row needs for its files to be found.

    Raises:
        ManifestError: A missing column, a wrong type, a null, a duplicate study id, or a row that describes no study.
    """
    if len(set(table.column_names)) != len(table.column_names):
        raise ManifestError("a column name stands twice; repack the store", path=path)
    for field in SCHEMA:
        if field.name not in table.column_names:
            raise ManifestError(f"column {field.name!r} is missing; repack the store", path=path)
        if table.schema.field(field.name).type != field.type:
            raise ManifestError(
                f"column {field.name!r} holds {table.schema.field(field.name).type}, needs {field.type}",
                path=path,
            )
        column = table[field.name]
        parts = pc.call_function("list_flatten", [column]) if pa.types.is_list(field.type) else column
        if column.null_count or parts.null_count:
            raise ManifestError(f"column {field.name!r} has nulls; repack the store", path=path)
    _check_rows(table, path)
    if pc.call_function("count_distinct", [table["study"]]).as_py() != table.num_rows:
        ids = table["study"].to_pylist()
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ManifestError("this study id stands twice in the manifest", study=twice, path=path)


def _check_rows(table: pa.Table, path: str) -> None:
    """Refuse rows whose numbers no stored study has."""
    columns = {name: table[name].to_numpy() for name in ("depth", "height", "width", "stored_bytes", "scale", "offset")}
    num_voxels = np.ones(table.num_rows)
    wrong = ~(np.isfinite(columns["scale"]) & (columns["scale"] != 0) & np.isfinite(columns["offset"]))
    for name in ("depth", "height", "width"):
        wrong |= columns[name] < 1
        num_voxels *= columns[name]
    wrong |= 2 * num_voxels > MAX_RATIO * np.maximum(columns["stored_bytes"], 0)
    for axis in "zyx":
        spacing_mm = table[f"spacing_{axis}_mm"].to_numpy()
        wrong |= ~(np.isfinite(spacing_mm) & (spacing_mm > 0))
    for name in ("affine", "source_affine"):
        wrong |= _lengths(table, name) != 16
        values = pc.call_function("list_flatten", [table[name]]).to_numpy()
        if not np.isfinite(values).all():
            raise ManifestError(f"column {name!r} has values that are no numbers; repack the store", path=path)
    wrong |= _lengths(table, "channels") < 1
    # One zarr.json for the group and each array; label maps have a group of their own each, and one for all.
    num_labels = _lengths(table, "labels")
    num_files = 1 + _lengths(table, "channels") + 2 * num_labels + (num_labels > 0)
    wrong |= _lengths(table, "metadata_digests") != num_files
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ManifestError(
            "its shape, spacing, affine, scale, channels or digests are none that a stored study has; repack the store",
            study=table["study"][row].as_py(),
            path=path,
        )


def _lengths(table: pa.Table, name: str) -> np.ndarray:
    """(N,) entries of each row of a list column."""
    return pc.call_function("list_value_length", [table[name]]).to_numpy()
