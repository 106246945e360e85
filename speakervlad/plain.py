"""Frozen dataclasses to plain containers and back, strictly."""

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar

from speakervlad.errors import InputError, did_you_mean

Schema = TypeVar("Schema")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain containers only: tuples become lists, as JSON and YAML have none."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two configs of one schema."""
    before, after = (dict(_flatten(to_dict(config))) for config in (old, new))
    return {key: (before[key], value) for key, value in after.items() if before.get(key) != value}


def from_dict(schema: type[Schema], values: Any, where: str, prefix: str = "") -> Schema:
    """Build a frozen dataclass from plain containers, strictly.

    Args:
        schema: the dataclass.
        values: a mapping with a subset of its fields.
        where: names the source in messages.
        prefix: dotted path of this section, for messages.

    Raises:
        InputError: unknown key (with the nearest known one) or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: {prefix.rstrip('.') or 'a config'} must be a mapping.")
    hints = typing.get_type_hints(schema)
    for key in values:
        if key not in hints:
            hint = did_you_mean(str(key), hints)
            raise InputError(f"{where}: unknown key {prefix}{key}. {hint}")
    return schema(
        **{key: _convert(value, hints[key], where, prefix + key) for key, value in values.items()}
    )


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where, f"{key}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: {key}={value!r}. {did_you_mean(str(value), arguments)}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, arguments[0], where, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: {key}={value!r} must be a list.")
        return tuple(_convert(item, arguments[0], where, key) for item in value)
    return _convert_scalar(value, hint, where, key)


def _convert_scalar(value: Any, hint: type, where: str, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        kind = {"str": "text", "bool": "true or false"}.get(hint.__name__, hint.__name__)
        raise InputError(f"{where}: {key}={value!r} must be {kind}.")
    return value


def _flatten(values: dict[str, Any], prefix: str = "") -> typing.Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
