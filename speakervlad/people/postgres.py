"""People in PostgreSQL with pgvector: the store of several machines."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, cast

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from speakervlad.errors import InputError
from speakervlad.people.address import Address
from speakervlad.people.records import UNIT_SLACK, Match
from speakervlad.people.sql import SqlStore

logger = logging.getLogger(__name__)

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
    "CREATE INDEX people_revision ON people (revision);",
)
# From so many voices on an index finds them: a scan of 100,000 takes 52 ms of the processor, a
# search of their index 38 ms (benchmarks/RESULTS.md).
INDEXED_FROM = 100_000
# Of the index: neighbours of a voice, and how many are looked at when one is added. With 16 and 128
# it missed the right person of 6 recordings in 2,500, with these of none in 1,500.
NEIGHBOURS, BUILD_WIDTH = 32, 160
# Voices that the index is asked for, 1,000 at most: their cosines are then computed in full
# precision.
SEARCH_WIDTH = 400
# The first pgvector with halfvec, in which the index is half as large.
LEAST_PGVECTOR = (0, 7)
INDEX = "voices_near"
# States that no connection is in between two transactions.
STUCK = (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)

# Rows that are sent at once.
COPY_ROWS = 1000

# By name, exactly; names are looked up of those found alone.
SEARCH = (
    "SELECT p.name, v.vector::text FROM (SELECT person, vector, vector <#> ?::vector AS far "
    "FROM voices ORDER BY far LIMIT ?) v JOIN people p ON p.id = v.person ORDER BY v.far"
)

# Our tables that are no plain tables, or that a trigger or a rule answers for.
FOREIGN = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ? AND c.relname IN ('notes', 'people', 'recordings', 'voices', 'format')
AND (c.relkind <> 'r' OR c.relhasrules OR EXISTS (
    SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))
"""


class PostgresStore(SqlStore):
    """A store in the schema ``speakervlad`` of a database; pgvector finds the nearest voices.

    Up to ``INDEXED_FROM`` voices are compared one by one. From there on pgvector's HNSW index
    (Malkov and Yashunin, 2018), over voices in half precision, gives the ``SEARCH_WIDTH`` nearest
    ones, which are compared exactly. The next search makes the index, once.

    A connection that was lost is opened again by whatever is asked next.

    Args:
        url: ``postgresql://...``, see ``Address``.
        create: whether to make the tables where none are.

    Raises:
        InputError: the server cannot be reached, has no pgvector, or newer tables; or something
            changes what is asked of the tables: a trigger, a rule, a table of another kind.
    """

    def __init__(self, url: str, *, create: bool) -> None:
        self._address = Address.parse(url)
        super().__init__(self._address.shown)
        self._inside, self._checked = False, -1
        with self._naming():
            self._connection = self._connect()
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
        with self.lock:
            if self._inside:  # of a read within a change
                yield
                return
            with self._naming():
                self._revive()
                self._inside = True
                try:
                    with self._connection.transaction():
                        if write:
                            # As in SQLite: one writer at a time, readers go on.
                            self.run("LOCK TABLE notes IN EXCLUSIVE MODE")
                        yield
                finally:
                    self._inside = False

    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Match]]:
        """See ``SqlStore``."""
        found = []
        header = self.header()
        # The index is asked for no more than so many.
        pays = header.num_voices >= INDEXED_FROM and count <= SEARCH_WIDTH
        indexed = pays and self._indexed(header.dim)
        with self.transaction(write=False):
            self._check_voices()
            if indexed:
                self.run(f"SET LOCAL hnsw.ef_search = {SEARCH_WIDTH}")
            statement = _indexed_search(header.dim) if indexed else SEARCH
            for query in vectors:
                text = self.encode_vector(query)
                near = (text, SEARCH_WIDTH) if indexed else ()
                rows = self.run(statement, (text, *near, count))
                voices = [(name, self.decode_vector(text)) for name, text in rows]
                found.append([Match(name, float(query @ each), each) for name, each in voices])
        return found

    def _indexed(self, dim: int) -> bool:
        """Whether there is an index, which is made now if there is none.

        Another process may make it meanwhile, and then this one waits for it.
        """
        with self.transaction(write=False):
            if self.run("SELECT to_regclass(?)", (f"{SCHEMA}.{INDEX}",))[0][0] is not None:
                return True
            version = self.run("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        if tuple(map(int, version[0][0].split(".")[:2])) < LEAST_PGVECTOR:
            logger.warning("%s: pgvector %s has no halfvec: no index.", self.where, version[0][0])
            return False
        logger.info("%s: making the index of voices, once", self.where)
        try:
            self._make_index(dim)
        except InputError as error:
            # In containers, which give 64 MB to what workers share.
            if "shared memory" not in str(error):
                raise
            self._make_index(dim, workers=0)
        return True

    def _make_index(self, dim: int, workers: int | None = None) -> None:
        """Make the index, with the server's own number of parallel workers or another."""
        with self.transaction(write=True):
            if workers is not None:
                self.run(f"SET LOCAL max_parallel_maintenance_workers = {workers}")
            # All of the graph in memory, bytes of a voice and its neighbours; else it takes hours.
            needed = self._header().num_voices * (2 * dim + 40 * NEIGHBOURS + 300)
            self.run(f"SET LOCAL maintenance_work_mem = '{max(64, needed >> 20)}MB'")
            self.run(
                f"CREATE INDEX IF NOT EXISTS {INDEX} ON voices USING hnsw "
                f"((vector::halfvec({dim})) halfvec_ip_ops) "
                f"WITH (m = {NEIGHBOURS}, ef_construction = {BUILD_WIDTH})"
            )

    def load(self, names: Sequence[str], vectors: np.ndarray, encoder: tuple[str, str, int]) -> int:
        """See ``SqlStore``; by COPY."""
        with self.transaction(write=True):
            header = self._begin_load(encoder)
            revision = header.revision + 1
            first = self.run("SELECT COALESCE(MAX(id), 0) FROM people")[0][0] + 1
            if len(names) > header.num_voices:
                # Built anew, by the next search, in less time than so many take one by one.
                self.run(f"DROP INDEX IF EXISTS {INDEX}")
            columns = "people (id, name, revision) FROM STDIN"
            with self._connection.cursor() as cursor:
                with cursor.copy(f"COPY {columns}") as copy:
                    for row, name in enumerate(names, first):
                        copy.write_row((row, name, revision))
                columns = "voices (person, number, vector) FROM STDIN (FORMAT BINARY)"
                with cursor.copy(f"COPY {columns}") as copy:
                    for piece in _binary_rows(first, vectors):
                        copy.write(piece)
                cursor.execute(
                    "SELECT setval(pg_get_serial_sequence('people', 'id'), "
                    "(SELECT MAX(id) FROM people))"
                )
            self._note([("revision", revision)])
        return len(names)

    def _check_voices(self) -> None:
        """Refuse damaged voices, of people who have changed since the last time.

        Raises:
            InputError: one is not of unit length, or of another size.
        """
        header = self._header()
        if header.revision == self._checked:
            return
        bad = self.run(
            "SELECT p.name, v.vector::text FROM voices v JOIN people p ON p.id = v.person "
            "WHERE (vector_dims(v.vector) <> ? OR NOT abs(vector_norm(v.vector) - 1) <= ?) "
            "AND p.revision > ? ORDER BY v.id LIMIT 1",
            (header.dim, UNIT_SLACK / 2, self._checked),
        )
        for name, vector in bad:
            self.checked_vector(name, vector, header.dim)
        self._checked = header.revision

    def encode_vector(self, vector: np.ndarray) -> object:
        return f"[{','.join(map(repr, vector.tolist()))}]"

    def decode_vector(self, value: Any) -> np.ndarray:  # noqa: ANN401 - pgvector's text
        return np.array(value.strip("[]").split(","), np.float32)

    def cleaned(self) -> None:
        """Give the rows' space back; the server's log and backups are its administrator's."""
        with self.lock, self._naming():
            self._revive()
            for table in ("voices", "recordings", "people"):
                self.run(f"VACUUM FULL {table}")

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        conninfo = make_conninfo(**self._address.parameters)
        connection = psycopg.connect(conninfo, autocommit=True)
        path = "SELECT set_config('search_path', %s, false)"
        connection.execute(path, (f"{SCHEMA}, public",))
        return connection

    def _revive(self) -> None:
        """Open the connection again if the server has closed it, as when it was started anew."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            self._connection.close()
            self._connection = self._connect()
            self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        """Refuse tables of which another answer would come than was stored.

        Raises:
            InputError: one is a view or a foreign table, or has a trigger or a rule.
        """
        for (name,) in self.run(FOREIGN, (SCHEMA,)):
            raise InputError(
                f"{self.where}: its table {name} is not as a store of people has it: a view, a "
                "foreign table, or with a trigger or rule. Restore a copy."
            )

    def _prepare(self, create: bool) -> None:
        tables = self.run("SELECT to_regclass(?)", (f"{SCHEMA}.notes",))[0][0]
        if tables is None and not create:
            raise InputError(
                f"{self.where}: holds no store. `speakervlad people add NAME FILE` makes one."
            )
        with self._connection.transaction():
            # Until the end of the transaction, two processes do not migrate at once.
            self.run("SELECT pg_advisory_xact_lock(hashtext(?))", (SCHEMA,))
            self._migrate()
        self._refuse_foreign()

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
        """Errors of the database as ``InputError``, without the password.

        A transaction under way is rolled back by the server when its connection is lost; only where
        that happens while it ends, nobody knows.
        """
        try:
            yield
        except psycopg.Error as error:
            reason = self._address.without_secrets(" ".join(str(error).split()))
            connection = getattr(self, "_connection", None)
            if connection is not None and connection.info.transaction_status in STUCK:
                # Lost amid statements that were sent together, which libpq does not call closed.
                connection.close()
            if connection is not None and connection.closed:
                reason += (
                    ". The connection was lost, and what was under way was rolled back: nothing "
                    "was changed. Try again."
                )
            raise InputError(f"{self.where}: {reason}") from None


def _indexed_search(dim: int) -> str:
    """As ``SEARCH``, among the voices that the index gives."""
    half = f"halfvec({dim})"
    near = f"(SELECT * FROM voices ORDER BY vector::{half} <#> ?::{half} LIMIT ?) near"
    return SEARCH.replace("FROM voices", f"FROM {near}")


def _binary_rows(first: int, vectors: np.ndarray) -> Iterator[bytes]:
    """Rows of ``voices`` in COPY's binary format, of people with numbers from ``first`` on."""
    dim = vectors.shape[1]
    fields = (
        *(("fields", ">i2"), ("person_bytes", ">i4"), ("person", ">i8")),
        *(("number_bytes", ">i4"), ("number", ">i4"), ("vector_bytes", ">i4")),
        *(("dim", ">i2"), ("unused", ">i2"), ("vector", ">f4", (dim,))),
    )
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for at in range(0, len(vectors), COPY_ROWS):
        piece = vectors[at : at + COPY_ROWS]
        rows = np.zeros(len(piece), np.dtype(list(fields)))
        rows["fields"], rows["person_bytes"], rows["number_bytes"] = 3, 8, 4
        rows["person"] = np.arange(first + at, first + at + len(piece))
        rows["vector_bytes"], rows["dim"], rows["vector"] = 4 + 4 * dim, dim, piece
        yield rows.tobytes()
    yield b"\xff\xff"


def _in_psycopg(statement: str) -> LiteralString:
    """With psycopg's sign for values."""
    return cast(LiteralString, statement.replace("?", "%s"))
