"""People in PostgreSQL with pgvector: the store of several machines."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, cast

import numpy as np
import psycopg

from speakervlad.errors import InputError
from speakervlad.people.records import Match
from speakervlad.people.sql import SqlStore

SCHEMA = "speakervlad"
# Step n brings the tables from version n to n + 1.
MIGRATIONS = (
    """
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE people (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name TEXT COLLATE "C" NOT NULL UNIQUE, revision BIGINT NOT NULL
    );
    CREATE TABLE recordings (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        person BIGINT NOT NULL REFERENCES people ON DELETE CASCADE,
        digest TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL, added TEXT NOT NULL,
        note TEXT NOT NULL, voice INTEGER NOT NULL, sums BYTEA NOT NULL
    );
    CREATE TABLE voices (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        person BIGINT NOT NULL REFERENCES people ON DELETE CASCADE,
        number INTEGER NOT NULL, vector vector NOT NULL
    );
    CREATE INDEX recordings_person ON recordings (person);
    CREATE INDEX recordings_digest ON recordings (digest);
    CREATE INDEX voices_person ON voices (person);
    """,
)


class PostgresStore(SqlStore):
    """A store in the schema ``speakervlad`` of a database; pgvector finds the nearest voices.

    Voices are compared one by one, exactly. An index of pgvector (``hnsw`` with
    ``vector_ip_ops``) makes it faster and approximate; whoever needs it creates it.

    Args:
        url: ``postgresql://...``, as libpq takes it.
        create: whether to make the tables where none are.

    Raises:
        InputError: the server cannot be reached, has no pgvector, or newer tables.
    """

    def __init__(self, url: str, *, create: bool) -> None:
        super().__init__(_without_password(url))
        with self._naming():
            self._connection = psycopg.connect(url, autocommit=True)
            try:
                self._prepare(create)
            except BaseException:
                self._connection.close()
                raise

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        cursor = self._connection.execute(_in_psycopg(statement), values)
        return cursor.fetchall() if cursor.description else []

    def run_each(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_in_psycopg(statement), values)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        with self.lock, self._naming():
            idle = self._connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            with self._connection.transaction():
                if write and idle:
                    # As in SQLite: one writer at a time, readers go on.
                    self.run("LOCK TABLE notes IN EXCLUSIVE MODE")
                yield

    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Match]]:
        """See ``SqlStore``."""
        statement = (
            "SELECT p.name, v.vector::text FROM voices v JOIN people p ON p.id = v.person "
            "ORDER BY v.vector <#> ?::vector LIMIT ?"
        )
        found = []
        with self.transaction(write=False):
            for query in vectors:
                rows = self.run(statement, (self.encode_vector(query), count))
                voices = [(name, self.decode_vector(text)) for name, text in rows]
                found.append([Match(name, float(query @ each), each) for name, each in voices])
        return found

    def encode_vector(self, vector: np.ndarray) -> object:
        return f"[{','.join(map(repr, vector.tolist()))}]"

    def decode_vector(self, value: Any) -> np.ndarray:  # noqa: ANN401 - pgvector's text
        return np.array(value.strip("[]").split(","), np.float32)

    def cleaned(self) -> None:
        """Give the rows' space back; the server's log and backups are its administrator's."""
        with self.lock, self._naming():
            for table in ("voices", "recordings", "people"):
                self.run(f"VACUUM FULL {table}")

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    def _prepare(self, create: bool) -> None:
        self.run("SELECT set_config('search_path', ?, false)", (f"{SCHEMA}, public",))
        tables = self.run("SELECT to_regclass(?)", (f"{SCHEMA}.notes",))[0][0]
        if tables is None and not create:
            raise InputError(
                f"{self.where}: holds no store. `speakervlad people add NAME FILE` makes one."
            )
        with self._connection.transaction():
            # Until the end of the transaction, two processes do not migrate at once.
            self.run("SELECT pg_advisory_xact_lock(hashtext(?))", (SCHEMA,))
            self._migrate()

    def _migrate(self) -> None:
        self.run("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
        self.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        self.run("CREATE TABLE IF NOT EXISTS format (version INTEGER NOT NULL)")
        version = next((row[0] for row in self.run("SELECT version FROM format")), 0)
        if version > len(MIGRATIONS):
            raise InputError(
                f"{self.where}: its tables are of version {version}, written by a newer "
                f"speakervlad; this one knows {len(MIGRATIONS)}. Upgrade it."
            )
        for step in MIGRATIONS[version:]:
            for statement in filter(str.strip, step.split(";")):
                self.run(statement)
        if version < len(MIGRATIONS):
            self.run("DELETE FROM format")
            self.run("INSERT INTO format (version) VALUES (?)", (len(MIGRATIONS),))

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.where}: {reason}") from error


def _in_psycopg(statement: str) -> LiteralString:
    """With psycopg's sign for values."""
    return cast(LiteralString, statement.replace("?", "%s"))


def _without_password(url: str) -> str:
    """What messages call the database."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
