"""The tables of parts by role: the rows of this package, and those that installed packages add.

A package adds a row by an entry point of the group ``speakervlad.parts``, whose name is the role
and the row: ``"pooling.my_vlad" = "my_package:MyVlad"``. See ``docs/extending.md``.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from speakervlad.errors import InputError, first_few
from speakervlad.models.frontend import FRONT_ENDS, FrontEnd
from speakervlad.models.losses import LOSSES
from speakervlad.models.pooling import POOLINGS
from speakervlad.models.trunks import TRUNKS
from speakervlad.schema import Part, resolve

GROUP = "speakervlad.parts"

Row = Callable[..., Any]


class Table(Mapping[str, Row]):
    """Rows of one role by name; a name of this package wins over the same name of another.

    Rows of other packages are imported when they are asked for, and not before.

    Args:
        role: what the names of their entry points begin with.
        own: the rows of this package.
    """

    def __init__(self, role: str, own: Mapping[str, Row]) -> None:
        self.role = role
        self.own = own

    def __getitem__(self, name: str) -> Row:
        if name in self.own:
            return self.own[name]
        found = self._installed()[name]
        packages = sorted({package_of(entry) for entry in found})
        if len(packages) > 1:
            raise InputError(
                f"{self.role} {name!r} is in several packages: {', '.join(packages)}. "
                "Uninstall all but one."
            )
        try:
            return found[0].load()
        except Exception as error:
            # Anything can go wrong in code of others.
            raise InputError(
                f"{self.role} {name!r}: {found[0].value} of the package {packages[0]} cannot be "
                f"imported ({type(error).__name__}: {error})."
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._installed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.own, *self._installed()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def package(self, name: str) -> str | None:
        """The package that a row comes from; None for this one."""
        return None if name in self.own else package_of(self._installed()[name][0])

    def _installed(self) -> dict[str, list[EntryPoint]]:
        """Entry points of this role by the name of their row."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=GROUP):
            role, _, name = entry.name.partition(".")
            if role == self.role and name:
                found.setdefault(name, []).append(entry)
        return found


def package_of(entry: EntryPoint) -> str:
    """The name under which the package of an entry point is installed."""
    return "" if entry.dist is None else entry.dist.name


TABLES: dict[str, Table] = {
    "front_end": Table("front_end", FRONT_ENDS),
    "trunk": Table("trunk", TRUNKS),
    "pooling": Table("pooling", POOLINGS),
    "loss": Table("loss", LOSSES),
}


def complete_part(role: str, part: Part, key: str, where: str = "") -> Part:
    """The part with every option of its row; see ``resolve``.

    Args:
        role: a name of ``TABLES``.
        part: as it was read.
        key: of the part in its config, for messages.
        where: names the source of the config, for messages.

    Raises:
        InputError: the part or an option is unknown, of the wrong type or out of its range; or
            another package's row cannot be imported.
    """
    elsewhere = (
        "If another package has it, install that: no installed one has the entry point "
        f"{role}.{part.kind} of the group {GROUP}."
    )
    return resolve(TABLES[role], part, key, where, elsewhere)


def make_part(role: str, part: Part, *given: int) -> Any:  # noqa: ANN401 - as the row says
    """What a row makes of its options and of the sizes that its role is given.

    Raises:
        InputError: a front end that is no ``FrontEnd``; or as the row does.
    """
    made = TABLES[role][part.kind](*given, **part.options)
    if role == "front_end" and type(made) is not FrontEnd:
        raise InputError(
            f"front end {part.kind!r} is a {type(made).__name__}. It must be a FrontEnd: its "
            "parameters are all that an exported encoder keeps of it."
        )
    return made


def packages_of(parts: Mapping[str, Part]) -> tuple[str, ...]:
    """Names of the packages, other than this one, that parts by role come from."""
    found = {TABLES[role].package(part.kind) for role, part in parts.items()}
    return tuple(sorted(name for name in found if name is not None))


def require_packages(names: tuple[str, ...], where: str) -> None:
    """Refuse parts of packages that are not installed.

    Args:
        names: of the packages that an encoder's config names.
        where: names the config, for the message.

    Raises:
        InputError: names those that are missing.
    """
    if not names:
        return
    known = {package_of(entry) for entry in entry_points(group=GROUP)}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{where}: parts of this encoder are in packages that are not installed: "
            f"{first_few(missing)}. Install them, if you trust their authors: their code will run."
        )
