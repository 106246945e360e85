"""The schema of an experiment: frozen dataclasses, read once, never written back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from speakervlad.errors import InputError, first_few
from speakervlad.schema import (
    Count,
    Fraction,
    NonNegative,
    Part,
    Positive,
    Range,
    Seconds,
    Size,
    flatten,
    from_dict,
    to_dict,
)
from speakervlad.texts import parse_json

# Files of an encoder folder.
ENCODER_CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
# What was learnt from the scores of these weights.
THRESHOLDS_NAME = "thresholds.json"
CALIBRATION_NAME = "calibration.json"
LINEAR, THIN_RESNET, SOFTMAX = Part("linear"), Part("thin_resnet34"), Part("softmax")
GHOSTVLAD = Part("netvlad", num_clusters=8, num_ghosts=2)
PIECE_SECONDS = 10.0


@dataclass(frozen=True)
class EncoderConfig:
    """A whole encoder.

    ``front_end``, ``trunk`` and ``pooling`` name rows of ``TABLES`` (``models/tables.py``); a row's
    options are the keyword-only parameters of its class.

    Attributes:
        front_end: waveform to spectrogram.
        trunk: spectrogram to feature map.
        descriptor_dim: size of a frame's descriptor, which a layer makes of the rows and channels
            of the feature map; 0 takes the mean of its rows instead.
        pooling: the descriptors of all frames to one vector.
        embedding_dim: size of an embedding.
        embedding_relu: whether the layer that makes the embedding ends with a ReLU.
        embedding_norm: whether it ends with batch norm, without scale and bias.
        piece_seconds: where a frame of the trunk sees all others, speech is cut at multiples of so
            many seconds, and every piece is computed by itself.
        packages: installed packages that rows come from, other than this one; written into the
            ``config.json`` of an encoder, not set by hand.
    """

    front_end: Part = LINEAR
    trunk: Part = THIN_RESNET
    descriptor_dim: Annotated[int, Range(at_least=0, at_most=65_536)] = 512
    pooling: Part = GHOSTVLAD
    embedding_dim: Size = 512
    embedding_relu: bool = True
    embedding_norm: bool = False
    piece_seconds: Annotated[float, Range(at_least=2, at_most=3600)] = PIECE_SECONDS
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherConfig:
    """Another network's embeddings of the training utterances, taught beside the labels.

    The loss is ``labels`` times the classifier's, plus ``cosine`` times the cosine distance to the
    teacher's vector, plus ``similarity`` times the mean squared difference of the batch's cosine
    matrices.

    Attributes:
        embeddings: a file as ``embed`` writes for every speed of ``augment.speeds``, in their
            order; none for no teacher.
        start: the teacher is the encoder of ``init_from`` on the whole utterance without effects,
            less the mean embedding; it needs ``data.frame_cache``, and no file. With
            ``train.frozen_norm`` the mean is subtracted from the embeddings that are trained, too.
        centre: so much of the mean embedding of ``start`` is subtracted.
        init_classes: classes start at the mean target of their utterances.
        cosine: weight of the cosine distance to the teacher's vector.
        similarity: weight of the difference between the cosine matrices of both.
        labels: weight of the classifier's loss.
        fewest_utterances: speakers of fewer take no part in the classifier's loss: give utterances
            without a label a speaker each.
    """

    embeddings: tuple[str, ...] = ()
    start: bool = False
    centre: Fraction = 1.0
    init_classes: bool = False
    cosine: NonNegative = 0.0
    similarity: NonNegative = 0.0
    labels: NonNegative = 1.0
    fewest_utterances: Positive = 1


@dataclass(frozen=True)
class FrameCacheConfig:
    """Frames of a frozen trunk, computed once, of which training then takes crops.

    Copy 0 of an utterance is as it was recorded, others have the effects of ``augment``, drawn by
    ``(seed, copy, index)``; at another speed than 1 a copy is of another speaker. Frames are kept
    as float16, 2 bytes for each of the trunk's outputs.

    Attributes:
        folder: where frames are kept, to be used again; none computes every crop anew.
        copies: copies of an utterance with effects; 1.5 makes a second one of half of them.
        seed: of the copies; ``train.seed`` is of the training that reads them.
        clean_share: probability that a crop is of copy 0, where there are others.
        longest_seconds: a copy with effects is a part of so many seconds of a longer utterance; 0
            takes all of it.
        short_every: of every so many copies one is a short part; 0 for none.
        short_seconds: duration of a short part, ``[shortest, longest]``; a trunk whose frames see
            all others knows more in a crop of a long recording's frames than in a short recording.
        crop_seconds: duration of a crop, ``[shortest, longest]``, the same for all of a batch.
        backend: what computes the trunk, on the CPU: ``auto`` takes OpenVINO where it is installed.
        precision: in which it does; ``auto`` takes bfloat16 where the processor has it.
    """

    folder: str | None = None
    copies: Annotated[float, Range(at_least=0, at_most=1000)] = 0.0
    seed: Count = 0
    clean_share: Fraction = 0.5
    longest_seconds: Seconds = 0.0
    short_every: Count = 4
    short_seconds: tuple[float, ...] = (1.0, 3.0)
    crop_seconds: tuple[float, ...] = (1.2, 3.6)
    backend: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True)
class DataConfig:
    """What is trained on and validated with; paths are relative to the working directory.

    An epoch takes an utterance once, or once per ``seconds_per_visit`` of it, unless batches are
    balanced by ``speakers_per_batch``.

    Attributes:
        train_manifest: manifest of the training utterances, as ``prepare`` writes.
        train_root: folder that the manifest's paths are in; its own by default.
        valid_trials: trial lists to validate with, whose names are utterance ids of
            ``valid_manifest``, or else paths.
        valid_manifest: manifest of the recordings of these lists.
        valid_root: folder that paths of validation are in; that of the manifest or list by default.
        crop_seconds: duration of a training crop.
        wrap: a crop may begin anywhere, and goes on from the end of its utterance to the beginning;
            without, only utterances that are shorter than a crop are repeated.
        reverse_probability: probability that a crop is played backwards.
        seconds_per_visit: an epoch takes an utterance once for so many seconds of it; 0, once.
        crops_per_visit: crops of an utterance in one batch, each with its own augmentation.
        speakers_per_batch: speakers of a balanced batch; 0 shuffles utterances instead.
        utterances_per_speaker: utterances of each speaker in a balanced batch.
        speaker_balance: draw utterances with replacement, each as often as one over the number of
            its speaker's utterances to this power: 1 makes speakers equally frequent, 0.5 lies
            between. 0 takes every utterance once in an epoch.
        rivals: column of the manifest, such as ``corpus``: in the classifier's loss a speaker
            competes only with those of the same value. Without, with all others.
        frame_cache: frames of a frozen trunk.
        max_bad_fraction: share of the files that may be unreadable.
        num_workers: processes that read and augment; 0 reads in the training process.
    """

    train_manifest: str = ""
    train_root: str | None = None
    valid_trials: tuple[str, ...] = ()
    valid_manifest: str | None = None
    valid_root: str | None = None
    crop_seconds: Annotated[float, Range(above=0, at_most=600)] = 2.5
    wrap: bool = False
    reverse_probability: Fraction = 0.0
    seconds_per_visit: Seconds = 0.0
    crops_per_visit: Positive = 1
    speakers_per_batch: Count = 0
    utterances_per_speaker: Positive = 1
    speaker_balance: Fraction = 0.0
    rivals: str = ""
    frame_cache: FrameCacheConfig = field(default_factory=FrameCacheConfig)
    max_bad_fraction: Annotated[float, Range(at_least=0, below=1)] = 0.0
    num_workers: Annotated[int, Range(at_least=0, at_most=1024)] = 2


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to crops; every effect is drawn by ``(train.seed, epoch, index)`` alone.

    Ranges are ``[lowest, highest]``.

    Attributes:
        speeds: factors of the speed, which change the pitch too; each makes its own classes, and
            the first must be 1.
        noise_manifest: recordings of noise, whose kind (``noise``, ``music``, or ``speech``, which
            makes babble) is the manifest's speaker column, as the layout ``musan`` writes it.
        noise_root: folder that the paths of noise are in; that of its manifest by default.
        noise_probability: probability that noise, music or babble is added to a crop.
        noise_snr_db: signal-to-noise ratio of noise, in dB.
        music_snr_db: signal-to-noise ratio of music, in dB.
        babble_snr_db: signal-to-noise ratio of babble, in dB.
        babble_speakers: how many voices make babble.
        interruption_probability: probability that a stretch of a crop is replaced by noise, music
            or babble.
        interruption_seconds: its duration, of which at most half the crop is used.
        interruption_db: its level above that of the crop, in dB.
        rir_manifest: room impulse responses.
        rir_root: folder that the paths of responses are in; that of their manifest by default.
        rir_probability: probability that a crop is convolved with a room's response.
        rir_seconds: so much of a response is used.
        codec_probability: probability that a codec encodes and decodes a crop.
        codecs: the codecs that are drawn from.
        telephone_probability: probability that a crop goes through a telephone line: 300 to
            3400 Hz, 8-bit mu-law.
        gain_db: every crop gets a random gain between minus and plus so many dB.
        level_probability: probability that a crop gets another peak and is rounded to 16 bits.
        level_dbfs: that peak, in dB of full scale.
        pitch_probability: probability that pitch and tempo of a crop move by a factor while the
            formants stay, so that the speaker stays the same.
        pitch_factors: that factor.
        channel_probability: probability that a crop gets a random frequency response.
        time_masks: spans of frames that are replaced by the mean of the spectrogram.
        time_mask_frames: greatest length of such a span.
        freq_masks: spans of bins that are replaced by the mean of the spectrogram.
        freq_mask_bins: greatest width of such a span.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise_manifest: str | None = None
    noise_root: str | None = None
    noise_probability: Fraction = 0.0
    noise_snr_db: tuple[float, ...] = (0.0, 15.0)
    music_snr_db: tuple[float, ...] = (5.0, 15.0)
    babble_snr_db: tuple[float, ...] = (13.0, 20.0)
    babble_speakers: tuple[int, ...] = (3, 8)
    interruption_probability: Fraction = 0.0
    interruption_seconds: tuple[float, ...] = (0.3, 2.0)
    interruption_db: tuple[float, ...] = (-10.0, 10.0)
    rir_manifest: str | None = None
    rir_root: str | None = None
    rir_probability: Fraction = 0.0
    rir_seconds: Annotated[float, Range(at_least=0.01, at_most=60)] = 1.0
    codec_probability: Fraction = 0.0
    codecs: tuple[Literal["opus", "mp3"], ...] = ("opus", "mp3")
    telephone_probability: Fraction = 0.0
    gain_db: NonNegative = 0.0
    level_probability: Fraction = 0.0
    level_dbfs: tuple[float, ...] = (-60.0, 0.0)
    pitch_probability: Fraction = 0.0
    pitch_factors: tuple[float, ...] = (0.8, 1.25)
    channel_probability: Fraction = 0.0
    time_masks: Count = 0
    time_mask_frames: Count = 10
    freq_masks: Count = 0
    freq_mask_bins: Count = 8


@dataclass(frozen=True)
class OptimConfig:
    """Decay reaches kernels and their biases, never batch norm or cluster centres.

    Attributes:
        kind: Adam (decay in the gradient), AdamW (decay apart from it), or SGD with Nesterov
            momentum.
        lr: learning rate before the schedule's factor.
        epsilon: epsilon of Adam and AdamW.
        momentum: momentum of SGD.
        weight_decay: factor of the weight decay.
        clip_norm: greatest norm of the gradient; 0 does not clip.
    """

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Range(at_least=0)] = 1e-3
    epsilon: Annotated[float, Range(above=0)] = 1e-8
    momentum: Annotated[float, Range(at_least=0, below=1)] = 0.9
    weight_decay: NonNegative = 2e-4
    clip_norm: NonNegative = 0.0


@dataclass(frozen=True)
class ScheduleConfig:
    """The factor of the learning rate at every step.

    Attributes:
        kind: ``steps`` takes ``factors`` between ``milestones``; ``cosine`` and ``exponential``
            fall to ``final_factor`` at the last step.
        warmup_steps: over so many first steps the factor rises linearly to the schedule's own.
        warmup_start: the factor that the warm-up starts from.
        milestones: training steps at which the next factor of ``steps`` begins, increasing.
        factors: the factors of ``steps``, one more than milestones.
        final_factor: the factor at the last step of ``cosine`` and ``exponential``.
    """

    kind: Literal["constant", "steps", "cosine", "exponential"] = "cosine"
    warmup_steps: Count = 0
    warmup_start: Fraction = 0.0
    milestones: tuple[int, ...] = ()
    factors: tuple[float, ...] = (1.0,)
    final_factor: Fraction = 1e-3


@dataclass(frozen=True)
class TrainConfig:
    """Steps, batches, devices, saves.

    Attributes:
        steps: updates in all.
        batch_size: crops in one update, over all processes and accumulated parts.
        seed: seed of the initial weights and of every random draw.
        precision: of the network's computation; ``bfloat16`` by autocast.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        compile: run the network through ``torch.compile``.
        accumulate: parts of a batch that go through the network one after another.
        sync_batch_norm: compute batch statistics over all processes, on GPUs; on CPUs each process
            has its own.
        average_last: keep the encoders of so many saves, and leave their mean in
            ``encoder-average/``.
        vlad_init_utterances: start the centres of NetVLAD by k-means over the descriptors of so
            many utterances, and ghosts, of ``ghost_statistics`` too, at noise amid speech; 0 starts
            at random.
        freeze_trunk_steps: the trunk does not learn in so many first steps.
        frozen_stages: the trunk's stem and so many of its stages stay as they start; 0 for none.
        frozen_trunk: the whole trunk stays as it starts, statistics of its batch norms included.
        frozen_norm: the statistics of ``encoder.embedding_norm`` stay as they start.
        log_every: steps between reports.
        save_every: steps between saves.
        validate_every: steps between validations; 0 for none, not even at the end.
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
    frozen_trunk: bool = False
    frozen_norm: bool = False
    log_every: Positive = 10
    save_every: Positive = 500
    validate_every: Count = 500


@dataclass(frozen=True)
class Config:
    """One complete experiment.

    Attributes:
        run_dir: folder of everything that the run writes.
        resume: go on with the run that is in ``run_dir``.
        init_from: encoder folder to start from.
        init_classifier: start from the classifier kept there as well, whose classes must be
            numbered as the manifest numbers its speakers: by sorted name.
        init_projection: take trunk and projection alone: the pooling may be another one, whose
            vector begins with the numbers of the other's; it weighs frames evenly, and new numbers
            meet zeros in the projection, so that the run starts as that very encoder.
        encoder: what is trained, and kept.
        classifier: the loss and its classes; a row of the table of losses, with its options.
        teacher: another network to learn from.
        data: what is trained on.
        augment: what is done to it.
        optim: the optimiser.
        schedule: of the learning rate.
        train: steps, batches, devices, saves.
    """

    run_dir: str = "runs/unnamed"
    resume: bool = False
    init_from: str | None = None
    init_classifier: bool = False
    init_projection: bool = False
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
