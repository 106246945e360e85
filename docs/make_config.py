"""Writes ``docs/config.md``, every key of a config, from the schema and the tables of parts.

Run it after a change of either: ``python docs/make_config.py``. A test compares.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from speakervlad.config import Config
from speakervlad.models.tables import TABLES
from speakervlad.schema import Part, Range, Row, options_of, to_dict

PAGE = Path(__file__).with_name("config.md")
HEAD = """# Config

Every key of a training config, made from the schema by `python docs/make_config.py`. A config is a
YAML file; a key that it leaves out has its default, and `speakervlad train CONFIG key=value` gives
it another value. A key or name that does not exist is refused, with the nearest one that does.
Parts of [other packages](extending.md) have the options of their own signatures.
"""
# Config keys that hold a part, and the role of its table.
ROLES = {
    "encoder.front_end": "front_end",
    "encoder.trunk": "trunk",
    "encoder.pooling": "pooling",
    "classifier": "loss",
}
NAMES = {int: "integer", float: "number", bool: "`true` or `false`", str: "text"}
WORDS = {"at_least": "≥ {:g}", "above": "> {:g}", "at_most": "≤ {:g}", "below": "< {:g}"}
ENTRY = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
Maker = Callable[..., Any]


class Key(NamedTuple):
    """One line of a table."""

    name: str
    type: str
    range: str
    default: str
    meaning: str

    def cells(self) -> str:
        """As Markdown."""
        return " | ".join((f"`{self.name}`", *self[1:]))


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *section(Config, "", "The run")])


def section(schema: type, prefix: str, title: str) -> Iterator[str]:
    """The keys of a dataclass, then those of the dataclasses and parts in it."""
    hints, meanings = typing.get_type_hints(schema, include_extras=True), entries(schema)
    keys, below = [], []
    for field in fields(schema):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if is_dataclass(hint):
            below.append(section(typing.cast("type", hint), f"{key}.", f"`{key}`"))
        elif hint is Part:
            below.append(part(key, typing.cast("Part", field.default), meanings[field.name]))
        else:
            keys.append(key_of(key, hint, field.default, meanings[field.name]))
    yield from (f"## {title}", "", f"{markdown(first_sentence(schema))}.", "")
    yield from table([key.cells() for key in keys], "key | type | range | default | meaning")
    for lines in below:
        yield from lines


def part(key: str, default: Part, meaning: str) -> Iterator[str]:
    """The rows of a table of parts, and their options."""
    rows = TABLES[ROLES[key]].own
    given = ", ".join(f"`{name}` {value}" for name, value in default.options.items())
    default_kind = f"`{default.kind}`{f' with {given}' if given else ''}"
    meaning = markdown(meaning)
    yield from (
        f"## `{key}`",
        "",
        f"{meaning[0].upper()}{meaning[1:]}. By default: {default_kind}.",
        "",
    )
    yield from table([f"`{name}` | {described(row)}" for name, row in rows.items()], "kind | what")
    kinds: dict[Key, list[str]] = {}
    for kind, row in rows.items():
        meanings = meanings_of(row)
        for name, (hint, value) in options_of(row).items():
            if name not in meanings:
                raise SystemExit(
                    f"{key} {kind}: `{name}` has no line under Args: of its docstring."
                )
            option = key_of(f"{key}.{name}", hint, value, meanings[name])
            kinds.setdefault(option, []).append(f"`{kind}`")
    lines = [
        f"{option.cells()} | {'all' if len(names) == len(rows) else ', '.join(names)}"
        for option, names in sorted(kinds.items(), key=lambda item: item[0].name)
    ]
    yield from table(lines, "key | type | range | default | meaning | kinds")


def table(lines: list[str], head: str) -> Iterator[str]:
    """A table of Markdown, and an empty line."""
    rule = "|".join("---" for _ in head.split("|"))
    yield from (f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in lines), "")


def key_of(name: str, hint: Any, default: Any, meaning: str) -> Key:  # noqa: ANN401
    """One key from its annotation."""
    kind, bounds = words_of(hint)
    return Key(name, kind, bounds, shown(default), markdown(meaning))


def words_of(hint: Any) -> tuple[str, str]:  # noqa: ANN401
    """Type and range of an annotation in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated and isinstance(arguments[1], Row):
        return "a part: `kind` and its options", ", ".join(
            f"`{name}`" for name in arguments[1].table()
        )
    if origin is Annotated:
        kind, _ = words_of(arguments[0])
        return kind, range_of(arguments[1])
    if origin is Literal:
        *others, last = [f"`{one}`" for one in arguments]
        return f"{', '.join(others)} or {last}", ""
    if origin in (types.UnionType, typing.Union):
        kind, bounds = words_of(arguments[0])
        return f"{kind}, or `null`", bounds
    if origin is tuple:
        kind, bounds = words_of(arguments[0])
        return f"list of {kind}", bounds
    return NAMES[hint], ""


def range_of(bounds: Range) -> str:
    """The bounds of a number."""
    found = [words.format(getattr(bounds, name)) for name, words in WORDS.items()
             if getattr(bounds, name) is not None]  # fmt: skip
    if bounds.multiple_of is not None:
        found.append(f"a multiple of {bounds.multiple_of}")
    return ", ".join(found)


def shown(value: Any) -> str:  # noqa: ANN401
    """A default as YAML would have it."""
    plain = to_dict(value)
    if plain is None or isinstance(plain, bool):
        return f"`{str(plain).lower().replace('none', 'null')}`"
    if isinstance(plain, list):
        return f"`[{', '.join(map(str, plain))}]`"
    if isinstance(plain, dict):
        return f"`{{{', '.join(f'{name}: {one}' for name, one in plain.items())}}}`"
    if isinstance(plain, float):
        return f"`{plain:.6g}`"
    return f"`{plain}`" if plain != "" else "empty"


def described(row: Maker) -> str:
    """The first sentence of a row's class or function, and the plain values that the row binds."""
    bound = row.keywords if isinstance(row, functools.partial) else {}
    values = [f"{name} {value}" for name, value in bound.items() if isinstance(value, int | str)]
    return markdown(first_sentence(target_of(row))) + (f" ({', '.join(values)})" if values else "")


def first_sentence(documented: Any) -> str:  # noqa: ANN401 - a class or a function
    """The first paragraph of a docstring."""
    return inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0]


def meanings_of(row: Maker) -> Mapping[str, str]:
    """What the options of a row mean, by its docstring and those of what it derives from."""
    target = target_of(row)
    classes = target.__mro__[:-1] if isinstance(target, type) else (target, made_by(target))
    known = [entries(each) for each in classes]
    return {name: text for each in reversed(known) for name, text in each.items()}


def made_by(function: Callable[..., Any]) -> type:
    """The class of what a function returns."""
    return typing.get_type_hints(function)["return"]


def target_of(row: Maker) -> Any:  # noqa: ANN401 - a class or a function
    """The class or function of a row."""
    return row.func if isinstance(row, functools.partial) else row


def entries(documented: Any) -> dict[str, str]:  # noqa: ANN401
    """Names and texts of the sections ``Args`` and ``Attributes`` of a docstring."""
    text = inspect.cleandoc(documented.__doc__ or "")
    found = {}
    for heading in ("Args:\n", "Attributes:\n"):
        _, _, rest = text.partition(heading)
        block = re.split(r"^\S", rest, maxsplit=1, flags=re.MULTILINE)[0]
        found |= {name: " ".join(words.split()) for name, words in ENTRY.findall(block)}
    return found


def markdown(text: str) -> str:
    """One line, for a cell of a table."""
    line = " ".join(text.replace("``", "`").replace("|", "\\|").split())
    return line if line.endswith("...") else line.removesuffix(".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
