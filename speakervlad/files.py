"""Outputs that appear under their final name only when they are complete."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

# Errors that only writing causes; Python's own messages do not name the file.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What file systems without locks answer.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


# Of a file's name, on all common file systems.
MAX_NAME_BYTES = 255


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it on success, remove it on failure.

    The temporary name keeps the suffix, because ``np.savez`` and matplotlib go by it.

    Raises:
        InputError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    check_writable(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
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


@contextmanager
def exclusive(path: str | Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which the system takes back when this process ends, however it ends.

    Args:
        path: of the lock file, which stays behind and means nothing by itself.
        busy: the message if another process holds it.

    Raises:
        InputError: another process holds it, or its folder cannot be written.
    """
    from filelock import FileLock, Timeout

    check_writable(path)
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise InputError(busy) from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        logger.warning("%s: this file system has no locks; start no second process here", path)
    try:
        yield
    finally:
        held.release()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While files below a folder are written, which may not exist yet: nobody else does so.

    Raises:
        InputError: another process does, or the folder cannot be written.
    """
    path = folder / ".lock"
    with exclusive(path, f"{folder}: another process is writing it. Wait for its end."):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def remove_stale(*paths: str | Path) -> None:
    """Remove the temporary files that killed processes left when they wrote one of ``paths``.

    Whoever calls it knows that no other process writes them now.
    """
    named: dict[Path, set[tuple[str, str]]] = {}
    for path in map(Path, paths):
        named.setdefault(path.parent, set()).add((_prefix(path), path.suffix))
    for folder, names in named.items():
        suffixes = {suffix for _, suffix in names}
        for left in folder.glob(".*"):
            for suffix in suffixes:
                beginning = left.name[: -8 - len(suffix)]
                if left.name.endswith(suffix) and (beginning, suffix) in names:
                    left.unlink(missing_ok=True)


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


def _prefix(path: Path) -> str:
    """How the temporary names of an output begin; with eight characters and suffix no too long."""
    room = MAX_NAME_BYTES - len(os.fsencode(f"..????????{path.suffix}"))
    return f".{os.fsdecode(os.fsencode(path.stem)[:room])}."


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
