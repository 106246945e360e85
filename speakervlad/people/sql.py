"""What the stores in SQL databases share: tables, statements, one transaction a command."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from speakervlad.errors import InputError
from speakervlad.people.records import (
    Change,
    Header,
    Match,
    Person,
    PersonSummary,
    damage_of,
    recording_of,
    summary_of,
)

SUMMARIES = """
SELECT p.name, COUNT(r.id), (SELECT COUNT(*) FROM voices v WHERE v.person = p.id),
       COALESCE(SUM(r.seconds), 0), COALESCE(MIN(r.added), ''), COALESCE(MAX(r.added), '')
FROM people p LEFT JOIN recordings r ON r.person = p.id GROUP BY p.id, p.name ORDER BY p.name
"""


class SqlStore(ABC):
    """People in a SQL database; a subclass says how it is opened and searched.

    ``header``, ``summaries``, ``names``, ``people``, ``owners``, ``voices`` and ``nearest`` read;
    ``change`` and ``load`` write, each in one transaction.

    Args:
        where: what users call the store.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.lock: threading.RLock = threading.RLock()
        # Of voices, and the revision that they were counted at: of a million that takes a while.
        self._counted = -1, 0

    @abstractmethod
    def run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a statement gives; ``?`` stands for a value."""

    @abstractmethod
    def run_each(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """A statement once for each row of values."""

    @abstractmethod
    def transaction(self, *, write: bool) -> AbstractContextManager[None]:
        """All or nothing of what is run inside; errors of the database become ``InputError``."""

    @abstractmethod
    def nearest(self, vectors: np.ndarray, count: int) -> list[list[Match]]:
        """The ``count`` voices of the highest cosine to each of (queries, dim) unit vectors."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    def encode_vector(self, vector: np.ndarray) -> object:
        """A voice as the database takes it."""
        return np.ascontiguousarray(vector, np.float32).tobytes()

    def decode_vector(self, value: Any) -> np.ndarray:  # noqa: ANN401 - the database's own type
        """The inverse of ``encode_vector``."""
        return np.frombuffer(value, np.float32)

    def checked_vector(self, name: str, value: object, dim: int) -> np.ndarray:
        """A voice of somebody as it was read: float32 (dim,) of length 1.

        Raises:
            InputError: it is damaged.
        """
        try:
            vector = self.decode_vector(value)
            damage = damage_of(vector, dim)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._damaged(name, f"a voice is no vector: {error}") from error
        if damage is not None:
            raise self._damaged(name, f"a voice is {damage}")
        return vector

    def _damaged(self, name: str, how: str) -> InputError:
        return InputError(
            f"{self.where}: {name}: damaged ({how}). Restore a copy, or forget {name} and enrol "
            "again."
        )

    def cleaned(self) -> None:  # noqa: B027 - what most databases need not do
        """After people were removed: overwrite what is left of them."""

    def header(self) -> Header:
        """What the store says of itself."""
        with self.transaction(write=False):
            return self._header()

    def summaries(self) -> list[PersonSummary]:
        """All people by name."""
        with self.transaction(write=False):
            return [self._summary(row) for row in self.run(SUMMARIES)]

    def names(self) -> set[str]:
        """Of all people."""
        with self.transaction(write=False):
            return {name for (name,) in self.run("SELECT name FROM people")}

    def _summary(self, row: Sequence[Any]) -> PersonSummary:
        try:
            return summary_of(row)
        except TypeError as error:
            raise self._damaged(str(row[0]), str(error)) from error

    def people(self, names: Sequence[str] | None = None) -> list[Person]:
        """People with all their recordings, in the order of ``names``; all of them by default.

        Names that nobody has are left out.
        """
        with self.transaction(write=False):
            return self._people(names)

    def owners(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """The names of those who have a recording, by its digest."""
        found: dict[str, list[str]] = {}
        statement = (
            "SELECT DISTINCT p.name FROM recordings r JOIN people p ON p.id = r.person "
            "WHERE r.digest = ? ORDER BY p.name"
        )
        with self.transaction(write=False):
            for digest in digests:
                if names := [name for (name,) in self.run(statement, (digest,))]:
                    found[digest] = names
        return found

    def voices(self, count: int) -> list[tuple[str, np.ndarray]]:
        """About ``count`` voices with the names of their owners, from all over the store."""
        with self.transaction(write=False):
            header = self._header()
            step = max(1, header.num_voices // count)
            rows = self.run(
                "SELECT p.name, v.vector FROM voices v JOIN people p ON p.id = v.person "
                "WHERE v.id / ? * ? = v.id ORDER BY v.id LIMIT ?",
                (step, step, 2 * count),
            )
            return [(name, self.checked_vector(name, each, header.dim)) for name, each in rows]

    def change(
        self,
        names: Sequence[str] | None,
        function: Callable[[Header, list[Person]], Change],
        encoder: tuple[str, str, int] | None = None,
        *,
        whole: bool = True,
    ) -> Change:
        """Read some people, decide what becomes of them, write it: one transaction.

        Args:
            names: of those that are read; None for all.
            function: from the header and the people who are there to what is written. Whatever it
                raises leaves the store as it was.
            encoder: fingerprint, name and dimensions, which an empty store takes over.
            whole: read their recordings and voices, too, which may be damaged.

        Returns:
            What was written.
        """
        self._clean()
        with self.transaction(write=True):
            header = self._header()
            change = function(header, self._people(names, whole=whole))
            revision = header.revision + 1
            if header.encoder is None and encoder is not None:
                self._note(zip(("encoder", "encoder_name", "dim"), encoder, strict=True))
            self._write(change, revision)
        self._clean()
        return change

    def load(self, names: Sequence[str], vectors: np.ndarray, encoder: tuple[str, str, int]) -> int:
        """Add many people by one voice each, without recordings, in one transaction.

        Args:
            names: of people who are not in the store.
            vectors: (people, dim) float32 unit vectors.
            encoder: as for ``change``.

        Returns:
            How many.
        """
        with self.transaction(write=True):
            revision = self._begin_load(encoder).revision + 1
            first = self.run("SELECT COALESCE(MAX(id), 0) FROM people")[0][0] + 1
            rows = range(first, first + len(names))
            self.run_each(
                "INSERT INTO people (id, name, revision) VALUES (?, ?, ?)",
                ((row, name, revision) for row, name in zip(rows, names, strict=True)),
            )
            self.run_each(
                "INSERT INTO voices (person, number, vector) VALUES (?, 0, ?)",
                ((row, self.encode_vector(each)) for row, each in zip(rows, vectors, strict=True)),
            )
            self._note([("revision", revision)])
        return len(names)

    def _begin_load(self, encoder: tuple[str, str, int]) -> Header:
        """The header, of a store that belongs to an encoder from now on."""
        header = self._header()
        if header.encoder is None:
            self._note(zip(("encoder", "encoder_name", "dim"), encoder, strict=True))
        return header

    def _clean(self) -> None:
        """Finish what a removal, here or in a process that was killed, has left to do."""
        with self.transaction(write=False):
            marked = self.run("SELECT 1 FROM notes WHERE name = 'unclean'")
        if marked:
            self.cleaned()
            with self.transaction(write=True):
                self.run("DELETE FROM notes WHERE name = 'unclean'")

    def _header(self) -> Header:
        notes = dict(self.run("SELECT name, value FROM notes"))
        try:
            dim, revision, removed = (
                int(notes.get(name, 0)) for name in ("dim", "revision", "removed")
            )
        except ValueError as error:
            raise InputError(f"{self.where}: its notes are damaged ({error}).") from error
        counted, count = self._counted
        if counted != revision:
            (count,) = self.run("SELECT COUNT(*) FROM voices")[0]
            self._counted = revision, count
        encoder, encoder_name = notes.get("encoder"), notes.get("encoder_name", "")
        return Header(encoder, encoder_name, dim, revision, count, removed)

    def _note(self, notes: Iterable[tuple[str, object]]) -> None:
        self.run_each(
            "INSERT INTO notes (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [(name, str(value)) for name, value in notes],
        )

    def _people(self, names: Sequence[str] | None, *, whole: bool = True) -> list[Person]:
        if names is None:
            rows = self.run("SELECT id, name FROM people ORDER BY name")
        else:
            statement = "SELECT id, name FROM people WHERE name = ?"
            rows = [row for name in dict.fromkeys(names) for row in self.run(statement, (name,))]
        if not whole:
            return [Person(name, row=row) for row, name in rows]
        dim = self._header().dim
        return [self._person(row, name, dim) for row, name in rows]

    def _person(self, row: int, name: str, dim: int) -> Person:
        recordings = self.run(
            "SELECT digest, sums, seconds, added, note, voice, id FROM recordings "
            "WHERE person = ? ORDER BY id",
            (row,),
        )
        statement = "SELECT vector FROM voices WHERE person = ? ORDER BY number"
        voices = [self.checked_vector(name, each, dim) for (each,) in self.run(statement, (row,))]
        try:
            return Person(
                name,
                tuple(map(recording_of, recordings)),
                np.stack(voices) if voices else np.empty((0, 0), np.float32),
                row,
            )
        except (TypeError, ValueError) as error:
            raise self._damaged(name, str(error)) from error

    def _write(self, change: Change, revision: int) -> None:
        self.run_each("DELETE FROM people WHERE id = ?", [(each.row,) for each in change.remove])
        self.run_each("DELETE FROM recordings WHERE id = ?", [(row,) for row in change.recordings])
        for person in change.save:
            self._save(person, revision)
        self._note([("revision", revision)])
        if change.remove or change.recordings:
            self._note([("removed", revision), ("unclean", revision)])

    def _save(self, person: Person, revision: int) -> None:
        row = person.row
        if row is None:
            statement = "INSERT INTO people (name, revision) VALUES (?, ?) RETURNING id"
            ((row,),) = self.run(statement, (person.name, revision))
        else:
            statement = "UPDATE people SET name = ?, revision = ? WHERE id = ?"
            self.run_each(statement, [(person.name, revision, row)])
        new = [each for each in person.recordings if each.row is None]
        self.run_each(
            "INSERT INTO recordings (person, digest, sums, seconds, added, note, voice) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row, each.digest, each.sums, each.seconds, each.date, each.note, each.voice)
                for each in new
            ],
        )  # fmt: skip
        stored = [(each.voice, each.row) for each in person.recordings if each.row is not None]
        self.run_each("UPDATE recordings SET voice = ? WHERE id = ?", stored)
        self.run_each("DELETE FROM voices WHERE person = ?", [(row,)])
        self.run_each(
            "INSERT INTO voices (person, number, vector) VALUES (?, ?, ?)",
            [(row, number, self.encode_vector(each)) for number, each in enumerate(person.voices)],
        )
