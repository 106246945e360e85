"""What networks of other toolkits take: by the files themselves, or what lies beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speakervlad.encoder.backends import GRAPH_NAME
from speakervlad.encoder.frames import front_end_of
from speakervlad.errors import InputError, did_you_mean
from speakervlad.extras import require
from speakervlad.models.frontend import FRONT_ENDS, KALDI_SCALE, FrontEnd
from speakervlad.schema import Part, resolve
from speakervlad.sound import SAMPLE_RATE
from speakervlad.texts import parse_json, read_text

ADOPTED_NAME = "adopted.json"
YAML_SUFFIXES = (".yaml", ".yml")
# What our own export for other runtimes notes: exactly the features of the encoder.
FRONT_END_NOTE = "speakervlad.front_end"
# Seconds that the network sees at once: longer recordings are the mean of such pieces.
PIECE_SECONDS = 60.0
# Shorter recordings are repeated: some networks fail below.
MIN_SECONDS = 0.25
KEYS = ("framework", "front_end", "piece_seconds")
WAYS_OUT = (
    "Say what it takes: speakervlad adopt {path} --out FOLDER --framework wespeaker, 3d-speaker or "
    "other; or write {yaml} beside it (`framework: wespeaker`, or "
    "`front_end: {{kind: kaldi_fbank, ...}}`)."
)


@dataclass(frozen=True)
class Framework:
    """What a toolkit's networks take.

    Attributes:
        names: of the input and the output of the files that it exports.
        front_end: what it computes features by.
    """

    names: tuple[str, str]
    front_end: Part


FRAMEWORKS = {
    "wespeaker": Framework(
        ("feats", "embs"),
        Part("kaldi_fbank", scale=KALDI_SCALE, window="hamming", min_seconds=MIN_SECONDS),
    ),
    "3d-speaker": Framework(("feature", "embedding"), Part("kaldi_fbank", min_seconds=MIN_SECONDS)),
}
# Of sherpa-onnx's ``feature_normalize_type``.
NORMALISATIONS = {"global-mean": "time_mean", "": "none"}


@dataclass(frozen=True)
class Adopted:
    """What is known of a network of others.

    Attributes:
        front_end: what it takes.
        framework: the toolkit that it is of, if that is known.
        piece_seconds: that it sees at once.
    """

    front_end: FrontEnd
    framework: str = "other"
    piece_seconds: float = PIECE_SECONDS

    def differing(self) -> dict[str, Any]:
        """The front end's parameters that are not at their defaults."""
        usual = asdict(FrontEnd())
        own = asdict(self.front_end)
        return {name: value for name, value in own.items() if value != usual[name]}

    def to_json(self) -> str:
        """The content of ``adopted.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Adopted":
        """The inverse of ``to_json``.

        Raises:
            InputError: it is none.
        """
        try:
            values = parse_json(text)
            seconds = checked_seconds(values["piece_seconds"])
            return cls(front_end_of(values), str(values["framework"]), seconds)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: is damaged ({error}). Adopt the encoder again.") from error


def checked_seconds(value: Any) -> float:  # noqa: ANN401 - of a file
    """The length of a piece.

    Raises:
        InputError: no number, or out of range.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"piece_seconds={value!r}: is no number.") from error
    if not 2 <= seconds <= 3600:
        raise InputError(f"piece_seconds={seconds:g}: must be 2 to 3600.")
    return seconds


def describe_file(path: Path, metadata: Mapping[str, str], names: tuple[str, str]) -> Adopted:
    """What is known of a network by what lies beside it, else by itself.

    Args:
        path: the file.
        metadata: that it carries.
        names: of its input and output.

    Raises:
        InputError: that is too little, or says what is not computed.
    """
    if (path.parent / ADOPTED_NAME).is_file() and path.name == GRAPH_NAME:
        beside = path.parent / ADOPTED_NAME
        return Adopted.from_json(read_text(beside), str(beside))
    for suffix in YAML_SUFFIXES:
        if path.with_suffix(suffix).is_file():
            return _of_yaml(path.with_suffix(suffix))
    if FRONT_END_NOTE in metadata:
        noted = {"front_end": parse_json(metadata[FRONT_END_NOTE])}
        return Adopted(front_end_of(noted), metadata.get("framework", "other"))
    if "framework" in metadata:
        return _of_metadata(path, metadata)
    known = [name for name, framework in FRAMEWORKS.items() if framework.names == names]
    if not known:
        ways = WAYS_OUT.format(path=path, yaml=path.with_suffix(".yaml").name)
        raise InputError(
            f"{path}: takes {names[0]!r} and gives {names[1]!r}; neither its names nor its "
            f"metadata say which features it takes. {ways}"
        )
    return adopt_framework(known[0])


def beside_foreign(path: Path) -> list[Path]:
    """The files beside an ONNX file that say what it takes."""
    names = [path.with_suffix(suffix) for suffix in YAML_SUFFIXES]
    names += [path.parent / ADOPTED_NAME] if path.name == GRAPH_NAME else []
    return [name for name in names if name.is_file()] if path.suffix == ".onnx" else []


def adopt_framework(name: str, **options: object) -> Adopted:
    """A network of a toolkit, whose front end has other options than usual.

    Raises:
        InputError: no such toolkit, or options that its front end does not have.
    """
    if name not in FRAMEWORKS:
        raise InputError(f"framework={name}: {did_you_mean(name, FRAMEWORKS)}")
    part = FRAMEWORKS[name].front_end
    given = {key: value for key, value in options.items() if value is not None}
    return Adopted(make_front_end({"kind": part.kind, **part.options, **given}, name), name)


def make_front_end(values: Mapping[str, Any], where: str) -> FrontEnd:
    """A row of ``FRONT_ENDS`` by its kind and options.

    Raises:
        InputError: no such row or option.
    """
    options = {str(name): value for name, value in values.items() if name != "kind"}
    part = Part(str(values.get("kind", "kaldi_fbank")), **options)
    part = resolve(FRONT_ENDS, part, "front_end", where)
    return FRONT_ENDS[part.kind](**part.options)


def _of_metadata(path: Path, metadata: Mapping[str, str]) -> Adopted:
    """By what sherpa-onnx's files carry."""
    framework = metadata["framework"]
    if framework not in FRAMEWORKS:
        raise InputError(
            f"{path}: is of the framework {framework!r}, whose features are not computed here. "
            f"Known: {', '.join(FRAMEWORKS)}."
        )
    rate = metadata.get("sample_rate", str(SAMPLE_RATE))
    if rate != str(SAMPLE_RATE):
        raise InputError(f"{path}: is for {rate} Hz. Encoders here hear {SAMPLE_RATE} Hz.")
    kind = metadata.get("feature_normalize_type", "global-mean")
    if kind not in NORMALISATIONS:
        raise InputError(f"{path}: feature_normalize_type={kind!r} is not known.")
    scales = {"0": KALDI_SCALE, "1": 1.0}
    return adopt_framework(
        framework,
        normalise=NORMALISATIONS[kind],
        scale=scales.get(metadata.get("normalize_samples", "")),
    )


def _of_yaml(path: Path) -> Adopted:
    require("yaml", "yaml", f"{path}")
    import yaml

    try:
        values = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: no YAML ({reason}).") from error
    return adopt_values(values, str(path))


def adopt_values(values: object, where: str) -> Adopted:
    """By the keys ``framework``, ``front_end`` and ``piece_seconds``.

    Raises:
        InputError: other keys, or neither a framework nor a front end.
    """
    options = _options_of(values, where)
    assert isinstance(values, Mapping)
    try:
        seconds = checked_seconds(values.get("piece_seconds", PIECE_SECONDS))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    framework = str(values.get("framework", "other"))
    if framework not in ("other", *FRAMEWORKS):
        raise InputError(f"{where}: framework={framework}: {did_you_mean(framework, FRAMEWORKS)}")
    usual = Part("kaldi_fbank", min_seconds=MIN_SECONDS)
    part = FRAMEWORKS[framework].front_end if framework in FRAMEWORKS else usual
    front_end = make_front_end({"kind": part.kind, **part.options, **options}, where)
    found = Adopted(front_end, framework, seconds)
    return Adopted.from_json(found.to_json(), where)


def _options_of(values: object, where: str) -> Mapping[str, Any]:
    """The front end's options, if the keys are those of ``adopt_values``."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: keys {', '.join(KEYS)} expected.")
    for key in values:
        if key not in KEYS:
            raise InputError(f"{where}: {key}: {did_you_mean(str(key), KEYS)}")
    options = values.get("front_end", {})
    if not isinstance(options, Mapping):
        raise InputError(f"{where}: front_end={options!r}: a kind and options expected.")
    if "framework" not in values and "kind" not in options:
        raise InputError(f"{where}: names neither a framework nor a front_end with its kind.")
    return options
