"""Files elsewhere are fetched: ``https://``, ``s3://`` and members of tar files, through fsspec.

Whether a name means such a file is told by ``urls.py``, which needs nothing of this. Credentials
come from where the services' own tools take them (``AWS_...``, ``~/.aws``, ``~/.netrc``).
"""

import functools
import ipaddress
import logging
import re
import shutil
import socket
import tarfile
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from speakervlad.errors import InputError, first_few
from speakervlad.extras import require
from speakervlad.urls import location_of, shown

logger = logging.getLogger(__name__)

# Seconds to connect, and between two pieces of what arrives.
CONNECT_SECONDS, READ_SECONDS = 20, 60
# Seconds before the second, third and fourth try.
WAITS = (0.5, 1.0, 2.0)
# Of one recording or manifest.
MAX_BYTES = 8_000_000_000
PIECE_BYTES = 1 << 20
# What is not tried again.
FINAL = (FileNotFoundError, PermissionError, InputError, IsADirectoryError)
FINAL_STATUS = frozenset({400, 401, 403, 404, 405, 410, 451})

_private_allowed = False


class RefusedError(PermissionError):
    """An address that must not be asked."""


def allow_private(allowed: bool) -> None:
    """Whether names may lead to this machine or a private network, from now on."""
    global _private_allowed
    _private_allowed = allowed


def allows_private() -> bool:
    """What ``allow_private`` was told last."""
    return _private_allowed


class Fetched:
    """A file of elsewhere in a temporary folder, which goes when this does.

    Raises:
        InputError: it cannot be had; says how often it was tried.
    """

    def __init__(self, url: str) -> None:
        folder = tempfile.mkdtemp(prefix="speakervlad.")
        self._end = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        # Its own suffix, by which some decoders go.
        suffix = PurePosixPath(shown(url.split("::")[0])).suffix[:8]
        self.path = Path(folder) / f"file{suffix}"
        self.url = url
        _tried(url, self._copy)

    def _copy(self) -> None:
        with open_remote(self.url) as source, self.path.open("wb") as target:
            while piece := source.read(PIECE_BYTES):
                target.write(piece)
                if target.tell() > MAX_BYTES:
                    raise InputError(f"{shown(self.url)}: is larger than {MAX_BYTES:,} bytes.")

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Call the file by a name in errors.

        Raises:
            InputError: what goes wrong meanwhile.
        """
        try:
            yield
        except InputError as error:
            raise InputError(str(error).replace(str(self.path), name)) from error


def _tried(url: str, action: Any) -> Any:  # noqa: ANN401
    """What an action returns, which is tried some times.

    Raises:
        InputError: it failed for good.
    """
    for wait in (*WAITS, None):
        try:
            return action()
        except Exception as found:  # every service has classes of its own
            error = _behind(found)
            if wait is None or isinstance(error, FINAL) or _status(error) in FINAL_STATUS:
                raise _in_words(url, error, wait is None) from None
            logger.info("%s: %s; tried again in %g s", shown(url), _reason(error), wait)
            time.sleep(wait)
    raise AssertionError


def _behind(error: Exception) -> Exception:
    """What went wrong: fsspec calls every failure of a first request a file that is not there."""
    refused = next((each for each in _chain(error) if isinstance(each, RefusedError)), None)
    if refused is not None:
        return refused
    cause = error.__cause__
    is_web = type(cause).__module__.startswith("aiohttp") or isinstance(cause, TimeoutError)
    is_masked = isinstance(error, FileNotFoundError) and is_web
    return cause if is_masked and isinstance(cause, Exception) else error


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from."""
    chain, seen = [error], error
    while (seen := seen.__cause__ or seen.__context__) is not None and len(chain) < 8:
        chain.append(seen)
    return chain


def _status(error: Exception) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _in_words(url: str, error: Exception, is_last: bool) -> InputError:
    if isinstance(error, InputError):
        return error
    tries = f" after {len(WAITS) + 1} tries" if is_last else ""
    return InputError(f"{shown(url)}: cannot be read{tries} ({_reason(error)}).")


def _reason(error: BaseException) -> str:
    """Why, without the URL: it may hold credentials."""
    if isinstance(error, RefusedError):
        return str(error)
    status = next((_status(each) for each in _chain(error) if isinstance(each, Exception)), None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "no such file"
    if status:
        return f"the server answers {status}"
    if isinstance(error, PermissionError):
        return "access denied; are there credentials for it"
    if isinstance(error, TimeoutError):
        return f"no answer within {READ_SECONDS} s"
    kind, reason = type(error).__name__, getattr(error, "strerror", None)
    if "Connect" in kind:
        return f"no connection: {reason}" if reason else "no connection"
    return reason or kind


@contextmanager
def open_remote(url: str) -> Iterator[BinaryIO]:
    """A file of elsewhere, for reading.

    Raises:
        InputError: an unknown kind, an extra that is missing, or a member that is not there.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "tar":
        member, _, archive = rest.partition("::")
        with _open_member(member, archive) as file:
            yield file
        return
    with _filesystem(scheme).open(url, "rb") as file:
        yield file


def _filesystem(scheme: str) -> Any:  # noqa: ANN401 - fsspec has no types
    needed = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs"}[scheme]
    require("fsspec", "remote", f"{scheme}://")
    require(needed, "remote", f"{scheme}://")
    import fsspec

    if scheme == "s3":
        timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
        # Tries of its own would multiply with ours.
        retries = {"retries": {"max_attempts": 1}}
        return fsspec.filesystem("s3", config_kwargs={**timeouts, **retries})
    # Sessions keep connections, so that those of both rules must not be one.
    return fsspec.filesystem("http", get_client=_any_client if _private_allowed else _client)


async def _client(**options: Any) -> Any:  # noqa: ANN401
    """A session that connects to public addresses alone, whatever names and redirects say."""
    import aiohttp

    return await _any_client(
        connector=aiohttp.TCPConnector(socket_factory=_public_socket), **options
    )


async def _any_client(**options: Any) -> Any:  # noqa: ANN401
    """A session with our timeouts."""
    import aiohttp

    options.pop("loop", None)
    timeout = aiohttp.ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    options["timeout"] = timeout
    return aiohttp.ClientSession(**options)


def _public_socket(address: Any) -> socket.socket:  # noqa: ANN401
    """A socket for an address, if it may be asked.

    Raises:
        RefusedError: it is of this machine or of a private network.
    """
    family, kind, protocol, _, place = address
    check_address(str(place[0]))
    return socket.socket(family=family, type=kind, proto=protocol)


def check_address(address: str) -> None:
    """Refuse addresses of this machine, private and link-local ones, unless they are allowed.

    Raises:
        RefusedError: names the kind of address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    if not (_private_allowed or (mapped or found).is_global):
        raise RefusedError(
            "its name leads to an address of this machine or of a private network; "
            "--allow-private allows that"
        )


class _Archive:
    """A tar file and its members; reads take turns, as they move one place in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.RLock()
        url = location_of(name)
        try:
            # Kept open as long as the archive is in the cache.
            file = Path(name).open("rb") if url is None else _filesystem(_scheme(url)).open(url)  # noqa: SIM115
            self.tar = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115
            found = self.tar.getmembers()
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{shown(name)}: no tar file, or a damaged one.") from error
        except FileNotFoundError as error:
            raise InputError(f"{shown(name)}: no such file.") from error
        self.members = {member.name: member for member in found if not member.isdir()}

    def check(self, names: Iterator[str] | list[str]) -> None:
        """Refuse members that lie outside of the archive or are no files.

        Raises:
            InputError: names the first few.
        """
        outside = [name for name in names if _leaves(name)]
        if outside:
            raise InputError(
                f"{shown(self.name)}: members with absolute names or `..`: "
                f"{first_few(map(repr, outside))}. Such an archive is not read."
            )


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _leaves(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or bool(re.match(r"[A-Za-z]:", name))


@functools.lru_cache(maxsize=8)
def _archive(name: str) -> _Archive:
    return _Archive(name) if location_of(name) is None else _tried(name, lambda: _Archive(name))


def members_of(archive: str) -> list[str]:
    """Names of the files in an archive.

    Raises:
        InputError: no tar file, or one with members that lie outside of it.
    """
    opened = _archive(archive)
    opened.check(list(opened.members))
    return [name for name, member in opened.members.items() if member.isreg()]


@contextmanager
def _open_member(member: str, archive: str) -> Iterator[BinaryIO]:
    opened = _archive(archive)
    opened.check([member])
    info = opened.members.get(member)
    if info is None or not info.isreg():
        kind = "no such member" if info is None else "is a link or a device"
        raise InputError(f"tar://{member}::{shown(archive)}: {kind}.")
    with opened.lock:
        file = opened.tar.extractfile(info)
        assert file is not None
        yield file  # pyright: ignore[reportReturnType]
