"""What a VLAD encoder does with a recording: which cluster takes which frame, and what for.

The numbers (``explain``, ``contributions``) are apart from their picture (``explanation_figure``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from speakervlad.audio.recording import AudioLike, Recording, takes_old_options
from speakervlad.encoder.encoder import Encoder
from speakervlad.errors import InputError, check_range
from speakervlad.figures import COLOURS, new_figure
from speakervlad.models.frontend import FrontEnd
from speakervlad.models.sums import PoolingSums
from speakervlad.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Longer recordings are illegible in one picture, and all samples are kept in memory.
MAX_SECONDS = 600
# Linear magnitudes of 25 ms every 10 ms: what is drawn, whatever the encoder looks at.
DRAWN = FrontEnd(num_mels=0)
RANGE_DB = 70
# Okabe and Ito's colours without black, and Tol's.
CLUSTER_COLOURS = (
    *(colour for colour in COLOURS if colour != "#000000"),
    *("#882255", "#44AA99", "#332288", "#DDCC77", "#AA4499"),
)
GHOST_COLOURS = ("0.15", "0.4", "0.6", "0.75")


@dataclass(frozen=True)
class Explanation:
    """The frames of one recording.

    Attributes:
        shares: float32 (clusters + ghosts, frames), the weight of each in every frame, ghosts last;
            every column adds up to 1.
        num_clusters: how many of the rows are clusters; the others are ghosts.
        times: float64 (frames,), the middle of every frame in seconds.
        spectrogram: float32 (257, columns), dB of the loudest value, 0 to 8 kHz, 10 ms apart.
        seconds: duration of the recording.
    """

    shares: np.ndarray
    num_clusters: int
    times: np.ndarray
    spectrogram: np.ndarray
    seconds: float

    def ghost_share(self, begin: float = 0.0, end: float = np.inf, *, inside: bool = True) -> float:
        """The mean weight of all ghosts together, over the frames in a span or outside of it.

        Args:
            begin: of the span, in seconds.
            end: of the span.
            inside: over the frames whose middle lies in the span, or over all others.

        Raises:
            InputError: there are no such frames.
        """
        chosen = ((self.times >= begin) & (self.times < end)) == inside
        if not chosen.any():
            where = "in" if inside else "outside of"
            raise InputError(f"no frame lies {where} {begin:g} to {end:g} s.")
        return float(self.shares[self.num_clusters :, chosen].sum(axis=0).mean())

    def to_json(self) -> dict[str, Any]:
        """All but the spectrogram, as JSON takes it."""
        return {
            "seconds": self.seconds,
            "num_clusters": self.num_clusters,
            "num_ghosts": len(self.shares) - self.num_clusters,
            "ghost_share": self.ghost_share(),
            "times": np.round(self.times, 4).tolist(),
            "shares": np.round(self.shares.astype(np.float64), 4).tolist(),
        }


@takes_old_options
def explain(encoder: Encoder, audio: AudioLike) -> Explanation:
    """The weight of every cluster and ghost over time, and the spectrogram above it.

    Args:
        encoder: one that pools by VLAD.
        audio: as ``encoder.embed`` takes it, of 10 minutes at most.

    Raises:
        InputError: as ``encoder.embed``, the recording is longer, or the encoder has no clusters.
    """
    clusters = encoder.check_clusters()
    samples = samples_of(audio)
    shares = encoder.assignments(samples)
    return Explanation(
        shares,
        clusters.count,
        encoder.backend.ends.grid.times(shares.shape[1]),
        spectrogram_of(samples),
        len(samples) / SAMPLE_RATE,
    )


def spectrogram_of(samples: np.ndarray) -> np.ndarray:
    """float32 (257, columns), dB of the loudest value, 0 to 8 kHz, 10 ms apart."""
    levels = 20 * np.log10(np.maximum(DRAWN.features(samples), 1e-6))
    return (levels - levels.max()).astype(np.float32)


@takes_old_options
def samples_of(audio: AudioLike) -> np.ndarray:
    """All samples at 16 kHz of a recording that is short enough to be drawn.

    Raises:
        InputError: it cannot be read, or is longer than 10 minutes.
    """
    wave = Recording.of(audio).wave
    if wave.num_samples > MAX_SECONDS * SAMPLE_RATE:
        raise InputError(
            f"{wave.num_samples / SAMPLE_RATE:.0f} s of audio: at most {MAX_SECONDS} s are "
            "explained. Cut out the part that matters."
        )
    return wave.read(0, wave.num_samples)


def contributions(encoder: Encoder, one: PoolingSums, other: PoolingSums) -> np.ndarray:
    """What every cluster adds to the cosine of two recordings.

    Before its length is divided out, an embedding is a sum over the clusters, ``u = r + sum_k
    P_k v_k``, with the pooled vector v, the columns P_k of the projection that cluster k meets, and
    a rest r that all recordings share: the bias, less the mean of the training embeddings where the
    encoder subtracts it. What a layer beside the clusters gives is in the rest, too. So the cosine
    is a sum of products of two terms, one from either side; a product of different terms is shared
    equally between them, as Shapley values are. Where a ReLU follows the projection, P_k is what it
    lets through in the recording at hand.

    The terms of the clusters are not centred: what they have in common with an average recording is
    in them, and taken away in the rest. Compare a cluster's number between pairs of recordings
    rather than with that of another cluster.

    Args:
        encoder: one that pools by VLAD.
        one: ``encoder.sums`` of a recording.
        other: of another.

    Returns:
        float64 (clusters + 1,); the last is the rest's. They add up to the cosine.

    Raises:
        InputError: the encoder has no clusters.
    """
    encoder.check_clusters()
    terms = [_terms(encoder, sums) for sums in (one, other)]
    units = [each.sum(axis=0) for each in terms]
    lengths = [np.linalg.norm(unit) for unit in units]
    halves = terms[0] @ units[1] + terms[1] @ units[0]
    return halves / (2 * lengths[0] * lengths[1])


def _terms(encoder: Encoder, sums: PoolingSums) -> np.ndarray:
    """float64 (clusters + 1, dim): what adds up to an embedding before its length is 1."""
    projection, clusters = encoder.backend.ends.projection, encoder.check_clusters()
    whole, matrix = sums.finish().astype(np.float64), projection.weight.astype(np.float64)
    pooled = whole[clusters.columns].reshape(clusters.count, -1)
    weight = matrix[:, clusters.columns].reshape(len(matrix), *pooled.shape)
    terms = np.einsum("ekd,kd->ke", weight, pooled)
    beside = matrix @ whole - terms.sum(axis=0) + projection.bias
    passed = np.ones(len(projection.bias))
    if projection.relu:
        passed = (terms.sum(axis=0) + beside > 0).astype(np.float64)
    rest = passed * beside - projection.mean
    return np.vstack([passed * terms, rest]) * projection.scale


def with_noise(
    samples: np.ndarray, seconds: float, *, at: float | None = None, seed: int = 0
) -> tuple[np.ndarray, tuple[float, float]]:
    """A recording with white noise put into it, as loud as the recording (equal mean power).

    Args:
        samples: (samples,) at 16 kHz.
        seconds: of noise.
        at: where it begins, in seconds; in the middle by default.
        seed: of the noise.

    Returns:
        the longer recording, and the span of the noise in seconds.

    Raises:
        InputError: no noise, or a place outside of the recording.
    """
    check_range("seconds of noise", seconds, above=0, at_most=MAX_SECONDS)
    whole = len(samples) / SAMPLE_RATE
    at = whole / 2 if at is None else at
    check_range("place of the noise in seconds", at, at_least=0, at_most=whole)
    place, count = round(at * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    noise = level * np.random.default_rng(seed).standard_normal(count)
    longer = np.concatenate([samples[:place], noise.astype(np.float32), samples[place:]])
    return longer, (place / SAMPLE_RATE, (place + count) / SAMPLE_RATE)


def explanation_figure(
    explanations: Sequence[tuple[str, Explanation]],
    parts: np.ndarray | None = None,
    spans: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Spectrograms, under each the clusters' and ghosts' weights over time as coloured bands.

    Args:
        explanations: of one or two recordings, with their names.
        parts: what ``contributions`` says of the two, drawn below as bars.
        spans: of the first recording in seconds, marked by lines.

    Raises:
        InputError: matplotlib is not installed.
    """
    rows = 2 * len(explanations) + (parts is not None)
    figure = new_figure(9, 2.1 * rows + 0.4)
    axes = np.atleast_1d(figure.subplots(rows, 1))
    for number, (name, each) in enumerate(explanations):
        above, below = axes[2 * number : 2 * number + 2]
        _draw_spectrogram(above, each, name)
        _draw_bands(below, each)
        for edge in (edge for span in spans if number == 0 for edge in span):
            above.axvline(edge, color="white", lw=1, ls="--")
            below.axvline(edge, color="white", lw=1, ls="--")
    if parts is not None:
        _draw_contributions(axes[-1], parts)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    return figure


def _draw_spectrogram(axes: Axes, each: Explanation, name: str) -> None:
    extent = (0.0, each.seconds, 0.0, SAMPLE_RATE / 2000)
    axes.imshow(
        each.spectrogram,
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=-RANGE_DB,
        vmax=0,
        cmap="magma",
    )
    axes.set_title(name, fontsize=9)
    axes.set(ylabel="kHz", xlim=(0, each.seconds))
    axes.tick_params(labelbottom=False)


def _draw_bands(axes: Axes, each: Explanation) -> None:
    num_ghosts = len(each.shares) - each.num_clusters
    colours = [*islice(cycle(CLUSTER_COLOURS), each.num_clusters)]
    colours += islice(cycle(GHOST_COLOURS), num_ghosts)
    labels = [f"cluster {k + 1}" for k in range(each.num_clusters)]
    labels += [f"ghost {g + 1}" for g in range(num_ghosts)]
    if len(labels) > 20:
        labels = [f"_{label}" for label in labels]
    axes.stackplot(each.times, each.shares, colors=colours, labels=labels, lw=0)
    axes.set(xlabel="seconds", ylabel="weight", xlim=(0, each.seconds), ylim=(0, 1))


def _draw_contributions(axes: Axes, parts: np.ndarray) -> None:
    count = len(parts) - 1
    colours = [*islice(cycle(CLUSTER_COLOURS), count), "0.8"]
    axes.bar(range(count + 1), parts, color=colours)
    axes.axhline(0, color="0.2", lw=0.8)
    axes.set_xticks(range(count + 1), [*map(str, range(1, count + 1)), "rest"], fontsize=8)
    axes.set(xlabel="cluster", ylabel="adds to the cosine")
    axes.set_title(f"cosine {parts.sum():.4f}", fontsize=9)
