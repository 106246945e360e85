"""Schemas, read strictly from plain data: frozen dataclasses, and rows of tables with options.

Ranges stand beside the fields and parameters that they belong to:
``width: Annotated[float, Range(at_least=0.01)] = 1.0``.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from speakervlad.errors import InputError, check_range, did_you_mean

Schema = TypeVar("Schema")


class Range(NamedTuple):
    """Bounds of a number; ``None`` is no bound. NaN is in no range."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    multiple_of: int | None = None

    def check(self, key: str, value: float) -> None:
        """Refuse a number outside of the range.

        Raises:
            InputError: names key, value and range.
        """
        check_range(key, value, **self._asdict())


# Upper bounds are far above any use, and low enough that a mistyped number cannot fill the memory.
Size = Annotated[int, Range(at_least=1, at_most=65_536)]
Count = Annotated[int, Range(at_least=0)]
Positive = Annotated[int, Range(at_least=1)]
Fraction = Annotated[float, Range(at_least=0, at_most=1)]
NonNegative = Annotated[float, Range(at_least=0)]
Seconds = Annotated[float, Range(at_least=0, at_most=3600)]


class Part:
    """One row of a table by its name, and options for it.

    Options are attributes too: ``Part("netvlad", num_clusters=8).num_clusters`` is 8. Which options
    a row has, and their ranges, is known by the table alone: see ``resolve``.
    """

    __slots__ = ("kind", "options")
    kind: str
    options: Mapping[str, Any]

    def __init__(self, kind: str, /, **options: Any) -> None:  # noqa: ANN401 - as the row takes them
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "options", types.MappingProxyType(options))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__") or name not in self.options:
            raise AttributeError(f"{self.kind} has no option {name}")
        return self.options[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Part does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and to_dict(self) == to_dict(other)

    def __hash__(self) -> int:
        return hash((self.kind, *sorted(self.options)))

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        return f"Part({', '.join([repr(self.kind), *options])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Part, self.kind, **self.options), ()


class Row(NamedTuple):
    """Annotates an option that is itself a row of a table: ``Annotated[Part, Row(lambda: TABLE)]``.

    Attributes:
        table: gives the table, which may come to be after the class that has the option.
    """

    table: Callable[[], Mapping[str, Callable[..., Any]]]


def resolve(
    table: Mapping[str, Callable[..., Any]],
    part: Part,
    key: str,
    where: str = "",
    elsewhere: str = "",
) -> Part:
    """The same part with every option of its row: defaults filled in, types and ranges checked.

    The options of a row are the keyword-only parameters of its class that the table does not bind.
    Options that only other rows of the table have are checked and left out: a config may carry them
    along.

    Args:
        table: rows by name.
        part: the row that is asked for.
        key: of the part in its config, for messages.
        where: names the source of the config, for messages.
        elsewhere: where an unknown row may come from, for messages.

    Raises:
        InputError: no such row, an option that no row has, or a value of the wrong type or range.
    """
    prefix = f"{where}: " if where else ""
    if part.kind not in table:
        hint = f"{did_you_mean(part.kind, table)} {elsewhere}".rstrip()
        raise InputError(f"{prefix}{key}.kind={part.kind!r}. {hint}")
    own = options_of(table[part.kind])
    hints = {name: hint for name, (hint, _) in own.items()}
    if not hints.keys() >= part.options.keys():
        hints = {
            name: o[0] for row in table.values() for name, o in options_of(row).items()
        } | hints
    given = {}
    for name, value in part.options.items():
        if name not in hints:
            raise InputError(f"{prefix}unknown key {key}.{name}. {did_you_mean(name, hints)}")
        given[name] = _convert(value, hints[name], where, f"{key}.{name}")
    filled = {
        name: _option(given.get(name, default), hint, default, where, f"{key}.{name}")
        for name, (hint, default) in own.items()
    }
    return Part(part.kind, **filled)


def _option(value: Any, hint: Any, default: Any, where: str, key: str) -> Any:  # noqa: ANN401
    """The value of an option; a row of a table with all of its own options."""
    row = _row(hint)
    if row is None:
        return value
    part = value if isinstance(value, Part) else _part(value, default, where, key)
    return resolve(row.table(), part, key, where)


def _row(hint: Any) -> Row | None:  # noqa: ANN401
    annotations = typing.get_args(hint) if typing.get_origin(hint) is Annotated else ()
    return next((one for one in annotations if isinstance(one, Row)), None)


@functools.cache
def options_of(row: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of every option of a row of a table.

    Raises:
        InputError: an option has no annotation or no default.
    """
    bound = row.keywords if isinstance(row, functools.partial) else {}
    target = row.func if isinstance(row, functools.partial) else row
    hints = typing.get_type_hints(
        target.__init__ if isinstance(target, type) else target, include_extras=True
    )
    options = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or name in bound:
            continue
        if name not in hints or parameter.default is parameter.empty:
            raise InputError(f"{target.__qualname__}: option {name} needs a type and a default.")
        options[name] = hints[name], parameter.default
    return options


def to_dict(config: Any) -> Any:  # noqa: ANN401
    """Plain containers only: tuples become lists, as JSON and YAML have none."""
    if isinstance(config, Part):
        return {"kind": config.kind, **to_dict(dict(config.options))}
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_dict(item) for key, item in config.items()}
    return [to_dict(item) for item in config] if isinstance(config, tuple | list) else config


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:  # noqa: ANN401
    """Dotted keys whose values differ between two configs of one schema."""
    before, after = (dict(flatten(to_dict(config))) for config in (old, new))
    keys = dict.fromkeys([*after, *before])
    pairs = {key: (before.get(key), after.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def from_dict(schema: type[Schema], values: Any, where: str, prefix: str = "") -> Schema:  # noqa: ANN401
    """Build a frozen dataclass from plain containers, strictly.

    Args:
        schema: the dataclass.
        values: a mapping with a subset of its fields.
        where: names the source in messages.
        prefix: dotted path of this section, for messages.

    Raises:
        InputError: unknown key (with the nearest known one), or a value of the wrong type or out of
            its range. The options of a ``Part`` are checked by ``resolve``.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {prefix.rstrip('.') or 'a config'} must be a mapping.")
    hints = typing.get_type_hints(schema, include_extras=True)
    for key in values:
        if key not in hints:
            hint = did_you_mean(str(key), hints)
            raise InputError(f"{where}: unknown key {prefix}{key}. {hint}")
    defaults: dict[str, Any] = {
        f.name: f.default for f in dataclasses.fields(typing.cast("Any", schema))
    }
    return schema(
        **{
            key: _part(value, defaults[key], where, prefix + key)
            if hints[key] is Part
            else _convert(value, hints[key], where, prefix + key)
            for key, value in values.items()
        }
    )


def _part(values: Any, default: Part, where: str, key: str) -> Part:  # noqa: ANN401
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {key} must be a mapping.")
    kind = values.get("kind", default.kind)
    if not isinstance(kind, str):
        raise InputError(f"{where}: {key}.kind={kind!r} must be text.")
    options = dict(default.options) if kind == default.kind else {}
    return Part(kind, **options | {str(k): v for k, v in values.items() if k != "kind"})


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where, f"{key}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    name = f"{where}: {key}" if where else key
    if origin is Annotated:
        # A row of a table is looked at where its default is known.
        return value if _row(hint) else _in_range(value, hint, where, key)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{name}={value!r}. {did_you_mean(str(value), arguments)}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, arguments[0], where, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{name}={value!r} must be a list.")
        return tuple(_convert(item, arguments[0], where, key) for item in value)
    return _convert_scalar(value, hint, name)


def _in_range(value: Any, hint: Any, where: str, key: str) -> Any:  # noqa: ANN401
    kind, bounds = typing.get_args(hint)
    converted = _convert(value, kind, where, key)
    bounds.check(f"{where}: {key}" if where else key, converted)
    return converted


def _convert_scalar(value: Any, hint: type, name: str) -> Any:  # noqa: ANN401
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        kind = {"str": "text", "bool": "true or false"}.get(hint.__name__, hint.__name__)
        raise InputError(f"{name}={value!r} must be {kind}.")
    return value


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Dotted key and value of everything in nested mappings that is no mapping itself."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
