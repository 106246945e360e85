"""What is kept of enrolled people: names, sums of recordings, voices; never audio."""

import unicodedata
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from speakervlad.errors import InputError
from speakervlad.models.sums import Finish, PoolingSums

MAX_NAME = 200
MAX_NOTE = 1000


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
    """

    encoder: str | None
    encoder_name: str
    dim: int
    revision: int
    num_voices: int


class Change(NamedTuple):
    """What one transaction writes: people to store as they are now, people to remove."""

    save: tuple[Person, ...] = ()
    remove: tuple[Person, ...] = ()


class Match(NamedTuple):
    """A voice near a query: whose it is, its cosine, and its unit vector."""

    name: str
    cosine: float
    vector: np.ndarray


def check_name(name: str) -> str:
    """The name as it is stored: in Unicode's normal form, without spaces around it.

    Raises:
        InputError: empty, of several lines, with control characters, or too long.
    """
    normal = unicodedata.normalize("NFC", name).strip()
    if not normal:
        raise InputError("a person's name is empty. Give one.")
    if len(normal) > MAX_NAME:
        raise InputError(
            f"a name of {len(normal)} characters, {normal[:20]!r}...: at most {MAX_NAME}."
        )
    check_text(normal, "name")
    return normal


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


def pack_sums(sums: PoolingSums) -> bytes:
    """Moments as the bytes of a safetensors file, exactly."""
    from safetensors.numpy import save

    return save(arrays_of(sums))


def arrays_of(sums: PoolingSums) -> dict[str, np.ndarray]:
    """The moments by name, float64; ``num_frames`` int64.

    Those of several layers side by side have the number of the layer before their name.
    """
    known = {"weight": sums.weight, "first": sums.first, "second": sums.second}
    arrays = {
        name: np.ascontiguousarray(array) for name, array in known.items() if array is not None
    }
    for number, part in enumerate(sums.parts):
        arrays |= {f"{number}.{name}": array for name, array in arrays_of(part).items()}
    return arrays | {"num_frames": np.array([sums.num_frames], np.int64)}


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


def sums_of(arrays: dict[str, np.ndarray], pooling: Finish) -> PoolingSums:
    """Moments from arrays by name.

    Raises:
        KeyError, ValueError: something is missing, or no finite float64 of fitting shapes.
    """
    num_frames = int(arrays["num_frames"].ravel()[0])
    if pooling.parts:
        parts = tuple(
            sums_of(_numbered(arrays, number), part.finish)
            for number, part in enumerate(pooling.parts)
        )
        return PoolingSums(pooling, num_frames=num_frames, parts=parts)
    weight, first, second = arrays["weight"], arrays["first"], arrays.get("second")
    given = [array for array in (weight, first, second) if array is not None]
    if any(array.dtype != np.float64 or array.ndim != 2 for array in given):
        raise ValueError("not two-dimensional float64")
    if not all(np.isfinite(array).all() for array in given):
        raise ValueError("not finite")
    if pooling.centers is not None and first.shape != pooling.centers.shape:
        raise ValueError(f"moments {first.shape}, centres {pooling.centers.shape}")
    fits_rows = weight.shape in ((len(first), 1), (1, first.shape[1]), (1, 1))
    if pooling.weighting == "clusters":
        fits_rows = weight.shape == (pooling.num_clusters, 1)
    if not fits_rows or pooling.has_second != (second is not None):
        raise ValueError("moments of another pooling")
    if second is not None and second.shape != first.shape:
        raise ValueError("second moments of another shape")
    return PoolingSums(pooling, weight, first, second, num_frames)


def _numbered(arrays: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The moments of one of several layers, by their own names."""
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def with_voices(person: Person, groups: list[list[int]], voices: np.ndarray) -> Person:
    """The person with its recordings assigned to voices; ``groups`` are rows of recordings."""
    number = {row: voice for voice, rows in enumerate(groups) for row in rows}
    recordings = tuple(
        replace(recording, voice=number[row]) for row, recording in enumerate(person.recordings)
    )
    return replace(person, recordings=recordings, voices=voices)
