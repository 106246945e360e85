"""Targets of training from a teacher's embeddings.

targets.py E-1.0.npz MANIFEST OUT.npz [--like SAMPLE.npz] [--towards OWN.npz]

- ``--like``: the teacher's embeddings of some utterances at another speed. Those of all are then
  predicted by ridge regression from the ones at speed 1 (cosine around the mean, of utterances that
  took no part: 0.83 at 0.9, 0.85 at 1.1), at a tenth of the time.
- Every corpus, and every language of Common Voice, is centred on the mean of its speakers, shrunk
  towards the mean of all by n / (n + 20): what the teacher knows of the channel is not taught.
- Half utterance, half mean of its speaker: one-second words are noisy targets.
- ``--towards``: embeddings of some utterances by the encoder that is to learn. The targets are
  turned into its space (orthogonal Procrustes, at speed 1 for all speeds), which leaves all cosines
  between them as they are and lets the encoder begin as near as can be, with the projection and the
  classes that it has.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings
from speakervlad.tables.manifest import load_manifest

PRIOR_SPEAKERS, RIDGE = 20, 0.3
COMMON_VOICE = "commonvoice"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path)
    parser.add_argument("--towards", type=Path)
    parser.add_argument("--speaker-share", type=float, default=0.5)
    arguments = parser.parse_args()
    manifest = load_manifest(arguments.manifest)
    names = np.array(manifest.utterance_ids.tolist())
    speakers = np.asarray(manifest.speaker_indices)
    groups = corpora(np.array(manifest.speaker_names)[speakers])
    plain = unit(rows_of(load_embeddings(arguments.embeddings), names))
    targets = base = prepared(plain, groups, speakers, arguments.speaker_share)
    if arguments.like:
        other = predicted(plain, names, load_embeddings(arguments.like))
        targets = prepared(other, groups, speakers, arguments.speaker_share)
    if arguments.towards:
        targets = targets @ turn(base, names, load_embeddings(arguments.towards))
    save_embeddings(arguments.out, Embeddings(names, targets))


def prepared(
    vectors: np.ndarray, groupings: Sequence[np.ndarray], speakers: np.ndarray, share: float
) -> np.ndarray:
    """Unit vectors, centred by each grouping in turn, ``share`` of them the speaker's mean."""
    vectors = vectors - speaker_means(vectors, speakers).mean(axis=0)
    for groups in groupings:
        vectors = centred(vectors, groups, speakers)
    vectors = unit(vectors)
    return unit((1 - share) * vectors + share * unit(speaker_means(vectors, speakers))[speakers])


def rows_of(embeddings: Embeddings, names: np.ndarray) -> np.ndarray:
    """The vectors (names, dim) in the order of the names, float64."""
    places = {name: place for place, name in enumerate(embeddings.ids.tolist())}
    return embeddings.vectors[[places[name] for name in names.tolist()]].astype(np.float64)


def predicted(vectors: np.ndarray, names: np.ndarray, sample: Embeddings) -> np.ndarray:
    """Unit vectors at the sample's speed, of all utterances."""
    inside = np.isin(names, sample.ids)
    known, wanted = vectors[inside], unit(rows_of(sample, names[inside]))
    mean, other = known.mean(axis=0), wanted.mean(axis=0)
    gram = (known - mean).T @ (known - mean) + RIDGE * np.eye(vectors.shape[1])
    weights = np.linalg.solve(gram, (known - mean).T @ (wanted - other))
    return unit((vectors - mean) @ weights + other)


def corpora(speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corpus of every utterance, and corpus with language, from names as ``corpus/la_speaker``."""
    names = np.array([name.split("/")[0] for name in speakers.tolist()])
    common = np.char.startswith(names, COMMON_VOICE)
    names = np.where(common, COMMON_VOICE, names)
    codes = [name.partition("/")[2][:2] for name in speakers.tolist()]
    languages = np.array([code if code.isalpha() else "en" for code in codes])
    return names, np.where(common, np.char.add(names, languages), names)


def centred(vectors: np.ndarray, groups: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Less the shrunk mean of each group's speakers."""
    moved = vectors.copy()
    for group in np.unique(groups):
        inside = groups == group
        means = speaker_means(vectors[inside], np.unique(speakers[inside], return_inverse=True)[1])
        moved[inside] -= means.mean(axis=0) * len(means) / (len(means) + PRIOR_SPEAKERS)
    return moved


def speaker_means(vectors: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Means (speakers, dim) over the utterances of each."""
    totals = np.zeros((speakers.max() + 1, vectors.shape[1]))
    np.add.at(totals, speakers, vectors)
    return totals / np.bincount(speakers)[:, None]


def turn(targets: np.ndarray, names: np.ndarray, own: Embeddings) -> np.ndarray:
    """The rotation (teacher dim, own dim) of targets at speed 1 towards these embeddings."""
    inside = np.isin(names, own.ids)
    known = unit(rows_of(own, names[inside]))
    left, _, right = np.linalg.svd(
        targets[inside].T @ unit(known - known.mean(axis=0)), full_matrices=False
    )
    return left @ right


def unit(vectors: np.ndarray) -> np.ndarray:
    """The same directions at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
