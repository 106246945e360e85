"""The EER of trial lists, measured while training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.evaluation.embeddings import Embeddings
from speakervlad.evaluation.metrics import VerificationReport, verification_report
from speakervlad.evaluation.scoring import cosine_scores
from speakervlad.evaluation.trials import Trials, read_trials
from speakervlad.inference.engine import Embedder
from speakervlad.inference.recordings import Recordings, from_names
from speakervlad.progress import Track, silent


@dataclass(frozen=True)
class ValidationList:
    """A named trial list with labels, and the recordings that it names."""

    name: str
    trials: Trials
    recordings: Recordings

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> "ValidationList":
        """Read a list; its own folder is the root unless one is given.

        Raises:
            InputError: unreadable or blind list, or recordings that are not there.
        """
        trials = read_trials(path)
        if trials.is_target is None:
            raise InputError(f"{path}: has no labels. Validation needs a labelled trial list.")
        folder = Path(root) if root else Path(path).parent
        try:
            recordings = from_names(trials.names.tolist(), folder)
        except InputError as error:
            raise InputError(f"{path}: {error} Set data.valid_root.") from error
        return cls(Path(path).stem, trials, recordings)


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
