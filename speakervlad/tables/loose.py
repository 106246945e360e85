"""Embeddings as other toolkits and scripts leave them: arrays by id, npy with ids, csv."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.tables.arrays import load_npy, load_npz, shapes_in
from speakervlad.tables.columns import is_number
from speakervlad.tables.embeddings import Embeddings, named, read_npz
from speakervlad.texts import read_text

# Columns of ids and of vectors by their usual names.
ID_COLUMNS = ("id", "ids", "utterance_id", "utt_id")
VECTOR_COLUMNS = ("embedding", "vector", "vectors")
# Files of ids beside `E.npy`.
ID_FILES = ("{stem}.txt", "{stem}.ids", "{stem}_ids.npy", "{stem}.ids.npy", "ids.txt", "ids.npy")
# Names of arrays in an npz of two.
ID_ARRAYS = (*ID_COLUMNS, "names", "keys", "utts", "utterances", "paths", "labels")


def read_arrays(path: Path) -> Embeddings:
    """Read an npz: ours, one array an id, or an array of ids beside one of vectors.

    Raises:
        InputError: none of them; names the arrays that were found.
    """
    try:
        shapes = shapes_in(path)
    except InputError:
        shapes = {}
    # Of damaged files and of those that have one of both, it says what is wrong.
    if not shapes or {"ids", "vectors"} & shapes.keys():
        return read_npz(path)
    texts = [name for name, (_, kind) in shapes.items() if kind in "US" and name in ID_ARRAYS]
    matrices = [
        name for name, (shape, kind) in shapes.items() if kind == "f" and len(_vector(shape)) == 2
    ]
    if len(texts) == 1 and len(matrices) == 1:
        arrays = load_npz(path, (texts[0], matrices[0]))
        return named(path, _texts(arrays[texts[0]]), flat(arrays[matrices[0]]))
    sizes = {_vector(shape) if kind == "f" else () for shape, kind in shapes.values()}
    if len(shapes) > 1 and len(sizes) == 1 and len(next(iter(sizes))) == 1:
        arrays = load_npz(path, shapes)
        rows = [array.reshape(-1) for array in arrays.values()]
        return named(path, list(arrays), np.stack(rows))
    told = [f"{name} {kind}{list(shape)}" for name, (shape, kind) in shapes.items()]
    raise InputError(
        f"{path}: no embedding file. Expected an .npz with `ids` and `vectors`, as `speakervlad "
        "embed` writes, or one array of floats for each id, all of one size. "
        f"Found {len(told)} arrays: {first_few(told)}."
    )


def read_npy(path: Path) -> Embeddings:
    """Read ``E.npy`` of vectors (N, D) or (N, 1, D), with its ids in a file beside it.

    Raises:
        InputError: no such array, no ids, or as many as fit not.
    """
    vectors = flat(load_npy(path))
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: an array of {vectors.dtype} {list(vectors.shape)}. Vectors (N, D) expected."
        )
    names = [each.format(stem=path.stem) for each in ID_FILES]
    beside = next((path.parent / name for name in names if (path.parent / name).is_file()), None)
    if beside is None:
        raise InputError(
            f"{path}: has no ids beside it. Write them, one a line, into {names[0]}. (Or one of "
            f"{', '.join(names[1:])}.)"
        )
    if beside.suffix == ".npy":
        ids = _texts(load_npy(beside))
    else:
        ids = [line.strip() for line in read_text(beside).splitlines() if line.strip()]
    if len(ids) != len(vectors):
        raise InputError(f"{beside}: {len(ids)} ids for {len(vectors)} vectors of {path.name}.")
    return named(path, ids, vectors)


def read_csv(path: Path) -> Embeddings:
    """Read a csv: an id and its numbers a row, or a column of ids and one of ``[0.1, 0.2 ...]``.

    Separated by commas, semicolons or tabs; with a header or without.

    Raises:
        InputError: neither; names the line.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    rows = list(csv.reader(text.splitlines(), delimiter=separator))
    lines = [(number, row) for number, row in enumerate(rows, 1) if any(map(str.strip, row))]
    if not lines:
        raise InputError(f"{path}: is empty. Expected an id and its numbers in every line.")
    header = [cell.strip() for cell in lines[0][1]]
    is_named = header[0].lower() in ID_COLUMNS
    has_header = is_named or not (_is_list(header[-1]) or all(map(is_number, header[1:])))
    columns = _columns(header if has_header else [])
    pairs = list(_rows(path, lines[has_header:], columns))
    sizes = sorted({len(numbers) for _, numbers in pairs})
    if sizes == [0]:
        raise InputError(f"{path}: holds no numbers. Expected an id and its numbers in every line.")
    if len(sizes) != 1 or not sizes[0]:
        raise InputError(f"{path}: vectors of one size expected, found sizes {sizes[:5]}.")
    return named(path, [name for name, _ in pairs], np.array([row for _, row in pairs]))


def refuse_pickles(path: Path) -> Embeddings:
    """Say how to write what is not unpickled here.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{path}: is a pickle, which could run code and is not read. Where it was made, write "
        "np.savez('E.npz', ids=ids, vectors=vectors), or one array an id: np.savez('E.npz', **d)."
    )


def flat(vectors: np.ndarray) -> np.ndarray:
    """(N, 1, D), as SpeechBrain's ``encode_batch`` gives it, as (N, D)."""
    return vectors[:, 0] if vectors.ndim == 3 and vectors.shape[1] == 1 else vectors


def _vector(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of one."""
    return tuple(size for size in shape if size != 1)


def _texts(array: np.ndarray) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in array.tolist()]


def _columns(header: list[str]) -> tuple[int, int | None]:
    """The column of ids, and that of lists if there is one."""
    lowered = [name.lower() for name in header]
    ids = next((lowered.index(name) for name in ID_COLUMNS if name in lowered), 0)
    return ids, next((lowered.index(name) for name in VECTOR_COLUMNS if name in lowered), None)


def _is_list(cell: str) -> bool:
    return cell.strip().startswith("[")


def _rows(
    path: Path, lines: Iterable[tuple[int, list[str]]], columns: tuple[int, int | None]
) -> Iterator[tuple[str, list[float]]]:
    own, lists = columns
    for number, row in lines:
        try:
            numbers = row[:own] + row[own + 1 :] if lists is None else [row[lists]]
            if len(numbers) == 1:
                numbers = numbers[0].strip().strip("[]").replace(",", " ").split()
            yield row[own].strip(), [float(cell) for cell in numbers]
        except (IndexError, ValueError) as error:
            raise InputError(
                f"{path}, line {number}: no id and numbers: {', '.join(row)[:80]!r}."
            ) from error
