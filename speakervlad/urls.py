"""Where a recording is, by its name alone: a local path, a URL, an archive; nothing is fetched.

``tar://MEMBER::ARCHIVE`` is a member of an archive, which may be elsewhere itself. What stands
before an ``@`` or behind a ``?`` is secret: names for messages are without it.
"""

import re
from pathlib import Path

from speakervlad.errors import InputError

# Missing bits of URLs that were paths in between: ``Path`` makes ``s3:/bucket`` of ``s3://bucket``.
SCHEME = re.compile(r"([a-z][a-z0-9+]{1,10}):/")
LOST_SLASH = re.compile(r"(^|::)([a-z][a-z0-9+]{1,10}):/(?!/)")
CHANNEL = re.compile(r"(.+\.[A-Za-z0-9]{2,5}):(\d{1,4})", re.DOTALL)
SCHEMES = ("https", "http", "s3", "tar")
# Known by one slash, too, as a ``Path`` has it.
OTHER_SCHEMES = ("ftp", "sftp", "ssh", "file", "gs", "gcs", "az", "abfs", "hdfs", "hf", "webdav")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def absolute(path: Path) -> Path:
    """A path from the root on; URLs, and names in local archives, likewise."""
    url = location_of(path)
    if url is None:
        return path.absolute()
    member, _, archive = url.rpartition("::")
    return Path(f"{member}::{Path(archive).absolute()}") if location_of(archive) is None else path


def location_of(name: object) -> str | None:
    """The URL that a text or a path stands for; None of anything else.

    Raises:
        InputError: of a kind that is not read.
    """
    if not isinstance(name, str | Path):
        return None
    text = name if isinstance(name, str) else name.as_posix()
    found = SCHEME.match(text)
    if found is None or Path(text).exists():
        return None
    if found[1] not in SCHEMES:
        if not text.startswith(f"{found[1]}://") and found[1] not in OTHER_SCHEMES:
            return None
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InputError(f"{shown(text)}: {found[1]}:// is not read. Known: {known}.")
    return LOST_SLASH.sub(r"\1\2://", text)


def is_remote(name: object) -> bool:
    """Whether a text or a path is a URL."""
    return location_of(name) is not None


def split_channel(url: str) -> tuple[str, int | None]:
    """``https://host/call.wav:1`` is channel 1 of ``https://host/call.wav``."""
    found = CHANNEL.fullmatch(url)
    return (url, None) if found is None else (found[1], int(found[2]))


def shown(url: str) -> str:
    """A URL for messages and ids: without passwords, queries and fragments."""
    parts = []
    for part in url.split("::"):
        bare = re.sub(r"(?<=://)[^/@]*@", "", part)
        is_web = bare.startswith(("http:", "https:"))
        parts.append(re.split(r"[?#]", bare)[0] if is_web else bare)
    return "::".join(parts)


def called(path: Path) -> str:
    """A path as users know it: URLs with both slashes, and without what is secret in them."""
    url = location_of(path)
    return str(path) if url is None else shown(url)


def is_archive(name: str | Path) -> bool:
    """Whether a file is named as tar files are."""
    return str(name).lower().split("?")[0].endswith(ARCHIVES)
