"""What ``embed`` can be pointed at: a manifest, a folder, audio files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speakervlad.audio.recording import Recording
from speakervlad.corpus.layouts import audio_below
from speakervlad.errors import InputError, first_few
from speakervlad.sound import AUDIO_SUFFIXES
from speakervlad.tables.manifest import load_manifest
from speakervlad.tables.parquet import read_texts
from speakervlad.texts import read_text
from speakervlad.urls import is_remote, location_of, shown


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
    """Every row of a manifest, under its utterance id, or its path if it has no other name."""
    manifest = load_manifest(path, root, ("path",))
    rows = range(len(manifest))
    return Recordings(list(manifest.utterance_ids), [manifest.path(row) for row in rows])


def from_parquet(path: Path, root: Path | None = None) -> Recordings:
    """Every row of a Parquet file with a column ``path`` and, if there is one, ``utterance_id``.

    Raises:
        InputError: no such file or column.
    """
    columns = read_texts(path, "path", "utterance_id")
    paths = [
        Path(name) if is_remote(name) else (root or path.parent) / name for name in columns["path"]
    ]
    return Recordings(columns.get("utterance_id", columns["path"]), paths)


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
    paths = [Path(name) if is_remote(name) else root / name for name in names]
    missing = [str(path) for path in paths if not is_remote(path) and not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(paths)} recordings are missing, such as {missing[0]}. "
            "Check the names and the folder that they start from (--root)."
        )
    ids = [shown(location_of(name) or "") or name for name in names]
    return Recordings(ids, paths)


def from_archive(archive: str) -> Recordings:
    """Every audio file of a tar file, under its name there.

    Raises:
        InputError: no tar file, or none in it.
    """
    from speakervlad.remote import members_of

    names = [name for name in members_of(archive) if Path(name).suffix.lower() in AUDIO_SUFFIXES]
    if not names:
        raise InputError(f"{shown(archive)}: holds no audio files.")
    return Recordings(names, [Path(f"tar://{name}::{archive}") for name in names])


def from_list(path: Path, root: Path | None = None) -> Recordings | None:
    """The recordings of a plain list, a path or URL a line; None if it is something else.

    Raises:
        InputError: some are not there.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    folder = root or path.parent

    def is_path(line: str) -> bool:
        return len(line.split()) == 1 or is_remote(line) or (folder / line).is_file()

    if not lines or not all(map(is_path, lines)):
        return None
    return from_names(lines, folder)
