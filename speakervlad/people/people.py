"""The store of people and what is done with it: add, list, show, rename, forget, identify."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from speakervlad.data.audio import SAMPLE_RATE
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.inference.card import DEFAULT, read_thresholds
from speakervlad.inference.engine import Embedder, load_encoder
from speakervlad.inference.waves import Audio, Wave, open_wave
from speakervlad.models.sums import PoolingSums
from speakervlad.people.records import (
    Change,
    Header,
    Person,
    PersonSummary,
    Recording,
    check_name,
    check_note,
    with_voices,
)
from speakervlad.people.stores import open_store
from speakervlad.people.voices import group
from speakervlad.progress import Track, silent

DIGEST_SECONDS = 30


class Added(NamedTuple):
    """What ``add`` did.

    Attributes:
        person: as stored now.
        new: recordings that were added.
        known: names of recordings that this person had already, which were not added.
        elsewhere: names of other people who have some of the added recordings.
    """

    person: Person
    new: int
    known: list[str]
    elsewhere: list[str]


@dataclass(frozen=True)
class Summed:
    """A recording that is ready to be stored, and how users call it."""

    name: str
    digest: str
    sums: PoolingSums
    seconds: float


class PeopleStore:
    """People who are enrolled, and the encoder that made their voices.

    Args:
        where: the file, or the ``postgresql://`` URL; None for the user's own.
        encoder: as ``load_encoder`` takes it, or a loaded one; loaded when it is first needed.
        create: whether to make an empty store where none is.

    Raises:
        InputError: no such store, not a store, damaged, of a newer version, or not accessible.
    """

    def __init__(
        self,
        where: str | Path | None = None,
        encoder: str | Path | Embedder = DEFAULT,
        *,
        create: bool = True,
    ) -> None:
        self.store = open_store(where, create=create)
        self._encoder = encoder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    @property
    def encoder(self) -> Embedder:
        """The encoder, which has a fingerprint.

        Raises:
            InputError: it cannot be loaded, or nothing tells its weights from others.
        """
        if not isinstance(self._encoder, Embedder):
            self._encoder = load_encoder(self._encoder)
        if self._encoder.fingerprint is None:
            raise InputError("the encoder has no fingerprint. Load it from a folder or an export.")
        return self._encoder

    def add(
        self,
        name: str,
        recordings: Sequence[Audio],
        *,
        note: str = "",
        again: bool = False,
        channel: int | None = None,
        track: Track = silent,
    ) -> Added:
        """Enrol recordings of a person, new or known, in one transaction.

        Args:
            name: of the person.
            recordings: of that person alone.
            note: kept with each of them.
            again: whether recordings that the person has already are added once more.
            channel: of files with several; their mean by default.
            track: progress.

        Raises:
            InputError: a bad name, no recording, one that cannot be embedded, or the store is of
                another encoder or cannot be written. Nothing is stored then.
        """
        name, note = check_name(name), check_note(note)
        if not recordings:
            raise InputError(f"{name}: no recording was given. Name one or more files.")
        self._check_encoder(self.store.header())
        summed = [
            self._sum(audio, channel) for audio in track(recordings, "enrolling", len(recordings))
        ]
        date = datetime.now(UTC).isoformat(timespec="seconds")
        known: list[str] = []

        def change(header: Header, people: list[Person]) -> Change:
            self._check_encoder(header)
            person = people[0] if people else Person(name)
            fresh, old = (summed, []) if again else _unknown(person, summed)
            known.extend(each.name for each in old)
            new = (Recording(each.digest, each.sums, each.seconds, date, note) for each in fresh)
            return Change((self._grouped(replace(person, recordings=(*person.recordings, *new))),))

        before = self.store.owners([each.digest for each in summed])
        saved = self._change([name], change).save[0]
        others = sorted({owner for owners in before.values() for owner in owners} - {name})
        return Added(saved, len(summed) - len(known), known, others)

    def list(self) -> list[PersonSummary]:
        """All people by name, without their voices."""
        return self.store.summaries()

    def show(self, name: str) -> Person:
        """A person with all recordings.

        Raises:
            InputError: nobody of that name.
        """
        return self._known([name], self.store.people(self._pooling(), [check_name(name)]))[0]

    def rename(self, name: str, new: str) -> None:
        """Give a person another name.

        Raises:
            InputError: nobody of the old name, or somebody of the new one.
        """
        name, new = check_name(name), check_name(new)

        def change(_: Header, people: list[Person]) -> Change:
            if any(person.name == new for person in people if new != name):
                raise InputError(f"{new}: is in the store already. Choose another name.")
            person = next((person for person in people if person.name == name), None)
            found = self._known([name], [person] if person else [])
            return Change((replace(found[0], name=new),))

        self._change([name, new], change)

    def forget(self, names: Sequence[str]) -> None:
        """Remove people, and every byte of them from the store's file.

        Raises:
            InputError: nobody of one of the names; nobody is removed then.
        """
        wanted = [check_name(name) for name in names]
        self._change(wanted, lambda _, people: Change(remove=tuple(self._known(wanted, people))))

    def _known(self, names: Sequence[str], people: list[Person]) -> list[Person]:
        missing = [name for name in names if name not in {person.name for person in people}]
        if missing:
            known = [summary.name for summary in self.store.summaries()]
            hint = did_you_mean(missing[0], known) if known else "Nobody is enrolled."
            raise InputError(f"{first_few(missing)}: nobody of that name. {hint}")
        return people
