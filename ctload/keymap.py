"""Where the studies of a store came from, kept outside the store: a secret key and the paths it was applied to.

The store itself holds only keyed hashes of the sources' paths, so it can be handed on without folder or file names.
STORE.keys.json lies beside it and stays with whoever may know them.
"""

import hashlib
import json
import secrets
from pathlib import Path

from ctload import durable
from ctload.errors import StoreFormatError

_HASH_BYTES = 8


class KeyMap:
    """The key of one store and the relative path behind each hash."""

    def __init__(self, path: Path, key: bytes, sources: dict[str, str], *, is_new: bool = False) -> None:
        self.path = path
        self.is_new = is_new
        self._key = key
        self._sources = sources

    def add(self, relative: str) -> str:
        """The hash that stands in the store for a source's path relative to what was packed."""
        hashed = hashlib.blake2b(relative.encode(), key=self._key, digest_size=_HASH_BYTES).hexdigest()
        self._sources[hashed] = relative
        return hashed

    def save(self) -> None:
        """Write the map, readable by its owner alone."""
        content = {"key": self._key.hex(), "sources": self._sources}
        durable.replace_file(self.path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode(), mode=0o600)

    def discard(self) -> None:
        """Remove the file of a map that was made for a store that came to nothing."""
        if self.is_new:
            self.path.unlink(missing_ok=True)


def open_keymap(store: Path) -> KeyMap:
    """The key map of a store, a new one where there is none.

    Raises:
        StoreFormatError: The file is there and is no key map.
    """
    path = store.with_name(f"{store.name}.keys.json")
    if not path.exists():
        return KeyMap(path, secrets.token_bytes(32), {}, is_new=True)
    try:
        content = json.loads(path.read_bytes())
        return KeyMap(path, bytes.fromhex(content["key"]), dict(content["sources"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(
            "this is no key map of a store; restore it from a copy, or move it away and a new key is made", path=path
        ) from error
