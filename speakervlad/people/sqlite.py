"""People in one SQLite file: the store of one machine."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.errors import InputError
from speakervlad.people.gallery import Gallery
from speakervlad.people.records import Match
from speakervlad.people.sql import SqlStore

# "SpKV": tells a store from any other SQLite file.
APPLICATION_ID = 0x53704B56
BUSY_SECONDS = 60.0
# Step n brings the tables from version n to n + 1.
MIGRATIONS = (
    """
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE people (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL
    );
    CREATE TABLE recordings (
        id INTEGER PRIMARY KEY,
        person INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,
        digest TEXT NOT NULL, seconds REAL NOT NULL, added TEXT NOT NULL, note TEXT NOT NULL,
        voice INTEGER NOT NULL, sums BLOB NOT NULL
    );
    CREATE TABLE voices (
        id INTEGER PRIMARY KEY,
        person INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,
        number INTEGER NOT NULL, vector BLOB NOT NULL
    );
    CREATE INDEX people_revision ON people (revision);
    CREATE INDEX recordings_person ON recordings (person);
    CREATE INDEX recordings_digest ON recordings (digest);
    CREATE INDEX voices_person ON voices (person);
    """,
)
NOT_OURS = "is no store of people. Name another file with --store."
WAYS_OUT = {
    "SQLITE_NOTADB": NOT_OURS,
    "SQLITE_CORRUPT": "is damaged. Restore a copy, or enrol anew in another file (--store).",
    "SQLITE_FULL": "the disk is full; nothing was changed. Make room.",
    "SQLITE_IOERR": "cannot be read or written (disk full or failing); nothing was changed.",
    "SQLITE_READONLY": "is read-only. Change its permissions and its folder's, or use a copy.",
    "SQLITE_CANTOPEN": "cannot be opened. Check its permissions and its folder's.",
    "SQLITE_BUSY": f"another process has kept it for {BUSY_SECONDS:g} s. Wait for its end.",
}


class SqliteStore(SqlStore):
    """A store in one file, readable and writable by its owner alone (mode 0600).

    Args:
        path: of the file.
        create: whether to make one where none is.

    Raises:
        InputError: no such file, not a store, damaged, of a newer version, or not accessible.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        super().__init__(str(path))
        self._gallery = Gallery()
        self._seen = -1
        _ensure_file(path, create)
        with self._naming():
            writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            self._connection = _connect(path, writable=writable)
            try:
                self._prepare()
                if writable:
                    self._connection.execute("PRAGMA journal_mode = WAL")
            except BaseException:
                self._connection.close()
                raise

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def run_each(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(statement, values)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        with self.lock, self._naming():
            if self._connection.in_transaction:  # of a read within a change
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Match]]:
        """See ``SqlStore``; all voices are kept in memory, 4 bytes a dimension."""
        with self.lock:
            self._refresh()
            found = self._gallery.nearest(vectors, count)
            rows = sorted({row for matches in found for row, _, _ in matches})
            with self.transaction(write=False):
                names = dict(
                    pair
                    for row in rows
                    for pair in self.run("SELECT id, name FROM people WHERE id = ?", (row,))
                )
        return [
            [Match(names[row], cosine, vector) for row, cosine, vector in matches if row in names]
            for matches in found
        ]

    def cleaned(self) -> None:
        """Write the file anew without what was removed, and empty its log.

        Deleted rows are overwritten with zeros (``secure_delete``); copies that moving rows between
        pages may have left go with ``VACUUM``.
        """
        traces = "people were removed, but traces may be left in it until the next change: "
        with self.lock, self._naming(traces):
            self._connection.execute("VACUUM")
            (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise sqlite3.OperationalError("another process is reading")

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    def _refresh(self) -> None:
        """Read the voices of people who have changed since the last time."""
        with self.transaction(write=False):
            notes = dict(self.run("SELECT name, value FROM notes"))
            revision, removed = (int(notes.get(name, 0)) for name in ("revision", "removed"))
            if revision == self._seen:
                return
            if removed > self._seen or revision < self._seen:
                self._gallery, self._seen = Gallery(), -1
            statement = (
                "SELECT v.person, v.vector FROM people p JOIN voices v ON v.person = p.id "
                "WHERE p.revision > ?"
            )
            rows = self.run(statement, (self._seen,))
        owners = np.array([owner for owner, _ in rows], np.int64)
        dim = len(rows[0][1]) // 4 if rows else 0
        if any(len(vector) != 4 * dim for _, vector in rows):
            raise InputError(f"{self.where}: {WAYS_OUT['SQLITE_CORRUPT']}")
        vectors = np.frombuffer(b"".join(vector for _, vector in rows), np.float32)
        self._gallery.replace(owners, vectors.reshape(len(rows), dim))
        self._seen = revision

    def _prepare(self) -> None:
        version = self._version()
        if version < len(MIGRATIONS):
            with self.transaction(write=True):
                # Another process may have been faster.
                for step in MIGRATIONS[self._version() :]:
                    for statement in filter(str.strip, step.split(";")):
                        self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        """The version of the tables; 0 of a file that is empty yet.

        Raises:
            InputError: a file of something else, or of a newer version.
        """
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (application or version or tables):
            raise InputError(f"{self.where}: {NOT_OURS}")
        if version > len(MIGRATIONS):
            raise InputError(
                f"{self.where}: its tables are of version {version}, written by a newer "
                f"speakervlad; this one knows {len(MIGRATIONS)}. Upgrade it."
            )
        return version

    @contextmanager
    def _naming(self, before: str = "") -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            way_out = next((way for kind, way in WAYS_OUT.items() if name.startswith(kind)), None)
            raise InputError(f"{self.where}: {before}{way_out or error}") from error
        # sqlite3 fails to decode its own message where the text in a damaged file is in it.
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where}: {before}{WAYS_OUT['SQLITE_CORRUPT']}") from error


def _ensure_file(path: Path, create: bool) -> None:
    """Make an empty file that only its owner can read; SQLite gives its log the same mode."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file.")
    if path.exists():
        return
    if not create:
        raise InputError(f"{path}: no such store. `speakervlad people add NAME FILE` makes one.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror}).") from error


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection; to a file that cannot be written, one that needs no log beside it."""
    mode = "mode=rw" if writable else "mode=ro&immutable=1"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection
