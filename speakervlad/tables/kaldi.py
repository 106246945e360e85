"""Embeddings in the files of Kaldi: ark and scp, binary or text."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from speakervlad.errors import InputError
from speakervlad.files import atomic_path, open_regular
from speakervlad.tables.columns import read_blocks

if TYPE_CHECKING:
    pass

from speakervlad.tables.embeddings import Embeddings, named

# Types of Kaldi's binary vectors and matrices: number of dimensions, and of the numbers.
KALDI_TYPES = {b"FV ": (1, "<f4"), b"DV ": (1, "<f8"), b"FM ": (2, "<f4"), b"DM ": (2, "<f8")}
MAX_KEY_BYTES = 4096
ARK_PLACE = re.compile(r"(?P<file>[^\0|]+):(?P<offset>\d{1,18})")


def read_ark(path: Path) -> Embeddings:
    """Read a Kaldi ark, binary or text, of vectors (or of matrices with one row).

    Raises:
        InputError: anything else.
    """
    pairs: list[tuple[str, np.ndarray]] = []
    with open_regular(path) as file:
        while key := _read_key(file, path):
            array = _read_kaldi(file)
            if array is None:
                raise InputError(f"{path}: {key!r} is no vector of floats. Copy the file again.")
            pairs.append((key, array))
    return _from_pairs(path, pairs)


def read_scp(path: Path) -> Embeddings:
    """Read the vectors that a Kaldi scp points to: ``id file.ark:offset`` and nothing else.

    ark paths are tried as they are written, then relative to the folder of the scp.

    Raises:
        InputError: another kind of line (pipes are never run), or a place without a vector. What
            stands there is not quoted.
    """
    pairs: list[tuple[str, np.ndarray]] = []
    for rows, line_numbers in read_blocks(path):
        for row, number in zip(rows, line_numbers, strict=True):
            name, *places = (cell.decode() for cell in row)
            place = ARK_PLACE.fullmatch(" ".join(places))
            if place is None:
                raise InputError(
                    f"{path}, line {number}: {' '.join([name, *places])!r} is no "
                    "`id file.ark:offset`. Pipes are not run; write the ark to a file."
                )
            try:
                with open_regular(_beside(path, place["file"])) as file:
                    file.seek(int(place["offset"]))
                    array = _read_kaldi(file)
            except OSError as error:
                reason = f"{place[0]}: {error.strerror}"
                raise InputError(f"{path}, line {number}: {reason}.") from error
            if array is None:
                raise InputError(
                    f"{path}, line {number}: no vector of floats stands at {place[0]}. "
                    "Keep the ark beside its scp."
                )
            pairs.append((name, array))
    return _from_pairs(path, pairs)


def _beside(scp: Path, place: str) -> Path:
    """A file, taken relative to its scp if it is not found as written."""
    file = Path(place)
    return scp.parent / file if not file.exists() and (scp.parent / file).exists() else file


def _read_key(file: BinaryIO, path: Path) -> str:
    """The next key of an ark, empty at its end."""
    key = b""
    while (byte := file.read(1)) not in (b"", b" "):
        key = (key + byte).lstrip()
        if len(key) > MAX_KEY_BYTES:
            raise InputError(f"{path}: no Kaldi ark of vectors (a key has no end). Copy it again.")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a key is not UTF-8. No Kaldi ark? Copy it again.") from error


def _read_kaldi(file: BinaryIO) -> np.ndarray | None:
    """The float vector or matrix at the current place of a file; None for anything else."""
    start = file.read(5)
    if not start.startswith(b"\0B"):
        return _read_kaldi_text(start, file)
    num_dims, dtype = KALDI_TYPES.get(start[2:], (0, ""))
    sizes = file.read(5 * num_dims)
    marks, numbers = sizes[::5], [sizes[at + 1 : at + 5] for at in range(0, len(sizes), 5)]
    if not num_dims or len(sizes) < 5 * num_dims or set(marks) != {4}:
        return None
    shape = [int.from_bytes(number, "little", signed=True) for number in numbers]
    num_bytes = int(np.dtype(dtype).itemsize) * math.prod(shape)
    here = file.tell()
    if min(shape) < 0 or num_bytes > file.seek(0, os.SEEK_END) - here:
        return None
    file.seek(here)
    return np.frombuffer(file.read(num_bytes), dtype).reshape(shape)


def _read_kaldi_text(start: bytes, file: BinaryIO) -> np.ndarray | None:
    """``[ 1 2 3 ]``, or a row a line."""
    text = start + file.readline()
    while b"]" not in text and (line := file.readline()):
        text += line
    opening, bracket, rest = text.partition(b"[")
    body, closing, after = rest.partition(b"]")
    if opening.strip() or after.strip() or not bracket or not closing:
        return None
    rows = [row.split() for row in body.splitlines() if row.strip()]
    try:
        array = np.array([[float(number) for number in row] for row in rows])
    except ValueError:
        return None
    return array[0] if array.ndim == 2 and b"\n" not in body else array


def write_ark(path: Path, embeddings: Embeddings) -> None:
    """Write a binary Kaldi ark."""
    keys = _kaldi_keys(embeddings)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _write_kaldi(file, keys, embeddings.vectors)


def write_scp(path: Path, embeddings: Embeddings) -> None:
    """Write ``name.scp`` and the ``name.ark`` beside it that it points to, by bare file name."""
    keys, ark = _kaldi_keys(embeddings), path.with_suffix(".ark")
    with atomic_path(path) as temporary:
        with atomic_path(ark) as temporary_ark, temporary_ark.open("wb") as file:
            places = _write_kaldi(file, keys, embeddings.vectors)
        lines = (f"{key} {ark.name}:{at}\n" for key, at in zip(keys, places, strict=True))
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def _write_kaldi(file: BinaryIO, keys: list[str], vectors: np.ndarray) -> list[int]:
    """Write binary float vectors; returns where each begins, after its key."""
    places, at = [], 0
    head = b"\0BFV \4" + vectors.shape[1].to_bytes(4, "little")
    for key, vector in zip(keys, vectors.astype("<f4"), strict=True):
        name = f"{key} ".encode()
        at += len(name)
        places.append(at)
        at += file.write(name + head + vector.tobytes()) - len(name)
    return places


def _kaldi_keys(embeddings: Embeddings) -> list[str]:
    """The ids; Kaldi's hold no white space.

    Raises:
        InputError: an id with white space, or one that is no text.
    """
    keys = embeddings.ids.tolist()
    for name in keys:
        if len(name.split()) != 1 or not name.isprintable():
            raise InputError(
                f"id {name!r} has white space or control characters, which Kaldi files cannot "
                "hold. Use npz."
            )
    return keys


def _from_pairs(path: Path, pairs: list[tuple[str, np.ndarray]]) -> Embeddings:
    vectors = [np.asarray(vector, dtype=np.float32) for _, vector in pairs]
    vectors = [vector[0] if vector.shape[:-1] == (1,) else vector for vector in vectors]
    shapes = {vector.shape for vector in vectors}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InputError(
            f"{path}: vectors of one size expected, found shapes {sorted(shapes)[:5]}. "
            "Embeddings have one vector per utterance."
        )
    return named(path, [name for name, _ in pairs], np.stack(vectors))
