"""How corpora lie on disk: each reader turns a source into rows, without opening any audio."""

import codecs
import csv
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from speakervlad.audio.source import printable
from speakervlad.errors import InputError, did_you_mean, first_few
from speakervlad.sound import AUDIO_SUFFIXES, MIN_SAMPLES

logger = logging.getLogger(__name__)

NOISE_KINDS = ("noise", "music", "speech")
VOXCELEB_SPEAKER = re.compile(r"id\d{5}")
NOT_HIDDEN = re.compile(r"[^.].*")


@dataclass
class Rows:
    """Utterances before their audio is looked at; lists of equal length.

    ``first_line`` is the line of the first row where the source is one text file, ``min_samples``
    the shortest recording that is of use.
    A session that the source does not name is the utterance itself: nothing is claimed to share it.
    """

    root: Path
    first_line: int | None = None
    min_samples: int = MIN_SAMPLES
    utterance_ids: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    extra: dict[str, list[str]] = field(default_factory=dict)

    def add(self, utterance_id: str, path: str, speaker: str, session: str) -> None:
        """Append one utterance."""
        self.utterance_ids.append(utterance_id)
        self.paths.append(path)
        self.speakers.append(speaker)
        self.sessions.append(session or utterance_id)


def read_speaker_folders(source: Path) -> Rows:
    """``speaker/[session/...]utterance.ext``, at any depth below the speaker.

    Raises:
        InputError: no such folder, no audio in it, or audio that lies beside the speakers.
    """
    rows = Rows(source)
    for path in audio_below(source):
        parts = PurePosixPath(path).parts
        if len(parts) < 2:
            raise InputError(
                f"{source / path}: lies outside of any speaker's folder. Expected "
                "speaker/[session/]utterance; move it or name the folder above."
            )
        session = "/".join(parts[:-1]) if len(parts) > 2 else ""
        rows.add(str(PurePosixPath(path).with_suffix("")), path, parts[0], session)
    _warn_of_empty_folders(source, set(rows.speakers))
    return rows


def read_voxceleb(source: Path) -> Rows:
    """``[dev|test/][wav|aac/]id00012/video/00001.wav``: the session is the video.

    Raises:
        InputError: no such folder, or no ``id#####/video/utterance`` in it.
    """
    rows = Rows(source)
    num_others, parents = 0, set[tuple[str, ...]]()
    for path in audio_below(source):
        parts = PurePosixPath(path).with_suffix("").parts
        if len(parts) >= 3 and VOXCELEB_SPEAKER.fullmatch(parts[-3]):
            parents.add(parts[:-3])
            rows.add("/".join(parts[-3:]), path, parts[-3], "/".join(parts[-3:-1]))
        else:
            num_others += 1
    if not rows.paths:
        raise InputError(
            f"{source}: no id#####/video/utterance below it. Name the folder that holds VoxCeleb's "
            "wav or aac, or use --layout speaker-folders."
        )
    for above in parents:
        _warn_of_empty_folders(source.joinpath(*above), set(rows.speakers), VOXCELEB_SPEAKER)
    if num_others:
        logger.warning(
            "%s: %d audio files outside of id#####/video are left out", source, num_others
        )
    return rows


def read_kaldi(source: Path) -> Rows:
    """A Kaldi data directory; relative paths start from it, or from the current folder.

    Raises:
        InputError: ``wav.scp`` or ``utt2spk`` missing, a shell pipe (never executed), segments,
            or utterances without a speaker.
    """
    if (source / "segments").exists():
        raise InputError(
            f"{source / 'segments'}: utterances inside longer recordings are not supported. "
            "Cut them into files first."
        )
    wavs, speakers = _read_table(source / "wav.scp"), _read_table(source / "utt2spk")
    for line, command in enumerate(wavs.values(), 1):
        if command.endswith("|"):
            raise InputError(
                f"{source / 'wav.scp'}, line {line}: a shell pipe is never executed. "
                "Write its output to a file and name that."
            )
    orphans = [name for name in wavs if name not in speakers]
    if orphans:
        raise InputError(
            f"{source / 'utt2spk'}: {len(orphans)} utterance(s) of wav.scp have no speaker: "
            f"{first_few(orphans)}. Add them."
        )
    rows = Rows(_kaldi_root(source, wavs.values()), first_line=1)
    for name, path in wavs.items():
        rows.add(name, path, speakers[name], "")
    return rows


def read_musan(source: Path) -> Rows:
    """MUSAN: ``[musan/]noise|music|speech/collection/file``; the speaker column holds the kind.

    Raises:
        InputError: no such folder, or none of the three kinds in it.
    """
    rows = Rows(source)
    for path in audio_below(source):
        parts = PurePosixPath(path).with_suffix("").parts
        kinds = [part for part in parts[:-1] if part in NOISE_KINDS]
        if kinds:
            rows.add("/".join(parts), path, kinds[0], "/".join(parts[:-1]))
    if not rows.paths:
        raise InputError(
            f"{source}: no audio below noise, music or speech. Name the folder that holds them."
        )
    return rows


def read_rirs(source: Path) -> Rows:
    """Room impulse responses, one a file, at any depth; the speaker column holds the folder.

    Of OpenSLR 28 (``RIRS_NOISES``) the noises are left out: ``pointsource_noises`` and all files
    with ``noise`` in their name.

    Raises:
        InputError: no such folder, or no response in it.
    """
    rows = Rows(source, min_samples=1)
    for path in audio_below(source):
        file = PurePosixPath(path)
        if "noise" in file.stem.lower() or "pointsource_noises" in file.parts:
            continue
        rows.add(str(file.with_suffix("")), path, file.parent.name or file.stem, str(file.parent))
    if not rows.paths:
        raise InputError(f"{source}: holds noises only. Name the folder of impulse responses.")
    return rows


def read_csv(source: Path) -> Rows:
    """A CSV with the columns ``path`` and ``speaker``; ``utterance_id``, ``session`` if known.

    Raises:
        InputError: not a CSV, or a needed column or value is missing.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such CSV. Name one with the columns path and speaker.")
    rows = Rows(source.parent, first_line=2)
    with source.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        try:
            table = list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{source}: not a CSV in UTF-8 ({error}). Export it again.") from error
    columns = list(reader.fieldnames or [])
    for needed in ("path", "speaker"):
        if needed not in columns:
            raise InputError(f"{source}: no column {needed!r}. {did_you_mean(needed, columns)}")
    for line, row in enumerate(table, 2):
        if not row["path"] or not row["speaker"] or None in row:
            raise InputError(f"{source}, line {line}: path or speaker missing. Correct the line.")
        name = row.get("utterance_id") or str(PurePosixPath(row["path"]).with_suffix(""))
        rows.add(name, row["path"], row["speaker"], row.get("session", ""))
    known = {"utterance_id", "path", "speaker", "session", "num_samples"}
    rows.extra = {name: [row[name] for row in table] for name in columns if name not in known}
    return rows


LAYOUTS: dict[str, Callable[[Path], Rows]] = {
    "speaker-folders": read_speaker_folders,
    "voxceleb": read_voxceleb,
    "kaldi": read_kaldi,
    "csv": read_csv,
    "musan": read_musan,
    "rirs": read_rirs,
}


def audio_below(source: Path) -> list[str]:
    """Audio files as sorted paths relative to the folder; what is left out is logged by suffix.

    The one walker of the toolkit: hidden files and folders are skipped, links followed once.

    Raises:
        InputError: no such folder, or no audio in it.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder. Name the folder of the corpus.")
    found: list[str] = []
    others: Counter[str] = Counter()
    for folder, names in _walk(source):
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in AUDIO_SUFFIXES:
                found.append(f"{folder}{name}")
            else:
                others[suffix or name] += 1
    if others:
        kinds = first_few(f"{count} {kind}" for kind, count in others.most_common())
        logger.info("%s: files that are not audio are left out: %s", source, kinds)
    if not found:
        raise InputError(
            f"{source}: holds no audio file below it ({first_few(sorted(AUDIO_SUFFIXES), 30)}). "
            "Name a folder of recordings."
        )
    return sorted(found)


def _walk(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ('relative/folder/', file names) without hidden entries; links are followed, once.

    Links come last, so that a folder that is reached twice keeps its own name.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [""], deque[str]()
    while folders or links:
        prefix = folders.pop() if folders else links.popleft()
        try:
            status = (source / prefix).stat()
            with os.scandir(source / prefix) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            logger.warning("%s: left out: %s", printable(source / prefix), error.strerror)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        names = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                names.append(entry.name)
            elif entry.is_symlink():
                links.append(f"{prefix}{entry.name}/")
            else:
                folders.append(f"{prefix}{entry.name}/")
        yield prefix, names


def _warn_of_empty_folders(
    source: Path, speakers: set[str], pattern: re.Pattern[str] = NOT_HIDDEN
) -> None:
    names = (path.name for path in source.iterdir() if path.is_dir())
    folders = {name for name in names if pattern.fullmatch(name)}
    empty = sorted(folders - speakers)
    if empty:
        logger.warning("%s: %d folder(s) without audio: %s", source, len(empty), first_few(empty))


def _kaldi_root(source: Path, paths: Iterable[str]) -> Path:
    """Where relative paths start: data directory or current one, as the first found says."""
    for path in paths:
        if not PurePosixPath(path).is_absolute():
            for root in (source, Path.cwd()):
                if (root / path).exists():
                    return root
    return source


def _read_table(path: Path) -> dict[str, str]:
    """A Kaldi table: per line a key, spaces or tabs, a value that may hold spaces; distinct keys.

    Raises:
        InputError: no such file, not UTF-8, a key without a value, or a key that appears twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. A Kaldi data directory holds wav.scp and utt2spk.")
    table: dict[str, str] = {}
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            key, *values = re.split("[ \t]+", line.decode().strip(" \t\r"), maxsplit=1)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: not UTF-8. Convert it to UTF-8.") from error
        if not key:
            continue
        if not values:
            raise InputError(f"{path}, line {number}: {key!r} has no value. Correct the line.")
        if key in table:
            raise InputError(f"{path}, line {number}: {key!r} appears twice. Remove one of them.")
        table[key] = values[0]
    return table
