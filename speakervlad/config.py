"""The schema of an experiment: frozen dataclasses, read once, never written back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from speakervlad.errors import InputError, first_few
from speakervlad.files import parse_json
from speakervlad.schema import (
    Count,
    NonNegative,
    Part,
    Positive,
    Range,
    Seconds,
    Share,
    Size,
    flatten,
    from_dict,
    to_dict,
)

ENCODER_CONFIG_NAME = "config.json"
LINEAR, THIN_RESNET, SOFTMAX = Part("linear"), Part("thin_resnet34"), Part("softmax")
GHOSTVLAD = Part("netvlad", num_clusters=8, num_ghosts=2)


@dataclass(frozen=True)
class EncoderConfig:
    """A whole encoder.

    ``front_end``, ``trunk`` and ``pooling`` name rows of ``TABLES`` (``models/tables.py``); a row's
    options are the keyword-only parameters of its class. ``descriptor_dim: 0`` averages the rows of
    the trunk's feature map instead of a layer over them. ``packages`` is written with an encoder
    whose parts come from other packages than this one: their names.
    """

    front_end: Part = LINEAR
    trunk: Part = THIN_RESNET
    descriptor_dim: Annotated[int, Range(at_least=0, at_most=65_536)] = 512
    pooling: Part = GHOSTVLAD
    embedding_dim: Size = 512
    embedding_relu: bool = True
    embedding_norm: bool = False
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherConfig:
    """Another network's embeddings of the training utterances, taught beside the labels.

    ``embeddings`` names a file (as ``embed`` writes) for every speed of ``augment.speeds``, in
    their order. The loss is ``labels`` times the classifier's, plus ``cosine`` times the cosine
    distance to the teacher's vector, plus ``similarity`` times the mean squared difference of the
    batch's cosine matrices. Speakers of fewer than ``fewest_utterances`` take no part in the
    classifier's: give utterances without a label a speaker each.
    """

    embeddings: tuple[str, ...] = ()
    cosine: NonNegative = 0.0
    similarity: NonNegative = 0.0
    labels: NonNegative = 1.0
    fewest_utterances: Positive = 1


@dataclass(frozen=True)
class DataConfig:
    """Paths are relative to the working directory; a root replaces a list's own folder.

    The names in ``valid_trials`` are utterance ids of ``valid_manifest``, or else paths.
    ``speakers_per_batch`` > 0 makes every batch of that many speakers with
    ``utterances_per_speaker`` each; else an epoch takes an utterance once, or once per
    ``seconds_per_visit`` of it, and a visit takes ``crops_per_visit`` crops, each with its own
    augmentation, into one batch. ``max_bad_fraction`` of the files may be unreadable.
    """

    train_manifest: str = ""
    train_root: str | None = None
    valid_trials: tuple[str, ...] = ()
    valid_manifest: str | None = None
    valid_root: str | None = None
    crop_seconds: Annotated[float, Range(above=0, at_most=600)] = 2.5
    wrap: bool = False
    reverse_probability: Share = 0.0
    seconds_per_visit: Seconds = 0.0
    crops_per_visit: Positive = 1
    speakers_per_batch: Count = 0
    utterances_per_speaker: Positive = 1
    max_bad_fraction: Annotated[float, Range(at_least=0, below=1)] = 0.0
    num_workers: Annotated[int, Range(at_least=0, at_most=1024)] = 2


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to crops; every effect is drawn by ``(train.seed, epoch, index)`` alone.

    Every speed makes its own classes, the first must be 1. Noise has kinds (``noise``, ``music``,
    ``speech``, which makes babble), told by the manifest's speaker column as the layout ``musan``
    writes it. Ranges are ``[lowest, highest]``; a mask is at most as wide as said. ``pitch`` moves
    pitch and tempo by a factor and leaves the formants, so that the speaker stays the same;
    ``channel`` is a random frequency response; ``level`` brings the peak to so many dB of full
    scale and rounds to 16 bits.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise_manifest: str | None = None
    noise_root: str | None = None
    noise_probability: Share = 0.0
    noise_snr_db: tuple[float, ...] = (0.0, 15.0)
    music_snr_db: tuple[float, ...] = (5.0, 15.0)
    babble_snr_db: tuple[float, ...] = (13.0, 20.0)
    babble_speakers: tuple[int, ...] = (3, 8)
    rir_manifest: str | None = None
    rir_root: str | None = None
    rir_probability: Share = 0.0
    rir_seconds: Annotated[float, Range(at_least=0.01, at_most=60)] = 1.0
    codec_probability: Share = 0.0
    codecs: tuple[Literal["opus", "mp3"], ...] = ("opus", "mp3")
    telephone_probability: Share = 0.0
    gain_db: NonNegative = 0.0
    level_probability: Share = 0.0
    level_dbfs: tuple[float, ...] = (-60.0, 0.0)
    pitch_probability: Share = 0.0
    pitch_factors: tuple[float, ...] = (0.8, 1.25)
    channel_probability: Share = 0.0
    time_masks: Count = 0
    time_mask_frames: Count = 10
    freq_masks: Count = 0
    freq_mask_bins: Count = 8


@dataclass(frozen=True)
class OptimConfig:
    """Decay reaches kernels and their biases, never batch norm or cluster centres."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Range(at_least=0)] = 1e-3
    epsilon: Annotated[float, Range(above=0)] = 1e-8
    momentum: Annotated[float, Range(at_least=0, below=1)] = 0.9
    weight_decay: NonNegative = 2e-4
    clip_norm: NonNegative = 0.0


@dataclass(frozen=True)
class ScheduleConfig:
    """``milestones`` (in steps) and ``factors`` (one more than milestones) belong to ``steps``."""

    kind: Literal["constant", "steps", "cosine", "exponential"] = "cosine"
    warmup_steps: Count = 0
    warmup_start: Share = 0.0
    milestones: tuple[int, ...] = ()
    factors: tuple[float, ...] = (1.0,)
    final_factor: Share = 1e-3


@dataclass(frozen=True)
class TrainConfig:
    """``batch_size`` is that of all processes and accumulated parts together.

    ``accumulate`` parts of a batch go through the network one after another before an update.
    ``sync_batch_norm`` computes batch statistics over all processes, on GPUs; on CPUs each process
    has its own. ``average_last`` keeps the encoders of so many saves and leaves their mean in
    ``encoder-average/``. The stem and the first ``frozen_stages`` of the trunk's stages stay as
    they start.
    """

    steps: Positive = 1000
    batch_size: Positive = 64
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    compile: bool = False
    accumulate: Positive = 1
    sync_batch_norm: bool = False
    average_last: Count = 0
    vlad_init_utterances: Count = 0
    freeze_trunk_steps: Count = 0
    frozen_stages: Count = 0
    log_every: Positive = 10
    save_every: Positive = 500
    validate_every: Positive = 500


@dataclass(frozen=True)
class Config:
    """One complete experiment.

    ``init_from`` starts from an encoder folder; ``init_classifier`` takes the classifier kept there
    as well, whose classes must be numbered as the manifest numbers its speakers: by sorted name.
    ``classifier`` names a row of the table of losses, with its options.
    """

    run_dir: str = "runs/unnamed"
    resume: bool = False
    init_from: str | None = None
    init_classifier: bool = False
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    classifier: Part = SOFTMAX
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and ``key=value`` overrides (dots reach into sections).

    Raises:
        InputError: the file is absent or no YAML mapping, a key is unknown, a value has the wrong
            type, or an override lacks its ``=``.
    """
    for override in overrides:
        if "=" not in override:
            raise InputError(f"{override}: an override is key=value, such as train.steps=100.")
    keys = [override.partition("=")[0].strip() for override in overrides]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise InputError(f"{first_few(sorted(repeated))}: given twice. Give it once.")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such config file.")
    values = _read_yaml(path, overrides)
    for key, value in flatten(values):
        # An interpolation could read the environment of whoever was handed the file.
        if "${" in str(value):
            raise InputError(f"{path}: {key}: interpolations are not supported. Write the value.")
    return from_dict(Config, values, str(path))


def _read_yaml(path: str | Path, overrides: Sequence[str]) -> dict[str, object]:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        loaded = OmegaConf.load(path)
        if isinstance(loaded, DictConfig):
            merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
            return cast("dict[str, object]", OmegaConf.to_container(merged, resolve=False))
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not a readable config ({reason}).") from error
    raise InputError(f"{path}: a config must be a mapping.")


def read_encoder_config(folder: Path) -> EncoderConfig:
    """The config of an encoder folder.

    Raises:
        InputError: there is no such folder, or none in it, or a damaged one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such encoder folder.")
    path = folder / ENCODER_CONFIG_NAME
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no {ENCODER_CONFIG_NAME}. Name a folder that training wrote."
        )
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}).") from error
    return from_dict(EncoderConfig, values, str(path))


def encoder_values(config: EncoderConfig) -> dict[str, Any]:
    """The config of an encoder as JSON takes it; ``packages`` only where there are some."""
    values = to_dict(config)
    if not config.packages:
        del values["packages"]
    return values


def to_yaml(config: Config) -> str:
    """The whole config as YAML that ``load_config`` reads back."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False)
