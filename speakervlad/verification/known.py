"""What is known of an encoder on disk about deciding: its thresholds, its calibration."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from speakervlad.config import CALIBRATION_NAME, THRESHOLDS_NAME
from speakervlad.encoder.backends import fingerprint_of
from speakervlad.encoder.location import companion
from speakervlad.encoder.runtimes import exported_notes
from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, load_calibration, parse_calibration
from speakervlad.verification.rules import choose_rule
from speakervlad.verification.thresholds import Thresholds

logger = logging.getLogger(__name__)

# False-acceptance rates whose thresholds `info` prints.
SHOWN_RATES = (0.01, 0.001, 0.0001)


def read_thresholds(
    encoder: Path | None, notes: Mapping[str, str], weights: str | None = None
) -> Thresholds | None:
    """What an encoder knows about where to decide; None if it was never validated.

    Args:
        encoder: a folder, or a file that ``export`` wrote; None for one that is only in memory.
        notes: what the file carries, as its backend read it; a ``thresholds.json`` beside the file
            comes first.
        weights: the encoder's fingerprint; found out where it is not given.

    Raises:
        InputError: the thresholds are damaged, or of other weights.
    """
    path = _beside(encoder, THRESHOLDS_NAME)
    try:
        text = notes.get(THRESHOLDS_NAME) if path is None else path.read_text(encoding="utf-8")
        found = None if text is None else Thresholds.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no thresholds ({error}). "
            "Restore it. Until then, pass --threshold."
        ) from error
    if found is not None:
        check_weights(path, found.encoder, weights or fingerprint_of(encoder, notes))
    return found


def read_calibration(
    encoder: Path | None, notes: Mapping[str, str], weights: str | None = None
) -> Calibration | None:
    """The calibration of an encoder, if there is one; looked for as ``read_thresholds`` does.

    Raises:
        InputError: it is damaged, or of other weights.
    """
    path = _beside(encoder, CALIBRATION_NAME)
    if path is not None:
        found = load_calibration(path)
    elif CALIBRATION_NAME in notes:
        where = f"{encoder}: its {CALIBRATION_NAME}"
        found = parse_calibration(notes[CALIBRATION_NAME], where)
    else:
        return None
    check_weights(path, found.encoder, weights or fingerprint_of(encoder, notes))
    return found


def _beside(encoder: Path | None, name: str) -> Path | None:
    """A file in an encoder's folder, or beside its exported file, if there is one."""
    path = None if encoder is None else companion(encoder, name)
    return path if path is not None and path.is_file() else None


def check_weights(path: Path | None, learnt_from: str | None, weights: str | None) -> None:
    """Refuse what was learnt from the scores of other weights; warn once where nothing says so.

    Args:
        path: of the file; None for what an exported encoder carries in itself.
        learnt_from: fingerprint of the weights that the file names.
        weights: fingerprint of the encoder.

    Raises:
        InputError: both are known and differ.
    """
    if learnt_from is None and weights is not None and path is not None:
        _warn_of_unnamed(path.parent)
    elif learnt_from is not None and weights is not None and learnt_from != weights:
        raise InputError(
            f"{path or 'the calibration'}: was learnt with the weights {learnt_from[:12]}, not "
            f"with {weights[:12]}. Remove it, or learn it anew: speakervlad calibrate-encoder."
        )


@cache
def _warn_of_unnamed(folder: Path) -> None:
    logger.warning(
        "%s: its %s or %s does not say which weights it was learnt with (as 0.2.0 wrote them), and "
        "is taken for its encoder's. `speakervlad calibrate-encoder` writes them anew.",
        *(folder, THRESHOLDS_NAME, CALIBRATION_NAME),
    )


def read_threshold(
    encoder: Path | None,
    notes: Mapping[str, str],
    false_accept_rate: float | None = None,
    weights: str | None = None,
) -> float:
    """The cosine from which on to accept: at the equal error rate, or at a false-acceptance rate.

    Args:
        encoder: as ``read_thresholds``.
        notes: as ``read_thresholds``.
        false_accept_rate: any that its development recordings can tell of.
        weights: as ``read_thresholds``.

    Raises:
        InputError: the encoder was never validated, its thresholds are damaged or of other
            weights, or it has none for that rate.
    """
    known = read_thresholds(encoder, notes, weights)
    if known is None:
        raise InputError(
            f"{encoder or 'this encoder'}: holds no {THRESHOLDS_NAME}. Pass --threshold, or learn "
            "them with `speakervlad calibrate-encoder`."
        )
    return known.eer if false_accept_rate is None else known.at(false_accept_rate)


def describe_thresholds(encoder: Path) -> dict[str, str]:
    """Lines of text by name; none of an encoder that was never validated.

    Raises:
        InputError: as ``read_thresholds``.
    """
    notes = exported_notes(encoder)
    known, calibration = read_thresholds(encoder, notes), read_calibration(encoder, notes)
    if known is None:
        return {}
    lines = {"threshold": f"{known.eer:.4f} at the equal error rate of development recordings"}
    lines |= {
        f"FAR {100 * rate:g} %": f"accept from {known.at(rate):.4f} (verify --far {rate:g})"
        for rate in SHOWN_RATES
        if rate in known.false_accept_rate
    }
    if calibration is not None:
        place = choose_rule(known, calibration).threshold
        lines["verify"] = f"decides by the calibration: from {place:.4f} on at even odds"
    return lines | {"identify": "has a threshold of its own: it depends on how many are enrolled"}
