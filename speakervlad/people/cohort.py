"""Impostors of an encoder: recordings of people whom nobody enrolled, to take thresholds from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakervlad.encoder.location import companion
from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.scoring.scoring import unit_vectors
from speakervlad.tables.embeddings import Embeddings

COHORT_NAME = "cohort.safetensors"
FORMAT = "speakervlad-cohort-1"
MIN_COHORT = 100
MAKE = "Make one: speakervlad people cohort EMBEDDINGS.npz --manifest M.csv --encoder ENCODER."


@dataclass(frozen=True)
class Cohort:
    """Impostors of one encoder.

    Attributes:
        encoder: its fingerprint.
        vectors: (impostors, dim) float32 unit vectors, one recording a person.

    Raises:
        InputError: fewer than ``MIN_COHORT``.
    """

    encoder: str
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if len(self.vectors) < MIN_COHORT:
            raise InputError(
                f"a cohort of {len(self.vectors)} recordings is too small. Give {MIN_COHORT} or "
                "more, each of another speaker."
            )

    def save(self, path: str | Path) -> None:
        """Write it in float16, complete or not at all."""
        from safetensors.numpy import save

        notes = {"format": FORMAT, "encoder": self.encoder}
        # Not `save_file`, whose errors of a full disk name nothing.
        content = save({"vectors": self.vectors.astype(np.float16)}, notes)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)


def load_cohort(encoder: Path, fingerprint: str) -> Cohort:
    """The cohort that lies beside an encoder.

    Raises:
        InputError: none is there, it is damaged, or of another encoder.
    """
    from safetensors import SafetensorError, safe_open

    path = companion(encoder, COHORT_NAME)
    if not path.is_file():
        raise InputError(f"{encoder}: has no cohort of impostors to take thresholds from. {MAKE}")
    try:
        with safe_open(path, "numpy") as file:
            notes, vectors = file.metadata() or {}, file.get_tensor("vectors").astype(np.float32)
        if notes["format"] != FORMAT or vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ValueError("no impostors in it")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no cohort, or damaged ({error}). {MAKE}") from error
    if notes.get("encoder") != fingerprint:
        raise InputError(f"{path}: is of another encoder. {MAKE}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise InputError(f"{path}: no cohort, or damaged (an impostor is zero). {MAKE}")
    return Cohort(fingerprint, vectors / lengths)


def make_cohort(
    embeddings: Embeddings, speakers: np.ndarray, groups: np.ndarray, size: int, seed: int = 0
) -> Cohort:
    """Impostors drawn from embeddings of recordings of people who will not be enrolled.

    Args:
        embeddings: they name their encoder.
        speakers: (recordings,) str, see ``draw_impostors``.
        groups: (recordings,) str.
        size: how many at most.
        seed: of the draw.

    Raises:
        InputError: the embeddings do not name their encoder, or too few speakers.
    """
    if embeddings.encoder is None:
        raise InputError("the embeddings do not say which encoder made them. Embed them again.")
    rows = draw_impostors(speakers, groups, size, seed)
    return Cohort(embeddings.encoder, unit_vectors(embeddings)[rows])


def draw_impostors(
    speakers: np.ndarray, groups: np.ndarray, size: int, seed: int = 0
) -> np.ndarray:
    """Rows (impostors,) of one recording each of many speakers, as many of each group as it has.

    Args:
        speakers: (recordings,) str: the speaker of each.
        groups: (recordings,) str: the corpus or channel of each.
        size: how many at most.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(speakers))
    _, first = np.unique(speakers[order], return_index=True)
    rows = order[np.sort(first)]
    # The first of every group, then the second of every group ...
    seen: dict[str, int] = {}
    turns = []
    for group in groups[rows].tolist():
        seen[group] = seen.get(group, 0) + 1
        turns.append(seen[group])
    return np.sort(rows[np.argsort(turns, kind="stable")[:size]])
