"""What is kept of enrolled people: names, sums of recordings, voices; never audio."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from speakervlad.errors import InputError
from speakervlad.models.moments import arrays_of, sums_of
from speakervlad.models.sums import Finish, PoolingSums

MAX_NAME = 200
MAX_NOTE = 1000
# Characters of a digest by which people call a recording.
ID_LENGTH = 12
# Tolerance of the length of a unit vector in float32.
UNIT_SLACK = 1e-3
# Unicode categories without a visible glyph: control, format, surrogate, private, separators of
# lines.
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
# Other characters without a glyph: fillers, variation selectors, an empty pattern of Braille.
BLANK = (
    *((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)),
)
# Of Chinese and Japanese names; it is as wide as a letter.
WIDE_SPACE = "\u3000"
# Zero width non-joiner and joiner, and the scripts whose spelling needs them.
JOINERS = "\u200c\u200d"
JOINED = {
    *("ARABIC", "SYRIAC", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL"),
    *("TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN", "MONGOLIAN"),
}


@dataclass(frozen=True)
class Recording:
    """One enrolled recording.

    Attributes:
        digest: SHA-256 of its samples, which recognises it when it comes again.
        sums: what its frames add up to, as ``pack_sums`` writes it.
        seconds: of audio, or of speech where only speech was summed.
        date: when it was added, ISO 8601 in UTC.
        note: free text.
        voice: which of the person's voices it is part of, from 0.
        row: in the store; None before it is stored.
    """

    digest: str
    sums: bytes = field(repr=False)
    seconds: float
    date: str
    note: str = ""
    voice: int = 0
    row: int | None = None


@dataclass(frozen=True)
class Person:
    """A name, its recordings, and the unit vectors of its voices, float32 (voices, dim)."""

    name: str
    recordings: tuple[Recording, ...] = ()
    voices: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)
    row: int | None = None


class Kept(NamedTuple):
    """A recording of somebody, as ``PeopleStore.recordings`` lists it.

    Attributes:
        id: the beginning of its digest, by which ``forget_recordings`` knows it.
        seconds: of audio, or of speech where only speech was summed.
        date: when it was added, ISO 8601 in UTC.
        voice: which of the person's voices it is part of, from 0.
        likeness: cosine with the nearest other recording of the person; None without others.
        note: free text.
    """

    id: str
    seconds: float
    date: str
    voice: int
    likeness: float | None
    note: str


class PersonSummary(NamedTuple):
    """A line of the list of people; dates of the first and the last recording, ISO 8601."""

    name: str
    num_recordings: int
    num_voices: int
    seconds: float
    first_date: str
    last_date: str


class Header(NamedTuple):
    """What a store says of itself.

    Attributes:
        encoder: fingerprint of the encoder that made all of its sums; None while it is empty.
        encoder_name: how that encoder was called when the store was made.
        dim: size of its voices.
        revision: grows with every change.
        num_voices: how many voices all people have together.
        removed: the revision at which something was removed last.
    """

    encoder: str | None
    encoder_name: str
    dim: int
    revision: int
    num_voices: int
    removed: int = 0


class Change(NamedTuple):
    """What one transaction writes.

    Attributes:
        save: people to store as they are now.
        remove: people to remove.
        recordings: rows of recordings to remove.
    """

    save: tuple[Person, ...] = ()
    remove: tuple[Person, ...] = ()
    recordings: tuple[int, ...] = ()


class Match(NamedTuple):
    """A voice near a query: whose it is, its cosine, and its unit vector."""

    name: str
    cosine: float
    vector: np.ndarray


def stored_name(name: str) -> str:
    """How a store spells the name of somebody: Unicode's normal form, no spaces around.

    Raises:
        InputError: empty, or too long.
    """
    normal = unicodedata.normalize("NFC", name).strip()
    if not normal:
        raise InputError("a person's name is empty. Give one.")
    if len(normal) > MAX_NAME:
        raise InputError(
            f"a name of {len(normal)} characters, {normal[:20]!r}...: at most {MAX_NAME}."
        )
    return normal


def check_name(name: str) -> str:
    """The name of somebody new, as ``stored_name`` spells it, with plain spaces.

    Raises:
        InputError: as ``stored_name``; or of several lines, with control characters, or with
            characters that cannot be seen or turn the direction of the text, by which two people
            would seem to have one name.
    """
    normal = stored_name(name)
    check_text(normal, "name")
    for place, letter in enumerate(normal):
        if is_invisible(letter) and not _joins_letters(normal, place):
            raise InputError(
                f"name {shown_name(normal)}: character {place + 1} (U+{ord(letter):04X}) cannot be "
                "seen. Leave it out."
            )
    return "".join(_plain_space(letter) for letter in normal)


def _plain_space(letter: str) -> str:
    """A space for one that looks like it, such as that which does not break."""
    is_space = unicodedata.category(letter) == "Zs" and letter != WIDE_SPACE
    return " " if is_space else letter


def is_invisible(letter: str) -> bool:
    """Whether nothing is seen of a character but what it does to others."""
    code = ord(letter)
    return unicodedata.category(letter) in UNSEEN or any(low <= code <= high for low, high in BLANK)


def _joins_letters(name: str, place: int) -> bool:
    """Whether a joiner stands where Persian, Sinhala and others spell with it; not in emoji."""
    if name[place] not in JOINERS or not 0 < place < len(name) - 1:
        return False
    words = [
        unicodedata.name(each, "").split(" ")[0] for each in (name[place - 1], name[place + 1])
    ]
    return all(word in JOINED for word in words)


def shown_name(name: str) -> str:
    """The name in quotes, for messages: with what cannot be seen spelt out."""
    spelt = (f"\\u{{{ord(each):x}}}" if is_invisible(each) else each for each in name[:40])
    return f"'{''.join(spelt)}'"


def check_note(note: str) -> str:
    """A note that fits into one line.

    Raises:
        InputError: of several lines, with control characters, or too long.
    """
    if len(note) > MAX_NOTE:
        raise InputError(f"a note of {len(note)} characters: at most {MAX_NOTE}.")
    check_text(note, "note")
    return note


def check_text(text: str, what: str) -> None:
    """Refuse what would break a line, or cannot be written as UTF-8.

    Raises:
        InputError: control characters, line separators or half of a surrogate pair.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise InputError(
            f"{what} {text[:40]!r}: holds a line break or another control character. Leave it out."
        )


def kept_of_id(person: Person, beginning: str) -> Recording:
    """The last of a person's recordings whose digest begins so.

    Raises:
        InputError: there is none, or they are different ones.
    """
    found = [each for each in person.recordings if each.digest.startswith(beginning.lower())]
    if not beginning or len({each.digest for each in found}) != 1:
        how_many = "several recordings begin so" if found and beginning else "no such recording"
        raise InputError(
            f"{person.name}: {beginning!r}: {how_many}. `speakervlad people recordings NAME` "
            "lists them."
        )
    return found[-1]


def recording_of(row: Sequence[Any]) -> Recording:
    """A recording of what a database gave: digest, sums, seconds, date, note, voice, row.

    Raises:
        TypeError: a value of another type than was written.
    """
    digest, sums, seconds, date, note, voice, number = row
    if not isinstance(sums, bytes | memoryview):
        raise TypeError("the sums of a recording are no bytes")
    if not isinstance(seconds, int | float) or not isinstance(voice, int):
        raise TypeError("a number of a recording is none")
    if not all(isinstance(text, str) for text in (digest, date, note)):
        raise TypeError("a text of a recording is none")
    return Recording(digest, bytes(sums), float(seconds), date, note, voice, number)


def summary_of(row: Sequence[Any]) -> PersonSummary:
    """A line of the list of people of what a database gave.

    Raises:
        TypeError: a value of another type than was written.
    """
    name, recordings, voices, seconds, *dates = row
    if not isinstance(seconds, int | float) or not all(isinstance(date, str) for date in dates):
        raise TypeError("the length or the date of a recording is none")
    return PersonSummary(name, recordings, voices, float(seconds), *dates)


def damage_of(vector: np.ndarray, dim: int) -> str | None:
    """What makes a stored voice useless, in words; None for a unit vector of that size."""
    if vector.shape != (dim,):
        return f"of {vector.size} numbers, not of {dim}"
    if not np.isfinite(vector).all():
        return "not finite"
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return None if abs(length - 1) <= UNIT_SLACK else f"not of unit length ({length:.3g})"


def pack_sums(sums: PoolingSums) -> bytes:
    """Moments as the bytes of a safetensors file, exactly."""
    from safetensors.numpy import save

    return save(arrays_of(sums))


def unpack_sums(data: bytes, pooling: Finish) -> PoolingSums:
    """The inverse of ``pack_sums``, of an encoder with that pooling.

    Raises:
        InputError: the bytes are damaged, or moments of another pooling.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return sums_of(load(data), pooling)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"the sums of a recording are damaged ({error}).") from error


def with_voices(person: Person, groups: list[list[int]], voices: np.ndarray) -> Person:
    """The person with its recordings assigned to voices; ``groups`` are rows of recordings."""
    number = {row: voice for voice, rows in enumerate(groups) for row in rows}
    recordings = tuple(
        replace(recording, voice=number[row]) for row, recording in enumerate(person.recordings)
    )
    return replace(person, recordings=recordings, voices=voices)
