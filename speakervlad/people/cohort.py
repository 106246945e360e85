"""Impostors of an encoder: recordings of people whom nobody enrolled, to take thresholds from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.inference.card import companion

COHORT_NAME = "cohort.safetensors"
FORMAT = "speakervlad-cohort-1"
MIN_COHORT = 100
# Nearest members of the cohort that count for one voice.
TOP = 50


@dataclass(frozen=True)
class Cohort:
    """Impostors of one encoder.

    Attributes:
        encoder: its fingerprint.
        vectors: (impostors, dim) float32 unit vectors, one recording a person.
        calibration: slope and offset from normalised scores to natural log-likelihood ratios of
            one person against another; None if unknown.
    """

    encoder: str
    vectors: np.ndarray
    calibration: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.vectors) < MIN_COHORT:
            raise InputError(
                f"a cohort of {len(self.vectors)} recordings is too small; use {MIN_COHORT} or "
                "more, each of another speaker."
            )

    def statistics(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (rows,) of the ``TOP`` highest cosines of each row with the cohort."""
        return _of_highest(vectors @ self.vectors.T)

    def own_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of its members, each without itself."""
        cosines = self.vectors @ self.vectors.T
        np.fill_diagonal(cosines, -1)
        return _of_highest(cosines)

    def save(self, path: str | Path) -> None:
        """Write it in float16, complete or not at all."""
        from safetensors.numpy import save_file

        notes = {"format": FORMAT, "encoder": self.encoder}
        if self.calibration is not None:
            notes["calibration"] = json.dumps(self.calibration)
        with atomic_path(path) as temporary:
            save_file({"vectors": self.vectors.astype(np.float16)}, temporary, notes)


def _of_highest(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    top = min(TOP, cosines.shape[1] - 1)
    highest = np.partition(cosines, cosines.shape[1] - top, axis=1)[:, -top:]
    return highest.mean(axis=1), np.maximum(highest.std(axis=1), 1e-3)


def load_cohort(encoder: Path, fingerprint: str) -> Cohort:
    """The cohort that lies beside an encoder.

    Raises:
        InputError: none is there, it is damaged, or of another encoder.
    """
    from safetensors import SafetensorError, safe_open

    path = companion(encoder, COHORT_NAME)
    make = "Make one: speakervlad people cohort EMBEDDINGS.npz --manifest M.csv --encoder ENCODER"
    if not path.is_file():
        raise InputError(f"{encoder}: has no cohort of impostors to take a threshold from. {make}.")
    try:
        with safe_open(path, "numpy") as file:
            notes, vectors = file.metadata() or {}, file.get_tensor("vectors").astype(np.float32)
        if notes["format"] != FORMAT or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("not a cohort")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        slope, offset = map(float, json.loads(notes.get("calibration", "[0, 0]")))
        calibration = (slope, offset) if slope else None
        cohort = Cohort(notes["encoder"], vectors / lengths, calibration)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no cohort, or damaged ({error}). {make}.") from error
    if cohort.encoder != fingerprint:
        raise InputError(f"{path}: is of another encoder. {make}.")
    return cohort
