"""Trial lists with the recordings that they name, and what an encoder learns from them."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speakervlad.config import CALIBRATION_NAME, ENCODER_CONFIG_NAME, THRESHOLDS_NAME, WEIGHTS_NAME
from speakervlad.corpus.inputs import Recordings, from_names
from speakervlad.encoder.adopted import ADOPTED_NAME, beside_foreign
from speakervlad.encoder.backends import GRAPH_NAME
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.location import companion, ships
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.scoring.calibration import Calibration, save_calibration
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest
from speakervlad.tables.names import required_rows
from speakervlad.verification.thresholds import Thresholds, learn_calibration, learn_thresholds

logger = logging.getLogger(__name__)

# Fewest target and fewest non-target trials that thresholds are learnt from.
FEW_TRIALS = 100


@dataclass(frozen=True)
class TrialList:
    """A named trial list with labels, and the recordings that it names."""

    name: str
    trials: Trials
    recordings: Recordings

    @classmethod
    def read(
        cls, path: str | Path, root: str | Path | None = None, manifest: Manifest | None = None
    ) -> "TrialList":
        """Read a list whose names are paths, or what a manifest knows.

        Args:
            path: the trial list.
            root: what the paths are relative to; the list's own folder by default.
            manifest: of the recordings, instead of a root.

        Raises:
            InputError: unreadable or blind list, or recordings that are not there.
        """
        trials = load_trials(path)
        trials.labels()
        if manifest is not None:
            rows = required_rows(manifest, trials.names)
            paths = [manifest.path(row) for row in rows.tolist()]
            return cls(Path(path).stem, trials, Recordings(trials.names.tolist(), paths))
        folder = Path(root) if root else Path(path).parent
        try:
            recordings = from_names(trials.names.tolist(), folder)
        except InputError as error:
            raise InputError(f"{path}: {error} Name their folder or manifest.") from error
        return cls(Path(path).stem, trials, recordings)


def score_lists(
    encoder: Encoder, lists: Sequence[TrialList]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cosine scores and labels of every list, by its name."""
    scored = {}
    for listed in lists:
        vectors = encoder.embed_files(listed.recordings.paths)
        embeddings = Embeddings(np.asarray(listed.recordings.ids), vectors)
        scored[listed.name] = (cosine_scores(embeddings, listed.trials), listed.trials.labels())
    return scored


class Learnt(NamedTuple):
    """What scored lists teach: thresholds, calibration, and the encoder that has them now."""

    thresholds: Thresholds
    calibration: Calibration
    encoder: Path


def calibrate_encoder(
    encoder: Encoder,
    lists: Sequence[TrialList],
    out: str | Path | None = None,
) -> Learnt:
    """Learn thresholds and calibration from trial lists, each with the same weight.

    They are written into the encoder's folder, or beside its exported file, where ``verify`` finds
    them; with ``out``, into a copy of the encoder.

    Args:
        encoder: from disk.
        lists: with labels, of recordings that the encoder was not trained on.
        out: folder to make of the encoder and what it learnt; needed for one that ships.

    Raises:
        InputError: an encoder that ships without ``out``, an ``out`` that is there already, lists
            of one name or without both kinds of trials, or recordings that cannot be embedded.
    """
    folder = encoder.folder
    assert folder is not None, "only an encoder on disk can keep what it learns"
    if len({listed.name for listed in lists}) < len(lists):
        raise InputError("two trial lists have the same name. Rename one.")
    _check_place(folder, None if out is None else Path(out))
    scored = score_lists(encoder, lists)
    _warn_of_few(np.concatenate([labels for _, labels in scored.values()]))
    weights = encoder.fingerprint
    thresholds = replace(learn_thresholds(scored), encoder=weights)
    calibration = replace(learn_calibration(scored), encoder=weights)
    if out is not None:
        folder = _copy_encoder(folder, Path(out), thresholds, calibration)
    else:
        save_decisions(folder, thresholds, calibration)
    return Learnt(thresholds, calibration, folder)


def save_decisions(encoder: Path, thresholds: Thresholds, calibration: Calibration) -> None:
    """Write ``thresholds.json`` and ``calibration.json`` for an encoder; both or neither."""
    with (
        atomic_path(companion(encoder, THRESHOLDS_NAME)) as one,
        atomic_path(companion(encoder, CALIBRATION_NAME)) as other,
    ):
        one.write_text(thresholds.to_json(), encoding="utf-8")
        save_calibration(other, calibration)


def _check_place(encoder: Path, out: Path | None) -> None:
    if out is None and ships(encoder):
        raise InputError(
            "this encoder ships with the package, which stays as it is. Give --out FOLDER: a copy "
            "of the encoder with your thresholds and calibration, to be named in its place."
        )
    if out is not None and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(
            f"{out}: is there already. Name a new folder, or calibrate it as the encoder itself."
        )


def _warn_of_few(labels: np.ndarray) -> None:
    num_target = int(labels.sum())
    fewer = min(num_target, len(labels) - num_target)
    if fewer < FEW_TRIALS:
        logger.warning(
            "%d target and %d impostor trials: with fewer than %d of one kind, thresholds and "
            "calibration are guesses.",
            num_target,
            len(labels) - num_target,
            FEW_TRIALS,
        )


def _copy_encoder(
    encoder: Path, out: Path, thresholds: Thresholds, calibration: Calibration
) -> Path:
    """The encoder in a folder of its own with what it learnt, complete or not at all."""
    files = [encoder, *beside_foreign(encoder)]
    if encoder.is_dir():
        known = (ENCODER_CONFIG_NAME, WEIGHTS_NAME, GRAPH_NAME, ADOPTED_NAME)
        files = [encoder / name for name in known if (encoder / name).is_file()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        made = Path(place) / "encoder"
        made.mkdir()
        for file in files:
            shutil.copy(file, made)
        save_decisions(made, thresholds, calibration)
        made.replace(out)
    return out if encoder.is_dir() else out / encoder.name
