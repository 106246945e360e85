"""People in one SQLite file: the store of one machine."""

import logging
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.errors import InputError
from speakervlad.files import create as create_file
from speakervlad.people.gallery import Gallery
from speakervlad.people.records import UNIT_SLACK, Match
from speakervlad.people.sql import SqlStore

logger = logging.getLogger(__name__)

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
# Everything in a file but what SQLite keeps for itself: statistics of ``ANALYZE``.
SCHEMA = (
    "SELECT type, name, sql FROM sqlite_master "
    "WHERE type <> 'table' OR name NOT IN ('sqlite_stat1', 'sqlite_stat4')"
)
# Rights of the group and of all others.
OTHERS = 0o077
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
        # SQLite's log lies beside the file itself, not beside a link to it.
        path = path.resolve()
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
        _keep_from_others(path)

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
            header = self._header()
            revision = header.revision
            if revision == self._seen:
                return
            if header.removed > self._seen or revision < self._seen:
                self._gallery, self._seen = Gallery(), -1
            statement = (
                "SELECT v.person, p.name, v.vector FROM people p JOIN voices v ON v.person = p.id "
                "WHERE p.revision > ?"
            )
            rows = self.run(statement, (self._seen,))
        owners = np.array([owner for owner, _, _ in rows], np.int64)
        self._gallery.replace(owners, self._checked([row[1:] for row in rows], header.dim))
        self._seen = revision

    def _checked(self, voices: list[tuple[str, bytes]], dim: int) -> np.ndarray:
        """Voices with their owners' names as float32 (voices, dim); all at once where none is bad.

        Raises:
            InputError: one is damaged.
        """
        values = [value for _, value in voices]
        if all(isinstance(value, bytes) and len(value) == 4 * dim for value in values):
            vectors = np.frombuffer(b"".join(values), np.float32).reshape(len(values), dim)
            with np.errstate(over="ignore"):
                lengths = np.linalg.norm(vectors, axis=1)
            if (np.abs(lengths - 1) <= UNIT_SLACK / 2).all():
                return vectors
        # One by one, which is slower and finds whose it is.
        return np.stack([self.checked_vector(name, value, dim) for name, value in voices])

    def _prepare(self) -> None:
        if self._version() < len(MIGRATIONS):
            with self.transaction(write=True):
                # Another process may have been faster.
                _migrate(self._connection, self._version())

    def _version(self) -> int:
        """The version of the tables.

        Raises:
            InputError: a file of something else, of a newer version, or with something in it that
                no store has: a trigger would change what is asked, a table of another kind would
                answer in the place of ours.
        """
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise InputError(f"{self.where}: {NOT_OURS}")
        if version > len(MIGRATIONS):
            raise InputError(
                f"{self.where}: its tables are of version {version}, written by a newer "
                f"speakervlad; this one knows {len(MIGRATIONS)}. Upgrade it."
            )
        with closing(_in_memory(version)) as expected:
            others = set(self.run(SCHEMA)) ^ set(expected.execute(SCHEMA))
        if others:
            kind, name, _ = min(others, key=lambda each: (each[0] != "trigger", str(each)))
            raise InputError(
                f"{self.where}: its {kind} {name} is not as a store of people has it. Somebody "
                "changed the file: restore a copy."
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
    """Make a store that only its owner can read; SQLite gives its log the same mode."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file.")
    if path.exists():
        if not path.stat().st_size:
            raise InputError(
                f"{path}: is empty (0 bytes), and {NOT_OURS.removesuffix('.')}, or remove it."
            )
        return
    if not create:
        raise InputError(
            f"{path}: no such store. Check the path, or make it: `speakervlad people add NAME FILE "
            f"--store {path}`."
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(_in_memory(len(MIGRATIONS))) as made:
            create_file(path, made.serialize(), mode=0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror}).") from error


def _in_memory(version: int) -> sqlite3.Connection:
    """An empty store with the tables of a version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(connection, 0, version)
    return connection


def _migrate(connection: sqlite3.Connection, version: int, wanted: int | None = None) -> None:
    """Bring the tables from a version to another, the newest by default."""
    steps = MIGRATIONS[version:wanted]
    for statement in filter(str.strip, ";".join(steps).split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version + len(steps)}")


def _keep_from_others(path: Path) -> None:
    """Take the rights of everybody else from a store that was copied or restored with some."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name != "posix" or not mode & OTHERS:
        return
    try:
        for end in ("", "-wal", "-shm"):
            beside = path.with_name(path.name + end)
            if beside.exists():
                beside.chmod(stat.S_IMODE(beside.stat().st_mode) & ~OTHERS)
        now = f"its mode is {mode & ~OTHERS:04o} now"
    except OSError as error:
        now = f"that cannot be changed ({error.strerror})"
    logger.warning("%s: was open to others (mode %04o), voices and all; %s", path, mode, now)


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection; to a file that cannot be written, one that needs no log beside it.

    Raises:
        InputError: what was changed last is in a log that cannot be read without writing.
    """
    if writable:
        return _opened(path, "mode=rw")
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        return _opened(path, "mode=ro&immutable=1")
    try:
        connection = _opened(path, "mode=ro")
        connection.execute("SELECT COUNT(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        raise InputError(
            f"{path}: is read-only, and its last changes are in {log.name}, which cannot be read "
            "without writing. Make both and their folder writable, or copy both to another folder."
        ) from error
    return connection


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection
