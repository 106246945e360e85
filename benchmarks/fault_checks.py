"""What a reader of ``faults.py`` may give back: values that can be, the same when written again."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Read = Callable[[Path], Any]
# Of samples, lengths of unit vectors and cosines.
SLACK = 1e-3


def picture(value: Any) -> object:  # noqa: ANN401 - whatever a reader gives back
    """A value as plain containers, equal for equal contents, to the bit."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value).__name__, picture(named)
    if isinstance(value, Mapping):
        return tuple((key, picture(one)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(picture, value))
    as_array = getattr(value, "numpy", None)
    if as_array is not None:
        value = as_array()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


def again(read: Read, save: Callable[[Path, Any], None], suffix: str = "", times: int = 1) -> Read:
    """A reader that writes what it has read, and must read the same from there.

    Args:
        read: the reader.
        save: its writer; names may be refused that its form does not hold.
        suffix: of what is written; that of the file by default.
        times: 2 where the form rounds numbers, and the first writing is compared with the second.
    """
    from speakervlad.errors import InputError

    def checked(path: Path) -> object:
        value = written = read(path)
        copy = path.with_name(f"again{suffix or path.suffix}")
        for number in range(times):
            before = picture(written)
            try:
                save(copy, written)
            except InputError:
                return value
            written = read(copy)
            is_last = number == times - 1
            assert not is_last or picture(written) == before, "written and read, it is another"
        return value

    return checked


def finite(values: np.ndarray) -> np.ndarray:
    """The same; numbers alone."""
    assert np.isfinite(values).all(), "not finite"
    return values


def unit(vectors: np.ndarray) -> np.ndarray:
    """The same, (..., dim); vectors of length 1."""
    lengths = np.linalg.norm(finite(vectors), axis=-1)
    assert np.all(np.abs(lengths - 1) < SLACK), "not of length 1"
    return vectors


def sound(path: Path) -> np.ndarray:
    """All samples of a recording: as many as its header tells, in -1 to 1, in spans as whole."""
    from speakervlad.audio.recording import Recording
    from speakervlad.audio.spans import audio_info, load_audio

    samples = finite(load_audio(path))
    assert np.abs(samples).max(initial=0) <= 1 + SLACK, "beyond full scale"
    assert audio_info(path).num_samples == len(samples), "another length than was told"
    wave = Recording(path).wave
    assert wave.num_samples == len(samples), "another length as a recording"
    middle = len(samples) // 2
    part = wave.read(middle, min(middle + 400, len(samples)))
    assert np.abs(part - samples[middle : middle + 400]).max(initial=0) < SLACK, "another part"
    return samples


def answers(store: Any, probe: np.ndarray, recording: Path) -> list[object]:  # noqa: ANN401
    """What a store of people says: who is there, whose a voice and a recording are.

    Args:
        store: is open.
        probe: (1, dim), a unit vector.
        recording: to be identified.
    """
    found: list[object] = [store.show(person.name) for person in store.people()]
    found += [store.recordings(person.name) for person in store.people()]
    for answer in (*store.match(probe), *store.identify([recording])):
        named = [each.name for each in answer.candidates]
        assert answer.name in (None, *named), "a name that no candidate has"
        cosines = np.array([each.score for each in answer.candidates])
        assert np.all(np.abs(finite(cosines)) <= 1 + SLACK), "a cosine beyond 1"
        assert np.isfinite(answer.threshold), "a threshold that is no number"
        found.append(answer)
    return found
