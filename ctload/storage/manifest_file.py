"""The manifest on disk, manifest.parquet: rows of the journal in, a checked Arrow table out.

Pages carry checksums and the whole file a digest in the header: of 400 single-bit flips in a default Parquet
file 316 are read without an error.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ctload.errors import ChecksumError, ManifestError, MissingChunkError, StoreFormatError
from ctload.storage import layout
from ctload.storage.header import StoreHeader
from ctload.storage.journal import JournalEntry
from ctload.storage.manifest import SCHEMA, check_manifest


def encode_manifest(table: pa.Table) -> bytes:
    """The bytes of manifest.parquet."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def read_manifest(root: Path, header: StoreHeader) -> pa.Table:
    """Read and check manifest.parquet.

    Raises:
        StoreFormatError: The first pack into this store did not end.
        MissingChunkError: The manifest is gone.
        ChecksumError: It is not what was written.
        ManifestError: It is not what its schema says.
    """
    path = root / layout.MANIFEST
    if not header.manifest_digests:
        raise StoreFormatError(
            "the first pack into this store did not end; run the same `ctload pack` again, it goes on where it was",
            path=root,
        )
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingChunkError("the manifest is gone; pack into this store again to rebuild it", path=path) from error
    except OSError as error:
        raise ManifestError(f"the manifest cannot be read ({error}); see to rights and mounts", path=path) from error
    if xxhash.xxh3_128_hexdigest(content) not in header.manifest_digests:
        raise ChecksumError(
            "the manifest was damaged after it was written; pack into this store again to rebuild it from the journal",
            path=path,
        )
    table = decode_manifest(content, path)
    check_manifest(table, path=str(path))
    return table


def decode_manifest(content: bytes, path: Path) -> pa.Table:
    """The table of a manifest's bytes, page checksums verified.

    Raises:
        ChecksumError: It is no Parquet file, or a page is damaged.
    """
    try:
        # Not pq.read_table, which cuts a million rows into eight pieces that the store would have to join.
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
        names = table.column_names  # as text only here
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ChecksumError(f"the manifest cannot be read ({error}); pack again to rebuild it", path=path) from error
    if "blocks" in names:
        return table
    at = SCHEMA.get_field_index("blocks")
    empty = pa.array([""] * table.num_rows, pa.string())
    return table.add_column(min(at, table.num_columns), "blocks", empty)


def manifest_of(entries: Sequence[JournalEntry]) -> pa.Table:
    """The manifest of these studies: the columns of SCHEMA, then the carried ones by name. Rows as given.

    Raises:
        ManifestError: A carried column has values of types that no column can hold together.
    """
    table = pa.Table.from_pylist([{"blocks": "", **entry.row} for entry in entries], schema=SCHEMA)
    names = sorted({name for entry in entries for name in entry.extra})
    for name in names:
        table = table.append_column(name, _column(name, [entry.extra.get(name) for entry in entries]))
    return table


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        column = pa.array(values)
    except pa.ArrowException as error:
        raise ManifestError(f"the carried column {name!r} mixes types ({error}); give it one type") from error
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def entries_of(table: pa.Table) -> list[JournalEntry]:
    """The journal entries that a manifest holds: the inverse of `manifest_of`."""
    extras = [name for name in table.column_names if name not in SCHEMA.names]
    return [
        JournalEntry({name: row[name] for name in SCHEMA.names}, {name: row[name] for name in extras})
        for row in table.to_pylist()
    ]
