"""The header of a store, ctload.json: format version, uuid, preset, and the digest of the manifest.

The manifest in turn holds the digest of every study's metadata and voxels, so the header covers each file of the
store. It covers itself by a checksum over its own canonical text: no flipped bit passes.
"""

import json
import uuid
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import xxhash

from ctload.errors import ChecksumError, StoreFormatError
from ctload.storage import durable, layout


class NamedPreset(Protocol):
    """What a store keeps of a preset: its name, its hash, and its fields if it is a dataclass."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...


_PRESET_KINDS = {"name": str, "hash": str, "fields": dict}


@dataclass(frozen=True)
class StoreHeader:
    """Contents of ctload.json.

    Attributes:
        uuid: Identity of the store, made when it was created.
        preset: {"name": ..., "hash": ..., "fields": {...}} of the preset that all volumes were packed with.
        profile: Name of the codec profile.
        manifest_digests: xxh3_128 of manifest.parquet. Two while the manifest is being replaced; none before the
            first pack ended.
        num_studies: Rows of the manifest.
        format_version: Version of the layout of the store.
    """

    uuid: str
    preset: dict[str, Any]
    profile: str
    manifest_digests: tuple[str, ...] = ()
    num_studies: int = 0
    format_version: int = layout.FORMAT_VERSION


def new_header(preset: NamedPreset, profile: str) -> StoreHeader:
    """Header of a store that has no study yet."""
    fields = asdict(preset) if is_dataclass(preset) and not isinstance(preset, type) else {}
    plain = json.loads(json.dumps(fields))  # tuples as lists, as they will be read back
    return StoreHeader(uuid.uuid4().hex, {"name": preset.name, "hash": preset.hash, "fields": plain}, profile)


def write_header(root: Path, header: StoreHeader) -> None:
    """Put ctload.json in place in one step."""
    durable.replace_file(root / layout.HEADER, _encode(asdict(header)))


def read_header(root: Path) -> StoreHeader:
    """Read and check ctload.json.

    Raises:
        StoreFormatError: No store here, or one of a newer format version.
        ChecksumError: The header is not what was written.
    """
    path = root / layout.HEADER
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreFormatError(
            f"no ctload store here, {layout.HEADER} is missing; make one with `ctload pack SOURCE --out STORE`",
            path=root,
        ) from error
    except OSError as error:
        raise StoreFormatError(f"the header cannot be read ({error}); see to rights and mounts", path=path) from error
    return _decode(content, path)


def _decode(content: bytes, path: Path) -> StoreHeader:
    damaged = ChecksumError(
        "the header was damaged after it was written; restore this file from a copy, or pack into a new folder",
        path=path,
    )
    try:
        fields = json.loads(content)
        version = fields["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged from error
    if isinstance(version, int) and version > layout.FORMAT_VERSION:
        raise StoreFormatError(
            f"the store has format version {version}, this ctload reads up to {layout.FORMAT_VERSION}; "
            "update ctload (pip install -U ctload), or pack the sources again with this one",
            path=path,
        )
    checksum = fields.pop("checksum", None)
    if checksum is None or _encode(fields) != content:
        raise damaged
    if not _is_header(fields):
        raise StoreFormatError(
            f"its fields are not those of format version {layout.FORMAT_VERSION}; another program wrote this file: "
            "restore it from a copy, or pack the sources again",
            path=path,
        )
    return StoreHeader(**{**fields, "manifest_digests": tuple(fields["manifest_digests"])})


def _is_header(fields: dict[str, Any]) -> bool:
    """Whether these are the fields of a StoreHeader, each of its type."""
    kinds = {"uuid": str, "preset": dict, "profile": str, "manifest_digests": list, "num_studies": int}
    kinds["format_version"] = int
    return (
        fields.keys() == kinds.keys()
        and all(type(fields[name]) is kind for name, kind in kinds.items())
        and all(type(fields["preset"].get(name)) is kind for name, kind in _PRESET_KINDS.items())
        and all(type(digest) is str for digest in fields["manifest_digests"])
    )


def _encode(fields: dict[str, Any]) -> bytes:
    """Canonical text of the header, the checksum of the rest among its fields."""
    rest = json.dumps(fields, sort_keys=True, indent=1)
    checksum = xxhash.xxh3_128_hexdigest(rest.encode())
    return (json.dumps({**fields, "checksum": checksum}, sort_keys=True, indent=1) + "\n").encode()
