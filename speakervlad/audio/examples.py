"""Recordings that the package carries, to try the commands with."""

import shutil
from pathlib import Path

from speakervlad.files import atomic_path

CLIPS = Path(__file__).parent / "clips"


def examples() -> dict[str, Path]:
    """Twelve clips of five people from Common Voice (CC0), each of 4 to 8 s.

    They were chosen because the encoder that ships tells these people apart.

    Returns:
        Path by name: ``alex-1``, ``alex-2``, ``alex-3``, ``jo-1`` ...; before the hyphen stands an
        invented name of the speaker.
    """
    return {path.stem: path for path in sorted(CLIPS.glob("*.opus"))}


def copy_examples(folder: str | Path) -> list[Path]:
    """Copy them, with their licence, into a folder that is made when it is missing.

    Returns:
        The copied recordings.

    Raises:
        InputError: the folder cannot be written.
    """
    targets = []
    for source in (*examples().values(), CLIPS / "LICENSE.md"):
        targets.append(Path(folder) / source.name)
        with atomic_path(targets[-1]) as temporary:
            shutil.copyfile(source, temporary)
    return targets[:-1]
