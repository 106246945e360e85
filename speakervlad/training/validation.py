"""The EER of trial lists, measured while training."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.config import DataConfig
from speakervlad.data.manifest import Manifest
from speakervlad.errors import InputError
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.lists import Trials, read_trials
from speakervlad.evaluation.metrics import VerificationReport, verification_report
from speakervlad.evaluation.names import required_rows
from speakervlad.evaluation.scoring import cosine_scores
from speakervlad.inference.engine import Embedder
from speakervlad.inference.recordings import Recordings, from_names
from speakervlad.progress import Item, Track, silent


@dataclass(frozen=True)
class ValidationList:
    """A named trial list with labels, and the recordings that it names."""

    name: str
    trials: Trials
    recordings: Recordings

    @classmethod
    def read(
        cls, path: str | Path, root: str | Path | None = None, manifest: Manifest | None = None
    ) -> "ValidationList":
        """Read a list whose names are paths, or what a manifest knows.

        Args:
            path: the trial list.
            root: what the paths are relative to; the list's own folder by default.
            manifest: of the recordings, instead of a root.

        Raises:
            InputError: unreadable or blind list, or recordings that are not there.
        """
        trials = read_trials(path)
        trials.labels()
        if manifest is not None:
            rows = required_rows(manifest, trials.names)
            paths = [manifest.path(row) for row in rows.tolist()]
            return cls(Path(path).stem, trials, Recordings(trials.names.tolist(), paths))
        folder = Path(root) if root else Path(path).parent
        try:
            recordings = from_names(trials.names.tolist(), folder)
        except InputError as error:
            raise InputError(f"{path}: {error} Set data.valid_root.") from error
        return cls(Path(path).stem, trials, recordings)


def read_lists(config: DataConfig) -> list[ValidationList]:
    """The validation lists that a config names."""
    manifest = (
        Manifest.load(config.valid_manifest, config.valid_root) if config.valid_manifest else None
    )
    return [ValidationList.read(path, config.valid_root, manifest) for path in config.valid_trials]


def validate(
    embedder: Embedder, lists: list[ValidationList], track: Track = silent
) -> dict[str, VerificationReport]:
    """Judge every list by cosine similarity."""
    reports = {}
    for listed in lists:
        vectors = embedder.embed_files(listed.recordings.paths, track=track)
        embeddings = Embeddings(np.asarray(listed.recordings.ids), vectors)
        scores = cosine_scores(embeddings, listed.trials)
        reports[listed.name] = verification_report(scores, listed.trials.labels())
    return reports


class Interrupted(Exception):  # noqa: N818
    """A signal came before a validation's end."""


def until(asked: Callable[[], bool]) -> Track:
    """A tracker that raises ``Interrupted`` at the first item after a signal."""

    def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        for item in items:
            if asked():
                raise Interrupted
            yield item

    return track
