"""Arrays of .npy and .npz files: nothing is unpickled, and no header is believed unchecked."""

import math
import sys
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from speakervlad.errors import InputError

# An entry of an npz may unpack to this, or to so many times its packed size, whichever is more.
MAX_UNPACKED_BYTES = 100_000_000
MAX_UNPACKED_RATIO = 40


def load_npy(path: str | Path) -> np.ndarray:
    """Read one array.

    Raises:
        InputError: no such file contents, or fewer bytes than its header claims.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _read_array(file, path.stat().st_size)
        # Whatever numpy raises on bytes that are no array.
        except Exception as error:
            raise InputError(f"{path}: no array ({_reason(error)}). Save it again.") from error


def load_npz(path: str | Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read those of the named arrays that a file has.

    Raises:
        InputError: no such file contents, or an array that unpacks to an absurd size.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                held = {info.filename: info for info in archive.infolist()}
                return {
                    name: _read_entry(archive, held[f"{name}.npy"])
                    for name in names
                    if f"{name}.npy" in held
                }
        # Whatever zipfile, zlib and numpy raise on bytes that are no such archive.
        except Exception as error:
            raise InputError(f"{path}: no arrays ({_reason(error)}). Save them again.") from error


def shapes_in(path: str | Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind (``f``, ``U`` ...) of every array of an npz, whose content is not read.

    Raises:
        InputError: no such file contents.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = {}
                for name in archive.namelist():
                    with archive.open(name) as entry:
                        shape, dtype = _read_header(entry)
                    found[name.removesuffix(".npy")] = shape, dtype.kind
                return found
        # Whatever zipfile, zlib and numpy raise on bytes that are no such archive.
        except Exception as error:
            raise InputError(f"{path}: no arrays ({_reason(error)}). Save them again.") from error


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    limit = max(MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO * entry.compress_size)
    if entry.file_size > limit:
        raise ValueError(f"{entry.filename} unpacks to {entry.file_size:,} bytes")
    with archive.open(entry) as file:
        return _read_array(file, entry.file_size)


def _read_array(file: IO[bytes], num_bytes: int) -> np.ndarray:
    """Read an array of a file that holds so many bytes."""
    shape, dtype = _read_header(file)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > num_bytes - file.tell():
        raise ValueError(f"its header claims {claimed:,} bytes, more than there are")
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False)
    if dtype.kind == "U" and _code_points(array).max(initial=0) > sys.maxunicode:
        raise ValueError("texts with characters that do not exist")
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that an array's header states."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    return shape, dtype


def _code_points(texts: np.ndarray) -> np.ndarray:
    """The characters of all texts as numbers."""
    numbers = np.dtype(np.uint32).newbyteorder(texts.dtype.byteorder)
    return np.frombuffer(np.ascontiguousarray(texts).tobytes(), numbers)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
