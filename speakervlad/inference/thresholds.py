"""The decision thresholds that an encoder carries."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speakervlad.errors import InputError

THRESHOLDS_NAME = "thresholds.json"


@dataclass(frozen=True)
class Thresholds:
    """Cosines from which on to accept.

    Attributes:
        eer: where misses and false alarms balanced on the encoder's validation trials.
        false_accept_rate: by false-acceptance rate on them, a fraction; often none is known.
    """

    eer: float
    false_accept_rate: dict[float, float]


def read_thresholds(encoder: Path, notes: Mapping[str, str]) -> Thresholds | None:
    """What an encoder knows about where to decide; None if it was never validated.

    Args:
        encoder: a folder, or a file that ``export`` wrote.
        notes: what the file carries, as its backend read it; a ``thresholds.json`` beside the file
            comes first.

    Raises:
        InputError: the thresholds are damaged.
    """
    path = companion(encoder, THRESHOLDS_NAME)
    try:
        is_beside = path.is_file()
        text = path.read_text(encoding="utf-8") if is_beside else notes.get(THRESHOLDS_NAME)
        return None if text is None else _parse(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no thresholds ({error}). "
            "Restore it. Until then, pass --threshold."
        ) from error


def read_threshold(
    encoder: Path, notes: Mapping[str, str], false_accept_rate: float | None = None
) -> float:
    """The cosine from which on to accept: at the equal error rate, or at a false-acceptance rate.

    Args:
        encoder: as ``read_thresholds``.
        notes: as ``read_thresholds``.
        false_accept_rate: one of those that the encoder has a threshold for.

    Raises:
        InputError: the encoder was never validated, its thresholds are damaged, or it has none for
            that rate.
    """
    known = read_thresholds(encoder, notes)
    if known is None:
        raise InputError(f"{encoder}: holds no {THRESHOLDS_NAME}. Pass --threshold.")
    if false_accept_rate is None:
        return known.eer
    if false_accept_rate not in known.false_accept_rate:
        rates = ", ".join(f"{rate:g}" for rate in known.false_accept_rate)
        way_out = f"Choose {rates}, or" if rates else "It has none at all;"
        raise InputError(
            f"{encoder}: has no threshold for a false-acceptance rate of {false_accept_rate:g}. "
            f"{way_out} pass --threshold."
        )
    return known.false_accept_rate[false_accept_rate]


def companion(encoder: Path, name: str) -> Path:
    """A file that goes with an encoder: in its folder, or beside its exported file."""
    return (encoder if encoder.is_dir() else encoder.parent) / name


def _parse(text: str) -> Thresholds:
    values = json.loads(text)
    rates = values.get("false_accept_rate", {})
    found = Thresholds(
        float(values["eer"]), {float(rate): float(value) for rate, value in rates.items()}
    )
    if not all(map(math.isfinite, (found.eer, *found.false_accept_rate.values()))):
        raise ValueError("not all are finite numbers")
    return found
