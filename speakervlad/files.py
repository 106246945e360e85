"""Outputs that appear under their final name only when they are complete."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speakervlad.errors import InputError

# Errors that only writing causes; Python's own messages do not name the file.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it on success, remove it on failure.

    The temporary name keeps the suffix, because ``np.savez`` and matplotlib go by it.

    Raises:
        InputError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    check_writable(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming_full_disk(path):
            yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """While ``path`` is written.

    Raises:
        InputError: the disk, a quota or the size of a file is exhausted.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise InputError(
            f"{path}: cannot be written ({error.strerror}). Make room or choose another path."
        ) from error


def check_writable(path: str | Path) -> None:
    """Fail before the work, not after it.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be created or written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}). Choose another path.") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
