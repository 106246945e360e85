"""What is known of an encoder on disk about deciding: its thresholds, its calibration."""

from collections.abc import Mapping
from pathlib import Path

from speakervlad.encoder.location import CALIBRATION_NAME, THRESHOLDS_NAME, companion
from speakervlad.encoder.runtimes import exported_notes
from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, load_calibration, parse_calibration
from speakervlad.verification.thresholds import Thresholds

# False-acceptance rates whose thresholds `info` prints.
SHOWN_RATES = (0.01, 0.001, 0.0001)


def read_thresholds(encoder: Path | None, notes: Mapping[str, str]) -> Thresholds | None:
    """What an encoder knows about where to decide; None if it was never validated.

    Args:
        encoder: a folder, or a file that ``export`` wrote; None for one that is only in memory.
        notes: what the file carries, as its backend read it; a ``thresholds.json`` beside the file
            comes first.

    Raises:
        InputError: the thresholds are damaged.
    """
    path = None if encoder is None else companion(encoder, THRESHOLDS_NAME)
    try:
        text = notes.get(THRESHOLDS_NAME)
        if path is not None and path.is_file():
            text = path.read_text(encoding="utf-8")
        return None if text is None else Thresholds.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{encoder}: its {THRESHOLDS_NAME} holds no thresholds ({error}). "
            "Restore it. Until then, pass --threshold."
        ) from error


def read_calibration(encoder: Path | None, notes: Mapping[str, str]) -> Calibration | None:
    """The calibration of an encoder, if there is one; looked for as ``read_thresholds`` does.

    Raises:
        InputError: it is damaged.
    """
    path = None if encoder is None else companion(encoder, CALIBRATION_NAME)
    if path is not None and path.is_file():
        return load_calibration(path)
    text = notes.get(CALIBRATION_NAME)
    return None if text is None else parse_calibration(text, f"{encoder}: its {CALIBRATION_NAME}")


def read_threshold(
    encoder: Path | None, notes: Mapping[str, str], false_accept_rate: float | None = None
) -> float:
    """The cosine from which on to accept: at the equal error rate, or at a false-acceptance rate.

    Args:
        encoder: as ``read_thresholds``.
        notes: as ``read_thresholds``.
        false_accept_rate: any that its development recordings can tell of.

    Raises:
        InputError: the encoder was never validated, its thresholds are damaged, or it has none for
            that rate.
    """
    known = read_thresholds(encoder, notes)
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
    known = read_thresholds(encoder, exported_notes(encoder))
    if known is None:
        return {}
    lines = {"threshold": f"{known.eer:.4f} at the equal error rate"}
    return lines | {
        f"FAR {100 * rate:g} %": f"accept from {known.at(rate):.4f}"
        for rate in SHOWN_RATES
        if rate in known.false_accept_rate
    }
