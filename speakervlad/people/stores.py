"""Where people are kept: a file, or the URL of a PostgreSQL database."""

from pathlib import Path

from speakervlad.extras import require
from speakervlad.people.address import SCHEMES, refuse_other_addresses
from speakervlad.people.sql import SqlStore
from speakervlad.people.sqlite import SqliteStore

POSTGRES_SCHEMES = tuple(f"{scheme}://" for scheme in SCHEMES)
FILE_NAME = "people.db"


def default_path() -> Path:
    """The store that is meant where none is named: in the user's data folder."""
    from platformdirs import user_data_path

    return user_data_path("speakervlad", appauthor=False) / FILE_NAME


def open_store(where: str | Path | None = None, *, create: bool = False) -> SqlStore:
    """Open a store of people.

    Args:
        where: a file, a ``postgresql://`` URL, or None for the user's own.
        create: whether to make an empty one where none is.

    Raises:
        InputError: none there, not a store, damaged, of a newer version, or not accessible; or a
            URL of another kind.
    """
    if isinstance(where, str) and where.startswith(POSTGRES_SCHEMES):
        require("psycopg", "postgres", "a store in PostgreSQL")
        from speakervlad.people.postgres import PostgresStore

        return PostgresStore(where, create=create)
    if where is not None:
        refuse_other_addresses(str(where))
    return SqliteStore(default_path() if where is None else Path(where), create=create)
