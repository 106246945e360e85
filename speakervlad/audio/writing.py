"""Audio files written: mono at 16 kHz, all of it or nothing."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from speakervlad.files import atomic_path
from speakervlad.sound import SAMPLE_RATE


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit integers, little endian."""
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype("<i2")


def write_audio(
    path: Path, samples: np.ndarray | Iterable[np.ndarray], *, subtype: str = "PCM_16"
) -> None:
    """Write mono samples at 16 kHz in the format of the suffix; all of them or nothing.

    Args:
        path: The file; its suffix is a format of soundfile.
        samples: Shape (samples,), or blocks of them.
        subtype: Of soundfile.

    Raises:
        InputError: ``path`` cannot be written, or the disk is full.
    """
    blocks = [samples] if isinstance(samples, np.ndarray) else samples
    with atomic_path(path, sync=False) as temporary:
        fill_audio(temporary, blocks, form=path.suffix[1:], subtype=subtype)


def fill_audio(path: Path, blocks: Iterable[np.ndarray], *, form: str, subtype: str) -> None:
    """Write mono samples at 16 kHz into an empty file, which is incomplete if that fails.

    Args:
        path: The file.
        blocks: Samples (samples,) that follow one another.
        form: Of soundfile.
        subtype: Of soundfile.

    Raises:
        OSError: as the system raised it.
    """
    with _Sink(path, "r+") as sink:
        with soundfile.SoundFile(
            sink, "w", SAMPLE_RATE, 1, format=form, subtype=subtype
        ) as encoder:
            for block in blocks:
                encoder.write(block)
                sink.check()
        sink.check()


class _Sink(io.FileIO):
    """A file that libsndfile writes; of a full disk that says "System error." and nothing else."""

    error: OSError | None = None

    def write(self, data: bytes, /) -> int:  # type: ignore[override] - what soundfile hands over
        """Write all of it, or keep the error for `check`."""
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[super().write(view) :]
        except OSError as error:
            self.error = error
        return len(data)

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: as the system raised it.
        """
        if self.error is not None:
            raise self.error
