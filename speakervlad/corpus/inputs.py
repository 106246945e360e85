"""What ``embed`` can be pointed at: a manifest, a folder, audio files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speakervlad.audio.recording import Recording
from speakervlad.corpus.layouts import audio_below
from speakervlad.errors import InputError, first_few
from speakervlad.tables.manifest import load_manifest


@dataclass(frozen=True)
class Recordings:
    """Recordings to embed: the ids under which they are stored, and the files.

    Attributes:
        ids: one for each file.
        paths: the files.
        channel: as for ``Recording``, of all of them.
        speech_only: as for ``Recording``, of all of them.

    Raises:
        InputError: some ids stand for several recordings.
    """

    ids: list[str]
    paths: list[Path]
    channel: int | None = None
    speech_only: bool = False

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.ids).items() if count > 1]
        if twice:
            raise InputError(f"{len(twice)} recordings are named twice: {first_few(twice)}.")

    def audio(self, row: int) -> Recording:
        """One of them."""
        return Recording(self.paths[row], channel=self.channel, speech_only=self.speech_only)


def from_manifest(path: Path, root: Path | None = None) -> Recordings:
    """Every row of a manifest, under its utterance id."""
    manifest = load_manifest(path, root)
    rows = range(len(manifest))
    return Recordings(list(manifest.utterance_ids), [manifest.path(row) for row in rows])


def from_folder(folder: Path) -> Recordings:
    """Every audio file below a folder, under its path relative to it.

    Raises:
        InputError: there is none.
    """
    names = audio_below(folder)
    return Recordings(names, [folder / name for name in names])


def from_names(names: Sequence[str], root: Path) -> Recordings:
    """Recordings that a list names, under the list's own names.

    Raises:
        InputError: some are not there; all are counted.
    """
    paths = [root / name for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(paths)} recordings are missing, such as {missing[0]}. "
            "Check the names and the folder that they start from (--root)."
        )
    return Recordings(list(names), paths)
