"""Outputs that appear under their final name only when they are complete."""

import errno
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from speakervlad.errors import InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

# Errors that only writing causes; Python's own messages do not name the file.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What file systems without locks answer.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
# Longest name of a file on all common file systems.
MAX_NAME_BYTES = 255
# As many links as Linux follows.
MAX_LINKS = 40
STANDARD_OUTPUT = Path("-")


@contextmanager
def atomic_path(path: str | Path, *, sync: bool = True, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it on success, remove it on failure.

    The temporary name keeps the suffix, because ``np.savez`` and matplotlib go by it. A link stays
    a link: the file that it leads to is replaced. What is no file gets the whole output at the end,
    in one go: pipes, character devices, open descriptors (``/dev/stdout``, ``/dev/fd/3``), and
    standard output for ``-``.

    Args:
        path: of the output.
        sync: bring the data to the disk before the rename, so that not even a power cut leaves an
            incomplete file. It takes as long as 30 small files do without it.
        mode: permissions of a file; those of the file that it replaces, or the usual ones, if None.

    Raises:
        InputError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    _check_output(path)
    make = _temporary_for_stream if _is_stream(path) else _temporary_beside
    with naming_full_disk(path), make(path, sync, mode) as temporary:
        yield temporary


@contextmanager
def _temporary_beside(path: Path, sync: bool, mode: int | None) -> Iterator[Path]:
    target = _target(path)
    handle, temporary = _make_temporary(target, path.suffix)
    try:
        yield temporary
        temporary.chmod(_mode(target) if mode is None else mode)
        if sync:
            os.fsync(handle)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def create(path: str | Path, content: bytes, *, mode: int) -> None:
    """Make a file with some content where none is, complete or not at all.

    A file that is there already, or that somebody else makes meanwhile, stays.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    check_writable(path)
    with naming_full_disk(path):
        handle, temporary = _make_temporary(path, path.suffix)
        try:
            temporary.write_bytes(content)
            temporary.chmod(mode)
            os.fsync(handle)
            _link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, if that name is free."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError as error:
        # File systems without hard links; two processes at once are not told apart there.
        logger.debug("%s: no hard links (%s)", path, error)
        if not path.exists():
            temporary.rename(path)


def _make_temporary(target: Path, suffix: str) -> tuple[int, Path]:
    """A new file that is locked as long as this process lives: see ``remove_stale``."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=_prefix(target, suffix), suffix=suffix
        )
        _try_lock(handle)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


@contextmanager
def _temporary_for_stream(path: Path, sync: bool, mode: int | None) -> Iterator[Path]:
    """A path elsewhere, whose contents go to what is no file and keeps its permissions."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"output{path.suffix}"
        temporary.touch()
        yield temporary
        try:
            with temporary.open("rb") as made, _open_stream(path) as stream:
                shutil.copyfileobj(made, stream)
        except OSError as error:
            if isinstance(error, BrokenPipeError) or error.errno in NO_ROOM:
                raise
            raise _not_writable(path, error) from error


def _is_stream(path: Path) -> bool:
    """Whether an output is a pipe, a character device or an open descriptor."""
    if _descriptor(path) is not None:
        return True
    kind = path.stat().st_mode if path.exists() else 0
    return stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)


def _descriptor(path: Path) -> int | None:
    """The number of an open descriptor that a path stands for, itself or by links."""
    if path == STANDARD_OUTPUT:
        return 1
    for _ in range(MAX_LINKS):
        if not path.is_symlink():
            return None
        folder = path.parent.resolve()
        if path.name.isdecimal() and folder == Path("/proc/self/fd").resolve():
            return int(path.name)
        path = folder / path.readlink()
    return None


def _open_stream(path: Path) -> BinaryIO:
    """A descriptor is not opened anew, which would cut the file behind it."""
    descriptor = _descriptor(path)
    if descriptor is None:
        return path.open("wb")
    sys.stdout.flush()
    return os.fdopen(os.dup(descriptor), "wb")


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Name ``path`` if there is no room while it is written.

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
def exclusive(path: str | Path, busy: str, *, stays: bool = True) -> Iterator[None]:
    """Hold a lock file, which the system takes back when this process ends, however it ends.

    Args:
        path: of the lock file, which means nothing by itself.
        busy: the message if another process holds it.
        stays: leave the lock file behind at the end.

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
        if not stays:
            Path(path).unlink(missing_ok=True)
        held.release()


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder, which may not exist yet, while files below it are written.

    Raises:
        InputError: another process does, or the folder cannot be written.
    """
    busy = f"{folder}: another process is writing it. Wait for its end."
    return exclusive(folder / ".lock", busy, stays=False)


def remove_stale(*paths: str | Path) -> None:
    """Remove the temporary files that killed processes left when they wrote one of ``paths``.

    Those of processes that still write them are locked, and stay.
    """
    named: dict[Path, set[tuple[str, str]]] = {}
    for path in map(Path, paths):
        target = _target(path)
        named.setdefault(target.parent, set()).add((_prefix(target, path.suffix), path.suffix))
    for folder, names in named.items():
        suffixes = {suffix for _, suffix in names}
        for left in folder.glob(".*"):
            for suffix in suffixes:
                beginning = left.name[: -8 - len(suffix)]
                if left.name.endswith(suffix) and (beginning, suffix) in names:
                    _remove_unlocked(left)


def _remove_unlocked(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if _try_lock(file.fileno()):
                path.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("%s: stays (%s)", path, error)


def _try_lock(handle: int) -> bool:
    """Lock a file until it is closed; whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_writable(path: str | Path) -> None:
    """Fail before the work, not after it; and remove what killed runs left of this output.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be created or written.
    """
    path = Path(path)
    _check_output(path)
    if not _is_stream(path):
        remove_stale(path)


def _check_output(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name a file to write.")
    try:
        if "\0" in str(path):
            raise ValueError("a NUL in its name")
        if (descriptor := _descriptor(path)) is not None:
            os.fstat(descriptor)
        elif path.exists() and not path.is_file():
            _check_special(path)
        else:
            folder = _target(path).parent
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError of loops of links
        raise _not_writable(path, error) from error


def _check_special(path: Path) -> None:
    if not _is_stream(path):
        raise InputError(f"{path}: is a socket or a block device. Name a file to write.")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _not_writable(path: Path, error: Exception) -> InputError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return InputError(f"{path}: cannot be written ({reason}). Choose another path.")


def _target(path: Path) -> Path:
    """The file that is replaced: where links lead to, or the path itself."""
    return path.resolve() if path.is_symlink() else path


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or those of a new one."""
    return stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()


def _prefix(target: Path, suffix: str) -> str:
    """The beginning of an output's temporary names, cut so that the whole name fits."""
    room = MAX_NAME_BYTES - len(os.fsencode(f"..????????{suffix}"))
    return f".{os.fsdecode(os.fsencode(target.stem)[:room])}."


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def open_regular(path: Path) -> BinaryIO:
    """Open a file that is no pipe, device or folder."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no regular file.")
    return path.open("rb")
