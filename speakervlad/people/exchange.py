"""People in one file that any language reads: safetensors, with the texts as JSON beside arrays.

Metadata: ``format``, ``encoder`` (fingerprint), ``people`` (JSON: a list of ``name`` and
``recordings``, each with ``digest``, ``seconds``, ``date`` and ``note``). Arrays, one row for each
recording in that order: ``first`` (recordings, clusters, dim) and ``weight``, float64 moments of
the frames, ``second`` where the pooling has it, ``num_frames`` int64. No audio, no pickle.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.people.records import Header, Person, Recording, check_name, check_note
from speakervlad.texts import parse_json

logger = logging.getLogger(__name__)

FORMAT = "speakervlad-people-1"
ARRAYS = ("weight", "first", "second", "num_frames")


def write_people(path: str | Path, header: Header, people: Sequence[Person]) -> int:
    """Write people, complete or not at all, readable by their owner alone.

    Returns:
        How many were written: those without recordings are left out, with a warning.

    Raises:
        InputError: nobody has recordings, or the file cannot be written.
    """
    from safetensors.numpy import load, save

    without = [person.name for person in people if not person.recordings]
    people = [person for person in people if person.recordings]
    if not people:
        raise InputError(f"{path}: nobody has recordings, so there is nothing to write.")
    if without:
        logger.warning(
            "%s: left out, as they were imported as vectors: %s. Keep the table that they are of.",
            *(path, first_few(without)),
        )
    texts = [
        {
            "name": person.name,
            "recordings": [
                {"digest": each.digest, "seconds": each.seconds, "date": each.date,
                 "note": each.note}
                for each in person.recordings
            ],
        }
        for person in people
    ]  # fmt: skip
    sums = [load(each.sums) for person in people for each in person.recordings]
    arrays = {name: np.stack([each[name] for each in sums]) for name in ARRAYS if name in sums[0]}
    notes = {"format": FORMAT, "encoder": str(header.encoder), "people": json.dumps(texts)}
    # Not `save_file`, whose errors of a full disk name nothing.
    content = save(arrays, notes)
    with atomic_path(path, mode=0o600) as temporary:
        temporary.write_bytes(content)
    return len(people)


def read_people(path: str | Path) -> tuple[str, list[Person]]:
    """The encoder's fingerprint, and people without voices.

    Raises:
        InputError: no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save

    try:
        with safe_open(path, "numpy") as file:
            notes = file.metadata() or {}
            if notes["format"] != FORMAT:
                raise ValueError(f"format {notes['format']!r}, not {FORMAT!r}")
            arrays = {name: file.get_tensor(name) for name in ARRAYS if name in file.keys()}  # noqa: SIM118
        texts = parse_json(notes["people"])
        rows = iter(range(len(arrays["first"])))
        people = [
            _person(text, [save({name: each[row] for name, each in arrays.items()})
                           for _, row in zip(text["recordings"], rows, strict=False)])
            for text in texts
        ]  # fmt: skip
        if next(rows, None) is not None:
            raise ValueError("more moments than recordings")
        return notes["encoder"], people
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: no file of people, or damaged ({reason}).") from error


def _person(text: dict[str, Any], sums: list[bytes]) -> Person:
    recordings = tuple(
        Recording(
            str(each["digest"]), moments, float(each["seconds"]), str(each["date"]),
            check_note(each["note"]),
        )
        for each, moments in zip(text["recordings"], sums, strict=True)
    )  # fmt: skip
    if not recordings:
        raise ValueError("a person without recordings")
    return Person(check_name(text["name"]), recordings)
