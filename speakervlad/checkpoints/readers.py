"""The table of all readers of others' weights."""

from collections.abc import Sequence
from pathlib import Path

from speakervlad.checkpoints.campplus import SpeakerLabCAMPPlus, WeSpeakerCAMPPlus
from speakervlad.checkpoints.ecapa import SpeechBrainECAPA
from speakervlad.checkpoints.keras import KerasReader
from speakervlad.checkpoints.reader import Converted, Reader, write_folder
from speakervlad.errors import InputError, did_you_mean
from speakervlad.extras import require

READERS: dict[str, type[Reader]] = {
    "keras": KerasReader,
    "3d-speaker": SpeakerLabCAMPPlus,
    "wespeaker": WeSpeakerCAMPPlus,
    "speechbrain": SpeechBrainECAPA,
}


def convert_checkpoint(
    paths: Sequence[str | Path], out: str | Path, toolkit: str = "keras"
) -> Converted:
    """Turn a checkpoint of another toolkit into an encoder folder.

    Args:
        paths: its files.
        out: the folder; nothing is written unless everything fits.
        toolkit: a row of ``READERS``.

    Raises:
        InputError: no such row, a file is not readable, or it is not exactly a network that the
            reader knows.
    """
    if toolkit not in READERS:
        raise InputError(f"--from {toolkit}: {did_you_mean(toolkit, READERS)}")
    reader, files = READERS[toolkit](), [Path(path) for path in paths]
    if reader.needs is not None:
        require(*reader.needs, "convert")
    found = reader.read(files)
    write_folder(out, found, files)
    return found
