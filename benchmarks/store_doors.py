"""The doors by which a store enters: its manifest, and its JSON metadata. Choices in, a damaged store opened and read.

Half of the damage is forged: the checksums that would give it away are made anew, so that what lies behind them is
met. A forged store is still one of typed errors, or it is read.
"""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from benchmarks.choices import NUMBERS, Choices, edited
from ctload.errors import CtloadError
from ctload.packing.writer import StoreWriter, load_entries
from ctload.storage import layout
from ctload.storage.header import StoreHeader, read_header, write_header
from ctload.storage.journal import PACKED
from ctload.storage.manifest_file import encode_manifest, read_manifest
from ctload.storage.preset import PRESETS
from ctload.storage.store import Store, open_store
from ctload.storage.verification import verify
from ctload.testing import synthetic_prepared

PLAIN = (None, True, "", "x", "../../x", "0", 0.5, -0.0, 1e308, float("nan"), float("inf"), [], {}, [None], {"a": 1})


def make_store(root: Path) -> None:
    """Two small studies, one with a second channel and a label map."""
    shape = (4, 6, 8)
    with StoreWriter(root, PRESETS["native"]) as writer:
        writer.write("a", synthetic_prepared(shape, 1), extra={"split": "train", "age": 61})
        labels = {"body": np.ones(shape, np.uint8)}
        writer.write("b", replace(synthetic_prepared(shape, 2, num_channels=2), labels=labels), extra={"age": 1.5})
        writer.finish()


def use(root: Path) -> None:
    """What training, `ctload verify` and the next pack do with a store."""
    for work in (_read, verify, _pack):
        try:
            work(root)
        except CtloadError:
            continue


def _read(root: Path) -> None:
    store = open_store(root)
    studies = store.studies
    _ = studies.shapes, studies.spacings_mm, studies.affines, studies.fingerprint, store.preset["name"]
    for row in studies.table.select(["study", "channels", "labels"]).to_pylist():
        for name in layout.array_names(row["channels"], row["labels"]):
            _try_array(store, row["study"], name)


def _try_array(store: Store, study: str, name: str) -> None:
    try:
        store.read(study, array=name)
    except CtloadError:
        return


def _pack(root: Path) -> None:
    load_entries(root, read_header(root))


class ManifestDoor:
    """manifest.parquet, its rows or its bytes; the header's digest is always made to fit.

    Args:
        folder: Scratch.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "store"
        make_store(self._root)
        self._header = read_header(self._root)
        self._table = read_manifest(self._root, self._header)

    def attempt(self, choices: Choices) -> None:
        try:
            table = self._table
            for _ in range(choices.number(4)):
                table = _with_damaged_column(table, choices)
            content = encode_manifest(table)
        except (pa.ArrowException, KeyError, TypeError, ValueError, OverflowError):  # a table that Arrow does not make
            content = encode_manifest(self._table)
        if choices.number(2):
            content = edited(content, choices)
        (self._root / layout.MANIFEST).write_bytes(content)
        write_header(self._root, _header_for(self._header, content))
        use(self._root)


def _header_for(header: StoreHeader, manifest: bytes) -> StoreHeader:
    return replace(header, manifest_digests=(xxhash.xxh3_128_hexdigest(manifest),))


def _with_damaged_column(table: pa.Table, choices: Choices) -> pa.Table:
    """A column dropped, doubled, of another type, or with another value in it; or rows dropped or doubled."""
    kind = choices.number(8)
    at = choices.number(table.num_columns)
    name = table.column_names[at]
    if kind == 0:
        return table.remove_column(at)
    if kind == 1:
        return table.append_column(name, table[name])
    if kind == 2:
        return table.take([choices.number(table.num_rows) for _ in range(choices.number(4))]) if len(table) else table
    values = table[name].to_pylist()
    row = choices.number(max(len(values), 1))
    value = choices.pick((*PLAIN, *NUMBERS))
    if values and isinstance(values[row], list) and choices.number(2):
        values[row] = [*values[row][: choices.number(18)], value]
    elif values:
        values[row] = value
    column = pa.array(values) if kind == 3 else pa.array(values, table.schema.field(name).type)
    return table.set_column(at, name, column)


class MetadataDoor:
    """ctload.json, the journal and every zarr.json: nodes replaced, or bytes edited.

    Args:
        folder: Scratch.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "store"
        self._pristine = folder / "pristine"
        make_store(self._pristine)
        names = (layout.HEADER, layout.METADATA, PACKED)
        self._files = sorted(
            path.relative_to(self._pristine) for path in self._pristine.rglob("*") if path.name in names
        )
        self._table = read_manifest(self._pristine, read_header(self._pristine))

    def attempt(self, choices: Choices) -> None:
        shutil.copytree(self._pristine, self._root)
        name = choices.pick(self._files)
        content = (self._root / name).read_bytes()
        if name.name == PACKED:
            damaged = _damaged_line(content, choices)
        elif choices.number(4):
            damaged = _damaged_json(content, choices)
        else:
            damaged = edited(content, choices)
        (self._root / name).write_bytes(damaged)
        if choices.number(4) and name.name == layout.METADATA:
            self._forge(name, damaged)
        use(self._root)
        shutil.rmtree(self._root)

    def _forge(self, name: Path, content: bytes) -> None:
        """Give the manifest the digest of a changed zarr.json, and the header that of the manifest."""
        rows = self._table.to_pylist()
        for row in rows:
            folder = Path(row["path"])
            if name.is_relative_to(folder):
                files = layout.metadata_files(row["channels"], row["labels"])
                at = files.index(name.relative_to(folder).as_posix())
                row["metadata_digests"][at] = xxhash.xxh3_128_hexdigest(content)
        manifest = encode_manifest(pa.Table.from_pylist(rows, schema=self._table.schema))
        (self._root / layout.MANIFEST).write_bytes(manifest)
        write_header(self._root, _header_for(read_header(self._root), manifest))


def _damaged_json(content: bytes, choices: Choices) -> bytes:
    """A JSON document with some of its nodes replaced; a header's checksum is made anew, most of the time."""
    document = json.loads(content)
    checksum = document.pop("checksum", None)
    for _ in range(1 + choices.number(3)):
        document = _with_damaged_node(document, choices)
    if checksum is not None and isinstance(document, dict):
        rest = json.dumps(document, sort_keys=True, indent=1)
        forged = xxhash.xxh3_128_hexdigest(rest.encode()) if choices.number(4) else checksum
        document = {**document, "checksum": forged}
        return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode()
    if choices.number(16) == 0:
        return b"[" * 100_000
    return json.dumps(document, indent=2).encode()


def _with_damaged_node(document: Any, choices: Choices) -> Any:
    """Walk down the document and replace, delete or double what lies there."""
    document = copy.deepcopy(document)
    place = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = choices.pick(keys)
        if isinstance(place[key], dict | list) and place[key] and choices.number(4):
            place = place[key]
            continue
        kind = choices.number(8)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, list):
            place.append(place[key])
        elif kind == 1 and isinstance(place, dict):
            place["unheard of"] = place[key]
        else:
            place[key] = choices.pick((*PLAIN, *NUMBERS))
        return document
    return choices.pick((*PLAIN, *NUMBERS))


def _damaged_line(content: bytes, choices: Choices) -> bytes:
    """A journal with one line changed, its checksum made anew most of the time; or with bytes edited."""
    if choices.number(4) == 0:
        return edited(content, choices)
    lines = content.splitlines(keepends=True)
    at = choices.number(len(lines))
    text = json.dumps(_with_damaged_node(json.loads(lines[at].partition(b" ")[2]), choices)).encode()
    lines[at] = xxhash.xxh3_128_hexdigest(text).encode() + b" " + text + b"\n"
    return b"".join(lines)
