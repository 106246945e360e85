"""The schema of an experiment: frozen dataclasses, read once, never written back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from speakervlad.errors import InputError
from speakervlad.plain import from_dict, to_dict

ENCODER_CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class FrontEndConfig:
    """``num_mels`` belongs to ``log_mel`` alone."""

    kind: Literal["linear", "log_mel"] = "linear"
    num_mels: int = 80
    normalise: Literal["frequency", "time", "time_mean", "none"] = "frequency"
    mirror: bool = False
    min_seconds: float = 0.0


@dataclass(frozen=True)
class TrunkConfig:
    """``width`` multiplies all channel counts."""

    kind: Literal[
        "thin_resnet34", "strided_thin_resnet34", "wide_resnet34", "standard_resnet34"
    ] = "thin_resnet34"
    width: float = 1.0
    batch_norm_momentum: float = 0.01


@dataclass(frozen=True)
class PoolingConfig:
    """Cluster options belong to ``netvlad`` alone; ``num_ghosts > 0`` makes it GhostVLAD.

    ``assignment: trunk`` lets the soft assignment look at the trunk's feature map, as the release
    does; ``descriptors`` is the layer of the NetVLAD paper.
    """

    kind: Literal["average", "statistics", "netvlad"] = "netvlad"
    num_clusters: int = 8
    num_ghosts: int = 2
    assignment: Literal["trunk", "descriptors"] = "trunk"
    vector_norm: bool = False


@dataclass(frozen=True)
class EncoderConfig:
    """A whole encoder; ``descriptor_dim: 0`` averages the rows of the trunk's map instead."""

    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    descriptor_dim: int = 512
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    embedding_dim: int = 512
    embedding_relu: bool = True
    embedding_norm: bool = False


@dataclass(frozen=True)
class ClassifierConfig:
    """``scale``, ``margin`` and the warm-up belong to the margin losses.

    ``unit_norm`` belongs to ``am_softmax``: ``constraint`` renormalises the classes after every
    update instead of in every forward pass, as the release does. ``num_centers`` per class, and the
    margin of the ``hardest`` other classes, belong to ``subcentre_aam_softmax``. ``sharded`` splits
    the classes of ``am_softmax`` or ``aam_softmax`` over the processes, and then a ``sample_rate``
    below 1 computes a step with the classes of its batch and that share of the others.
    """

    kind: Literal["softmax", "am_softmax", "aam_softmax", "subcentre_aam_softmax"] = "softmax"
    scale: float = 30.0
    margin: float = 0.35
    margin_warmup_steps: int = 0
    unit_norm: Literal["forward", "constraint"] = "forward"
    num_centers: int = 3
    hardest: int = 5
    hardest_margin: float = 0.06
    sharded: bool = False
    sample_rate: float = 1.0


@dataclass(frozen=True)
class DataConfig:
    """Paths are relative to the working directory; a root replaces a list's own folder.

    The names in ``valid_trials`` are utterance ids of ``valid_manifest``, or else paths.
    ``speakers_per_batch`` > 0 makes every batch of that many speakers with
    ``utterances_per_speaker`` each; else an epoch takes an utterance once, or once per
    ``seconds_per_visit`` of it. ``max_bad_fraction`` of the files may be unreadable.
    """

    train_manifest: str = ""
    train_root: str | None = None
    valid_trials: tuple[str, ...] = ()
    valid_manifest: str | None = None
    valid_root: str | None = None
    crop_seconds: float = 2.5
    wrap: bool = False
    reverse_probability: float = 0.0
    seconds_per_visit: float = 0.0
    speakers_per_batch: int = 0
    utterances_per_speaker: int = 1
    max_bad_fraction: float = 0.0
    num_workers: int = 2


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to crops; every effect is drawn by ``(train.seed, epoch, index)`` alone.

    Every speed makes its own classes, the first must be 1. Noise has kinds (``noise``, ``music``,
    ``speech``, which makes babble), told by the manifest's speaker column as the layout ``musan``
    writes it. Ranges are ``[lowest, highest]``; a mask is at most as wide as said.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise_manifest: str | None = None
    noise_root: str | None = None
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, ...] = (0.0, 15.0)
    music_snr_db: tuple[float, ...] = (5.0, 15.0)
    babble_snr_db: tuple[float, ...] = (13.0, 20.0)
    babble_speakers: tuple[int, ...] = (3, 8)
    rir_manifest: str | None = None
    rir_root: str | None = None
    rir_probability: float = 0.0
    rir_seconds: float = 1.0
    codec_probability: float = 0.0
    codecs: tuple[Literal["opus", "mp3"], ...] = ("opus", "mp3")
    telephone_probability: float = 0.0
    gain_db: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 10
    freq_masks: int = 0
    freq_mask_bins: int = 8


@dataclass(frozen=True)
class OptimConfig:
    """Decay reaches kernels and their biases, never batch norm or cluster centres."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    epsilon: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 2e-4
    clip_norm: float = 0.0


@dataclass(frozen=True)
class ScheduleConfig:
    """``milestones`` (in steps) and ``factors`` (one more than milestones) belong to ``steps``."""

    kind: Literal["constant", "steps", "cosine", "exponential"] = "cosine"
    warmup_steps: int = 0
    warmup_start: float = 0.0
    milestones: tuple[int, ...] = ()
    factors: tuple[float, ...] = (1.0,)
    final_factor: float = 1e-3


@dataclass(frozen=True)
class TrainConfig:
    """``batch_size`` is that of all processes and accumulated parts together.

    ``accumulate`` parts of a batch go through the network one after another before an update.
    ``sync_batch_norm`` computes batch statistics over all processes. ``average_last`` keeps the
    encoders of so many saves and leaves their mean in ``encoder-average/``.
    """

    steps: int = 1000
    batch_size: int = 64
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    compile: bool = False
    accumulate: int = 1
    sync_batch_norm: bool = False
    average_last: int = 0
    vlad_init_utterances: int = 0
    freeze_trunk_steps: int = 0
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 500


@dataclass(frozen=True)
class Config:
    """One complete experiment.

    ``init_from`` starts from an encoder folder; ``init_classifier`` takes the classifier kept there
    as well, whose classes must be numbered as the manifest numbers its speakers: by sorted name.
    """

    run_dir: str = "runs/unnamed"
    resume: bool = False
    init_from: str | None = None
    init_classifier: bool = False
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
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
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for override in overrides:
        if "=" not in override:
            raise InputError(f"{override}: an override is key=value, such as train.steps=100.")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such config file.")
    try:
        loaded = OmegaConf.load(path)
        merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not a readable config ({reason}).") from error
    return from_dict(Config, values, str(path))


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}).") from error
    return from_dict(EncoderConfig, values, str(path))


def to_yaml(config: Config) -> str:
    """The whole config as YAML that ``load_config`` reads back."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False)
