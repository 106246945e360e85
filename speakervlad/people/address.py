"""The URL of a database: read without libpq, whose messages quote passwords; shown without them."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from speakervlad.errors import InputError

SCHEMES = ("postgresql", "postgres")
# Seconds until a server that does not answer is given up, if the URL says nothing else.
PATIENCE = "10"
# What a URL, or a pathlib.Path of one, begins with; a drive of Windows is one letter.
URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+")
# Settings of libpq, which may hold a password.
SETTINGS = re.compile(r"\b(password|host|user|dbname)\s*=")
HOST = r"(\[[0-9a-fA-F:.%]+\]|[\w.%-]*)(?::(\d+))?"
# Hosts with ports, and a database.
PLACE = re.compile(rf"({HOST}(?:,{HOST})*)(?:/([^?#@/]*))?")
HOW = (
    "write postgresql://user:password@host/database, with the special characters of user and "
    "password as %2F and the like."
)


@dataclass(frozen=True)
class Address:
    """Where a database is.

    Attributes:
        shown: what messages call it: hosts and database, never user, password or settings.
        parameters: as ``psycopg.connect`` takes them.
    """

    shown: str
    parameters: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``postgresql://user:password@host:port/database?setting=value``.

        A password may hold any character as it is: it ends at the last ``@``.

        Raises:
            InputError: it cannot be read; the message holds nothing of it.
        """
        scheme, _, rest = url.partition("://")
        before, _, query = rest.partition("?")
        login, _, place = before.rpartition("@")
        # Else the question mark is one of the password.
        if not re.match(r"\w+=", query) or not PLACE.fullmatch(place):
            login, _, place = rest.rpartition("@")
            place, _, query = place.partition("?")
        found = PLACE.fullmatch(place)
        if found is None:
            raise InputError(f"{scheme}://...: the URL of the database cannot be read: {HOW}")
        hosts, database = found[1], unquote(found[found.re.groups] or "")
        each = [part for host in hosts.split(",") if (part := re.fullmatch(HOST, host))]
        user, _, password = login.partition(":")
        given = {
            "host": ",".join(unquote(part[1].strip("[]")) for part in each),
            "port": ",".join(part[2] or "" for part in each).strip(","),
            "user": unquote(user),
            "password": unquote(password),
            "dbname": database,
        }
        parameters = {key: value for key, value in given.items() if value}
        parameters = {"connect_timeout": PATIENCE} | parameters | _settings(query)
        return cls(f"{scheme}://{hosts}{'/' if database else ''}{database}", parameters)

    def without_secrets(self, text: str) -> str:
        """A message of the server without the password, should it quote it."""
        password = self.parameters.get("password")
        return text.replace(password, "***") if password else text


def _settings(query: str) -> dict[str, str]:
    """What stands behind the question mark; a plus sign is one, other than in forms."""
    pairs = (setting.partition("=") for setting in query.split("&") if setting)
    return {unquote(key): unquote(value) for key, _, value in pairs}


def refuse_other_addresses(where: str) -> None:
    """Refuse what looks like the address of a database that is none of ours.

    It would become the name of a file, with a password in it. The message quotes the scheme alone.

    Raises:
        InputError: it does.
    """
    found = URL.match(where)
    if found is not None:
        raise InputError(
            f"{found[1]}://...: is neither a file nor the URL of a store. Name a file, or {HOW}"
        )
    if SETTINGS.search(where) and " " in where.strip():
        raise InputError(f"settings of a database are no store. Name a file, or {HOW}")
