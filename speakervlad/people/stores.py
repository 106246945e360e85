"""Where people are kept: a file."""

from pathlib import Path

from speakervlad.people.sql import SqlStore
from speakervlad.people.sqlite import SqliteStore

FILE_NAME = "people.db"


def default_path() -> Path:
    """The store that is meant where none is named: in the user's data folder."""
    from platformdirs import user_data_path

    return user_data_path("speakervlad", appauthor=False) / FILE_NAME


def open_store(where: str | Path | None = None, *, create: bool = False) -> SqlStore:
    """Open a store of people.

    Args:
        where: a file, or None for the user's own.
        create: whether to make an empty one where none is.

    Raises:
        InputError: none there, not a store, damaged, of a newer version, or not accessible.
    """
    return SqliteStore(default_path() if where is None else Path(where), create=create)
