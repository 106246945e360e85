"""Bytes, trees and members of containers, changed at random; the same seed changes the same."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

WORDS = [
    b"nan", b"inf", b"-1", b"0", b"1e400", b"99999999999999999999", b"\0", b"\n", b"\t", b" ",
    b"\xff\xfe", "ü".encode(), b"..", b"/", b"null", b"true", b"[", b"{", b'"', b",", b":", b"%",
    b"${oc.env:HOME}", b"!!python/object:os.system", b"\r", b"target", b"-", b"x" * 5000,
]  # fmt: skip
VALUES = [
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\0", "a" * 3000, [], {},
    [[]], {"a": 1}, [1, "x", None], "-1", 2**31, 65_536, 1e9,
]  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, put in, repeated, or taken for extreme numbers."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        near_start = rng.random() < 0.5
        place = rng.randrange(min(len(data), 120) if near_start else len(data)) if data else 0
        length, put = rng.choice(EDITS)(data[place:], rng)
        data[place : place + length] = put
    return bytes(data)


def _number(rng: random.Random, size: int) -> bytes:
    largest = 2 ** (8 * size)
    number = rng.choice([0, 1, largest // 2 - 1, largest - 1])
    return number.to_bytes(size, rng.choice(["big", "little"]))


# Each takes the bytes from a place on, and says how many of them become what.
EDITS: list[Callable[[bytearray, random.Random], tuple[int, bytes]]] = [
    lambda rest, rng: (1, bytes([rng.randrange(256)])),
    lambda rest, rng: (1, bytes([(rest[0] if rest else 0) ^ 1 << rng.randrange(8)])),
    lambda rest, rng: (rng.choice([1, 2, 9, 100]), b""),
    lambda rest, rng: (0, rng.choice(WORDS)),
    lambda rest, rng: (8, _number(rng, 8)),
    lambda rest, rng: (4, _number(rng, 4)),
    lambda rest, rng: (0, bytes(rest[: rng.choice([1, 10, 200])]) * rng.choice([1, 3])),
    lambda rest, rng: (len(rest), b""),
]


def mutate_tree(tree: Any, rng: random.Random) -> Any:  # noqa: ANN401 - any JSON value
    """One value somewhere in nested containers replaced, left out, renamed, or nested deeply."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        if rng.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        if rng.random() < 0.1:
            return {(name + "x" if name == key else name): value for name, value in tree.items()}
        return tree | {key: mutate_tree(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        return [*tree[:place], mutate_tree(tree[place], rng), *tree[place + 1 :]]
    return rng.choice(VALUES)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """The text of a changed tree; now and then it is nested 100,000 deep."""
    if rng.random() < 0.01:
        return b"[" * 100_000
    return json.dumps(mutate_tree(json.loads(content), rng)).encode()


def mutate_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header's tree changed, its length right."""
    size = int.from_bytes(content[:8], "little")
    header = mutate_json(content[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """One member changed, its checksum right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            new.writestr(name, mutate_bytes(data, rng) if name == chosen else data)
    return out.getvalue()


def mutate_gzip(content: bytes, rng: random.Random) -> bytes:
    """The text inside changed."""
    return gzip.compress(mutate_bytes(gzip.decompress(content), rng), 1)


INSIDE = {
    ".json": mutate_json,
    ".yaml": mutate_json,
    ".safetensors": mutate_safetensors,
    ".npz": mutate_zip,
    ".pt": mutate_zip,
    ".gz": mutate_gzip,
}


def mutate(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """Half of the time inside the container, where the suffix is that of one."""
    is_tree = suffix not in (".json", ".yaml") or content[:1] in b"[{"
    if suffix in INSIDE and is_tree and rng.random() < 0.6:
        return INSIDE[suffix](content, rng)
    return mutate_bytes(content, rng)
