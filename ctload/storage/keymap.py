"""Where the studies of a store came from, kept outside the store: a secret key and the paths it was applied to.

The store itself holds only keyed hashes of the sources' paths and of DICOM UIDs, so it can be handed on without
folder or file names. STORE.keys.json lies beside it and stays with whoever may know them; TABLE.keys.json of a scan
table holds the same key, so that the ids in the table are those in the store.
"""

import hashlib
import json
import os
import secrets
import uuid
from pathlib import Path

from ctload.errors import CtloadError, StoreFormatError
from ctload.storage import durable

_HASH_BYTES = 8
_SUFFIX = ".keys.json"


def keyed_hash(text: str, key: bytes) -> str:
    """16 hex digits of BLAKE2b of a text, keyed: the same for the same key, and nothing without it."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), key=key[:64], digest_size=_HASH_BYTES).hexdigest()


class KeyMap:
    """The key of one store and the relative path behind each hash."""

    def __init__(self, path: Path, key: bytes, sources: dict[str, str], *, is_new: bool = False) -> None:
        self.path = path
        self.key = key
        self.sources = sources
        self.is_new = is_new

    def hashed(self, relative: str) -> str:
        """The hash that stands in the store for a source's path relative to what was packed."""
        return keyed_hash(relative, self.key)

    def add(self, relative: str) -> str:
        """`hashed`, and the map remembers what it stands for."""
        hashed = self.hashed(relative)
        self.sources[hashed] = relative
        return hashed

    def forget(self, hashed: str) -> None:
        """No longer tell what a hash stands for."""
        self.sources.pop(hashed, None)

    def save(self) -> None:
        """Write the map, readable by its owner alone."""
        durable.replace_file(self.path, self._content(), mode=0o600)

    def discard(self) -> None:
        """Remove the file of a map that was made for a store that came to nothing."""
        if self.is_new:
            self.path.unlink(missing_ok=True)

    def _content(self) -> bytes:
        content = {"key": self.key.hex(), "sources": self.sources}
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    def create(self) -> "KeyMap":
        """Write a new map; where another process was faster, that one's key counts."""
        beside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        durable.replace_file(beside, self._content(), mode=0o600)
        try:
            os.link(beside, self.path)
        except FileExistsError:
            return read_keymap(self.path)
        finally:
            beside.unlink(missing_ok=True)
        return self


def keymap_path(beside: Path) -> Path:
    """Where the key map of a store or of a scan table lies."""
    return beside.with_name(f"{beside.name}{_SUFFIX}")


def is_keymap(path: Path) -> bool:
    """Whether a file is named as the key map of a store or a table."""
    return path.name.endswith(_SUFFIX)


def open_keymap(beside: Path, *, key: bytes | None = None) -> KeyMap:
    """The key map of a store or a scan table, a new one where there is none.

    Args:
        beside: The store or the table.
        key: The key it must have; None takes the one that is there, or a random one.

    Raises:
        StoreFormatError: The file is there and is no key map.
        CtloadError: It has another key.
    """
    path = keymap_path(beside)
    if not path.exists():
        return KeyMap(path, key or secrets.token_bytes(32), {}, is_new=True)
    found = read_keymap(path)
    if key is not None and found.key != key:
        raise CtloadError(
            "this key map has another key than the one asked for (--keys, or the key map beside the scan table), so "
            "the same series would get other ids; use one key for one store, or pack into another store",
            path=path,
        )
    return found


def read_keymap(path: Path) -> KeyMap:
    """A key map that must be there.

    Raises:
        StoreFormatError: It is not, or is no key map.
    """
    try:
        content = json.loads(path.read_bytes())
        return KeyMap(path, bytes.fromhex(content["key"]), dict(content["sources"]))
    except FileNotFoundError as error:
        raise StoreFormatError(
            "there is no key map here; it is made by `ctload scan` and `ctload pack`, beside the table and the store",
            path=path,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(
            "this is no key map of a store; restore it from a copy, or move it away and a new key is made", path=path
        ) from error
