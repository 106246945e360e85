"""The store of people and what is done with it: add, list, show, rename, forget, identify."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from speakervlad.audio.recording import AudioLike, each_of, takes_old_options
from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.location import DEFAULT, PRETRAINED, find_encoder
from speakervlad.encoder.stream import EncoderStream
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.models.sums import PoolingSums
from speakervlad.people.cohort import load_cohort
from speakervlad.people.doubts import Doubt, DoubtfulError, of_mixture, of_others, of_unlike
from speakervlad.people.exchange import read_people, write_people
from speakervlad.people.hearing import Heard, hear, not_known
from speakervlad.people.live import Listener
from speakervlad.people.matching import NEAREST, USUAL_FPIR, Identification, Matcher
from speakervlad.people.records import (
    ID_LENGTH,
    Change,
    Header,
    Kept,
    Person,
    PersonSummary,
    Recording,
    check_name,
    check_note,
    kept_of_id,
    pack_sums,
    stored_name,
    unpack_sums,
    with_voices,
)
from speakervlad.people.sql import SqlStore
from speakervlad.people.stores import open_store
from speakervlad.people.voices import group, likeness
from speakervlad.progress import track
from speakervlad.sound import SAMPLE_RATE
from speakervlad.tables.interchange import load_embeddings

logger = logging.getLogger(__name__)

# So many people are named in a message at most.
MOST_NAMED = 20
# Files of embeddings, of which `import` takes each for a person.
VECTOR_SUFFIXES = (".parquet", ".npz")

# Says of some doubts whether to enrol all the same.
Confirm = Callable[[Sequence[Doubt]], bool]


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


def encoder_for(where: str | Path | None, wanted: str | Path = DEFAULT) -> Path:
    """The encoder to open a store with, by name or path, as ``load_encoder`` takes it.

    A store that another encoder of the package made, such as an earlier default, is opened with
    that one unless an encoder is named; one line says so, and how to move on.

    Args:
        where: as for ``PeopleStore``; there need not be a store yet.
        wanted: what was asked for.
    """
    if str(wanted) != DEFAULT:
        return Path(wanted)
    try:
        store = open_store(where)
    except InputError:  # whoever opens it says why
        return Path(wanted)
    try:
        return _encoder_for(store, wanted)
    finally:
        store.close()


def _encoder_for(store: SqlStore, wanted: str | Path) -> Path:
    made_by = store.header().encoder
    if str(wanted) != DEFAULT or made_by is None:
        return Path(wanted)
    if made_by == weights_digest(find_encoder(DEFAULT)):
        return Path(wanted)
    for name in PRETRAINED:
        if made_by == weights_digest(find_encoder(name)):
            logger.warning(
                "%s: was made by the encoder %s, which is used. To move on to the default, enrol "
                "the recordings anew into another --store.",
                store.where,
                name,
            )
            return Path(name)
    return Path(wanted)


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
        encoder: str | Path | Encoder = DEFAULT,
        *,
        create: bool = True,
    ) -> None:
        self.store: SqlStore = open_store(where, create=create)
        self._encoder = encoder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    @property
    def encoder(self) -> Encoder:
        """The encoder, which has a fingerprint.

        Raises:
            InputError: it cannot be loaded, or nothing tells its weights from others.
        """
        if not isinstance(self._encoder, Encoder):
            self._encoder = load_encoder(_encoder_for(self.store, self._encoder))
        if self._encoder.fingerprint is None:
            raise InputError("the encoder has no fingerprint. Load it from a folder or an export.")
        return self._encoder

    @takes_old_options
    def add(
        self,
        name: str,
        recordings: Sequence[AudioLike],
        *,
        note: str = "",
        again: bool = False,
        confirm: Confirm | None = None,
    ) -> Added:
        """Enrol recordings of a person, new or known, in one transaction.

        A recording with two voices, one that sounds like somebody else of the store, and one that
        is unlike the person's others are enrolled with a warning, or as ``confirm`` says.

        Args:
            name: of the person.
            recordings: of that person alone.
            note: kept with each of them.
            again: whether recordings that the person has already are added once more.
            confirm: takes doubts, and says whether the recordings are enrolled all the same.

        Raises:
            InputError: a bad name, no recording, one that cannot be embedded, the store is of
                another encoder or cannot be written, or ``confirm`` says no. Nothing is stored
                then.
        """
        check_name(name)
        self._check_encoder(self.store.header())
        each = track(each_of(recordings), "enrolling", len(recordings))
        heard = [self.hear(recording) for recording in each]
        doubts = self.doubts(name, heard, again=again)
        if confirm is None:
            for doubt in doubts:
                logger.warning("%s", doubt)
        elif doubts and not confirm(doubts):
            raise DoubtfulError(name, doubts, "Nothing was stored.")
        return self.enrol(name, heard, note=note, again=again)

    def doubts(self, name: str, heard: Sequence[Heard], *, again: bool = False) -> list[Doubt]:
        """What speaks against enrolling some recordings as a person's, recording by recording.

        Args:
            name: of the person.
            heard: what ``hear`` made of the recordings.
            again: as for ``add``.

        Raises:
            InputError: a bad name, or the store is of another encoder or cannot be read.
        """
        name, header = check_name(name), self.store.header()
        self._check_encoder(header)
        person = next(iter(self.store.people([name])), Person(name))
        fresh = list(heard) if again else not_known(person, heard)[0]
        if not fresh:
            return []
        vectors = np.stack([self.encoder.finish(each.sums) for each in fresh])
        num_known = len(person.recordings)
        unlike = self._unlike(person, [each.name for each in fresh], [each.sums for each in fresh])
        matches = self.store.nearest(vectors, NEAREST)
        threshold = self._named_from() if header.num_voices else math.inf
        own = [max(each @ person.voices.T, default=-1.0) for each in vectors] if num_known else []
        found = []
        for row, each in enumerate(fresh):
            found += of_mixture(each.name, each.mixture)
            nearest = own[row] if num_known else -1.0
            found += of_others(each.name, name, nearest, matches[row], threshold)
            found += [doubt for doubt in unlike if doubt.recording == each.name]
        return found

    def _unlike(
        self, person: Person, names: Sequence[str], sums: Sequence[PoolingSums]
    ) -> list[Doubt]:
        """That new recordings of a person, called by ``names``, are of another voice."""
        vectors = np.stack([self.encoder.finish(each) for each in sums])
        groups, voices = self._groups(person, sums)
        return of_unlike(person.name, names, vectors, groups, voices, len(person.recordings))

    def enrol(
        self, name: str, heard: Sequence[Heard], *, note: str = "", again: bool = False
    ) -> Added:
        """As ``add``, of what ``hear`` made of recordings, whatever ``doubts`` says of them.

        Raises:
            InputError: as ``add``, and all recordings are there already.
        """
        name, note = check_name(name), check_note(note)
        if not heard:
            raise InputError(f"{name}: no recording was given. Name one or more files.")
        date = datetime.now(UTC).isoformat(timespec="seconds")
        known: list[str] = []
        others: set[str] = set()

        def change(header: Header, people: list[Person]) -> Change:
            self._check_encoder(header)
            person = people[0] if people else Person(name)
            fresh, old = (heard, []) if again else not_known(person, heard)
            if not fresh:
                raise InputError(
                    f"{first_few(each.name for each in old)}: {name} has this recording already. "
                    "Pass --again to add it once more."
                )
            known.extend(each.name for each in old)
            owners = self.store.owners([each.digest for each in fresh])
            others.update(owner for names in owners.values() for owner in names if owner != name)
            new = (
                Recording(each.digest, pack_sums(each.sums), each.seconds, date, note)
                for each in fresh
            )
            return Change((self._grouped(replace(person, recordings=(*person.recordings, *new))),))

        saved = self.store.change([name], change, self._identity()).save[0]
        return Added(saved, len(heard) - len(known), known, sorted(others))

    def people(self) -> list[PersonSummary]:
        """All people by name, without their voices."""
        return self.store.summaries()

    def show(self, name: str) -> Person:
        """A person with all recordings.

        Raises:
            InputError: nobody of that name.
        """
        return self._known([name], self.store.people([stored_name(name)]))[0]

    def rename(self, name: str, new: str) -> None:
        """Give a person another name.

        Raises:
            InputError: nobody of the old name, or somebody of the new one.
        """
        name, new = stored_name(name), check_name(new)

        def change(_: Header, people: list[Person]) -> Change:
            if any(person.name == new for person in people if new != name):
                raise InputError(f"{new}: is in the store already. Choose another name.")
            person = next((person for person in people if person.name == name), None)
            found = self._known([name], [person] if person else [])
            return Change((replace(found[0], name=new),))

        self.store.change([name, new], change)

    def forget(self, names: Sequence[str]) -> None:
        """Remove people, and every byte of them from the store's file.

        Raises:
            InputError: nobody of one of the names; nobody is removed then.
        """
        wanted = [stored_name(name) for name in names]
        self.store.change(
            wanted,
            lambda _, people: Change(remove=tuple(self._known(wanted, people))),
            whole=False,
        )

    def recordings(self, name: str) -> list[Kept]:
        """What is kept of a person, in the order in which it was added.

        Raises:
            InputError: nobody of that name, or the store is of another encoder.
        """
        self._check_encoder(self.store.header())
        person = self.show(name)
        alike = likeness(self._sums(person), self.encoder.finish)
        return [
            Kept(each.digest[:ID_LENGTH], each.seconds, each.date, each.voice, cosine, each.note)
            for each, cosine in zip(person.recordings, alike, strict=True)
        ]

    def forget_recordings(self, name: str, ids: Sequence[str]) -> Person:
        """Remove some recordings of a person, and every byte of them; the voices are made anew.

        Args:
            name: of the person.
            ids: beginnings of their digests, as ``recordings`` lists them. Of one that was added
                several times the last goes.

        Returns:
            The person as stored now.

        Raises:
            InputError: nobody of that name, no such recording, several that begin so, or none would
                be left. Nothing is removed then.
        """

        def change(header: Header, people: list[Person]) -> Change:
            self._check_encoder(header)
            (person,) = self._known([stored_name(name)], people)
            removed = [kept_of_id(person, each) for each in dict.fromkeys(ids)]
            kept = tuple(each for each in person.recordings if each not in removed)
            if not kept:
                raise InputError(
                    f"{person.name}: no recording would be left. `speakervlad people forget NAME` "
                    "removes the person."
                )
            rows = tuple(each.row for each in removed if each.row is not None)
            return Change((self._grouped(replace(person, recordings=kept)),), recordings=rows)

        return self.store.change([stored_name(name)], change).save[0]

    def export(self, path: str | Path) -> int:
        """Write everybody into one file, from which ``import_`` makes the same store.

        People who were imported as vectors have no recordings, which the file is made of; they are
        left out with a warning.

        Returns:
            How many people were written.

        Raises:
            InputError: nobody is enrolled by recordings, or the file cannot be written.
        """
        header, people = self.store.header(), self.store.people()
        if header.encoder is None:
            raise InputError(
                f"{self.store.where}: nobody is enrolled, so there is nothing to write."
            )
        return write_people(path, header, people)

    def import_(self, path: str | Path) -> tuple[int, int]:
        """Add everybody of a file that ``export`` wrote, in one transaction.

        Recordings that a person of the same name has already are not added again, so that the same
        file may be imported twice. Others of the same name that are of another voice are added with
        a warning: there may be two people of that name.

        Returns:
            How many people have new recordings, and how many recordings those are.

        Raises:
            InputError: no such file, damaged, or of another encoder. Nothing is stored then.
        """
        if Path(path).suffix.lower() in VECTOR_SUFFIXES:
            return self._import_vectors(Path(path))
        encoder, given = read_people(path)
        if encoder != self.encoder.fingerprint:
            raise InputError(
                f"{path}: was made by the encoder {encoder[:12]}, not by "
                f"{str(self.encoder.fingerprint)[:12]}. Name that one with --encoder."
            )
        names = [check_name(person.name) for person in given]
        counts: list[int] = []

        def change(header: Header, people: list[Person]) -> Change:
            self._check_encoder(header)
            stored = {person.name: person for person in people}
            merged = []
            for name, person in zip(names, given, strict=True):
                old = stored.get(name, Person(name))
                have = {recording.digest for recording in old.recordings}
                new = [each for each in person.recordings if each.digest not in have]
                if new:
                    if old.recordings:
                        of_them = replace(old, recordings=tuple(new))
                        ids = [each.digest[:ID_LENGTH] for each in new]
                        for doubt in self._unlike(old, ids, self._sums(of_them)):
                            logger.warning("%s", doubt)
                    recordings = (*old.recordings, *new)
                    merged.append(self._grouped(replace(old, recordings=recordings)))
                    counts.append(len(new))
            return Change(tuple(merged))

        self.store.change(names, change, self._identity())
        return len(counts), sum(counts)

    @takes_old_options
    def identify(
        self,
        recordings: Sequence[AudioLike],
        *,
        fpir: float = USUAL_FPIR,
        top: int = 3,
    ) -> list[Identification]:
        """Say of each recording who of the people it is, or nobody.

        Args:
            recordings: each of one voice.
            fpir: share of recordings of others that may be taken for somebody of the store.
            top: how many people are named for each at most.

        Raises:
            InputError: a recording that cannot be embedded or without speech, an empty store, a
                store of another encoder, or an encoder without a cohort.
        """
        answers = []
        for recording in track(each_of(recordings), "identifying", len(recordings)):
            heard = self.hear(recording)
            (answer,) = self.match(self.encoder.finish(heard.sums)[None], fpir=fpir, top=top)
            answers.append(answer._replace(seconds=heard.seconds, mixture=heard.mixture))
        return answers

    def listen(
        self,
        stream: EncoderStream | None = None,
        *,
        sample_rate: int = SAMPLE_RATE,
        fpir: float = USUAL_FPIR,
    ) -> Listener:
        """What takes samples and tells who of the store speaks, while they speak.

        Args:
            stream: of this store's encoder, to go on with; a new one by default.
            sample_rate: of the samples of a new one, a whole number of Hz.
            fpir: share of windows of speech of others that may be given a name.

        Raises:
            InputError: as ``match``, or a stream of another encoder.
        """
        if stream is None:
            stream = self.encoder.stream(sample_rate)
        elif stream.fingerprint != self.encoder.fingerprint:
            raise InputError("stream: is of another encoder than the store.")
        self.threshold(fpir)
        threshold = partial(self._matcher.live_threshold, fpir)
        return Listener(self.encoder.frames, stream, partial(self.match, fpir=fpir), threshold)

    def threshold(self, fpir: float = USUAL_FPIR) -> float:
        """The score from which on somebody is named, at the present size of the store.

        Raises:
            InputError: as ``match``.
        """
        self._check_encoder(self.store.header())
        return self._matcher.threshold(fpir)

    def match(
        self, vectors: np.ndarray, *, fpir: float = USUAL_FPIR, top: int = 3
    ) -> list[Identification]:
        """As ``identify``, of embeddings: (recordings, dim) float32 unit vectors.

        Raises:
            InputError: as ``identify``, but for recordings.
        """
        self._check_encoder(self.store.header())
        return self._matcher.identify(vectors, fpir, top)

    @cached_property
    def _matcher(self) -> Matcher:
        encoder = self.encoder
        assert encoder.fingerprint is not None
        if encoder.folder is None:
            raise InputError("the encoder has no folder, so no cohort beside it.")
        cohort = load_cohort(encoder.folder, encoder.fingerprint)
        return Matcher(self.store, cohort.vectors, encoder.calibration, self._same_voice)

    def _same_voice(self, rate: float) -> float | None:
        """The cosine that a share of pairs of strangers reaches, if the encoder knows it."""
        known = self.encoder.thresholds
        return None if known is None else known.near(rate)

    def _named_from(self) -> float:
        """The cosine from which on a recording sounds like somebody of the store.

        One stranger in a hundred reaches it: of those that thresholds are taken from, and of the
        encoder's development recordings, who are of one channel as the people of a store often are.
        """
        known = self._same_voice(USUAL_FPIR)
        try:
            return max(self._matcher.threshold(USUAL_FPIR), known or -1.0)
        except InputError:  # no cohort
            return math.inf if known is None else known

    @takes_old_options
    def hear(self, audio: AudioLike) -> Heard:
        """The sums of a recording, the digest that recognises it, and two voices if it has them.

        Raises:
            InputError: it cannot be embedded, or hardly anybody speaks in it.
        """
        return hear(self.encoder.frames, audio, self.apart)

    def _check_encoder(self, header: Header) -> None:
        """Refuse a store that another encoder made."""
        if header.encoder not in (None, self.encoder.fingerprint):
            raise InputError(
                f"{self.store.where}: was made by the encoder {header.encoder[:12]} "
                f"({header.encoder_name}), not by {str(self.encoder.fingerprint)[:12]}. Name that "
                "one with --encoder, or enrol anew: speakervlad people add NAME FILE... "
                "--store NEW.db"
            )

    def _import_vectors(self, path: Path) -> tuple[int, int]:
        """Add everybody of a table of embeddings: an id is a name, its vector the person's voice.

        There are no recordings, so that nothing can be added to such a person later.
        """
        table = load_embeddings(path)
        if table.encoder not in (None, self.encoder.fingerprint) or table.dim != self.encoder.dim:
            raise InputError(
                f"{path}: {table.dim} dimensions of the encoder {str(table.encoder)[:12]}, not "
                f"{self.encoder.dim} of {str(self.encoder.fingerprint)[:12]}. Name that one with "
                "--encoder."
            )
        self._check_encoder(self.store.header())
        names = [check_name(name) for name in table.ids.tolist()]
        norms = np.linalg.norm(table.vectors, axis=1, keepdims=True)
        if not norms.min() > 0:
            raise InputError(f"{path}: a vector is zero. Remove it.")
        known = self.store.names()
        twice = [name for name in names if name in known]
        if twice or len(set(names)) < len(names):
            raise InputError(
                f"{path}: {len(twice) or 'some'} people are enrolled already or named twice: "
                f"{first_few(twice) or 'see the ids'}. Leave them out, or forget them."
            )
        return self.store.load(names, table.vectors / norms, self._identity()), 0

    def _grouped(self, person: Person) -> Person:
        """The person with voices made of all recordings.

        Raises:
            InputError: the person was imported as a vector.
        """
        if len(person.voices) and all(each.row is None for each in person.recordings):
            raise InputError(
                f"{person.name}: was imported as a vector, to which no recordings can be added. "
                "Forget that name first, or take another."
            )
        return with_voices(person, *self._groups(person))

    def _groups(
        self, person: Person, new: Sequence[PoolingSums] = ()
    ) -> tuple[list[list[int]], np.ndarray]:
        """The voices of the person's recordings and of new ones behind them, as ``group`` does."""
        try:
            return group([*self._sums(person), *new], self.encoder.finish, self.apart)
        except InputError as error:
            raise InputError(f"{self.store.where}: {person.name}: {error}") from error

    def _sums(self, person: Person) -> list[PoolingSums]:
        pooling = self.encoder.backend.ends.pooling
        return [unpack_sums(each.sums, pooling) for each in person.recordings]

    @property
    def apart(self) -> float:
        """The cosine below which two voices are not taken for one; -1 where it is not known."""
        known = self.encoder.thresholds
        return -1.0 if known is None else known.eer

    def _identity(self) -> tuple[str, str, int]:
        encoder = self.encoder
        assert encoder.fingerprint is not None
        return encoder.fingerprint, str(encoder.folder or "in memory"), encoder.dim

    def _known(self, names: Sequence[str], people: list[Person]) -> list[Person]:
        missing = [name for name in names if name not in {person.name for person in people}]
        if missing:
            known = [summary.name for summary in self.store.summaries()]
            few = 0 < len(known) <= MOST_NAMED
            hint = did_you_mean(missing[0], known) if few else f"{len(known)} are enrolled."
            raise InputError(f"{first_few(missing)}: nobody of that name. {hint}")
        return people
