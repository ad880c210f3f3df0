"""Configurations as JSON and back: every field written, every key checked against the classes when read."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ctclip.errors import ConfigError

T = TypeVar("T")


def to_json(config: Any) -> str:
    """A configuration (a dataclass instance) as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str, kind: type[T], *, path: str | Path | None = None) -> T:
    """A configuration of class `kind` from its JSON.

    Args:
        text: What `to_json` wrote; keys may be missing and then have their defaults.
        kind: A dataclass.
        path: For error messages.

    Raises:
        ConfigError: No JSON, an unknown key, or a value of another type; it names the key and those there are.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error}", path=path) from error
    try:
        return _decode(values, kind, "")
    except ConfigError as error:
        raise ConfigError(error.message, path=path) from error


def differences(left: Any, right: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields in which two configurations of one class differ: dotted name -> (left, right)."""
    found: dict[str, tuple[Any, Any]] = {}
    for item in dataclasses.fields(left):
        name = f"{where}{item.name}"
        ours, theirs = getattr(left, item.name), getattr(right, item.name)
        if dataclasses.is_dataclass(ours):
            found |= differences(ours, theirs, f"{name}.")
        elif ours != theirs:
            found[name] = (ours, theirs)
    return found


def _decode(value: Any, kind: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(value, kind, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(value, arguments, where)
    if origin is Literal:
        return _expect(value in arguments, value, where, f"one of {arguments}")
    if origin is tuple:
        return _decode_tuple(value, arguments, where)
    if origin is dict:
        _expect(isinstance(value, dict), value, where, "a mapping")
        return {key: _decode(entry, arguments[1], f"{where}.{key}") for key, entry in value.items()}
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_expect(is_number, value, where, "a number"))
    is_right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return _expect(is_right, value, where, kind.__name__)


def _decode_dataclass(value: Any, kind: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where or "the configuration", "a mapping")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        name = f"{where}.{unknown[0]}".lstrip(".")
        raise ConfigError(f"unknown key {name!r}; {kind.__name__} has {', '.join(hints)}")
    return kind(**{key: _decode(entry, hints[key], f"{where}.{key}".lstrip(".")) for key, entry in value.items()})


def _decode_union(value: Any, arguments: tuple, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    others = [argument for argument in arguments if argument is not type(None)]
    for other in others[:-1]:
        try:
            return _decode(value, other, where)
        except ConfigError:
            continue
    return _decode(value, others[-1], where)


def _decode_tuple(value: Any, arguments: tuple, where: str) -> tuple:
    _expect(isinstance(value, list | tuple), value, where, "a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    _expect(len(value) == len(arguments), value, where, f"a list of {len(arguments)}")
    return tuple(_decode(entry, kind, where) for entry, kind in zip(value, arguments, strict=True))


def _expect(is_right: bool, value: Any, where: str, wanted: str) -> Any:
    if not is_right:
        raise ConfigError(f"{where} must be {wanted}, got {value!r}")
    return value
