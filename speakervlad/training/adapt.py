"""The head of a trained encoder, fitted to recordings of one's own, and judged by others."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from speakervlad.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EncoderConfig,
    FrameCacheConfig,
    OptimConfig,
    ScheduleConfig,
    TeacherConfig,
    TrainConfig,
)
from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.location import find_encoder
from speakervlad.errors import InputError
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import load_encoder_folder, save_encoder
from speakervlad.progress import track
from speakervlad.schema import Part
from speakervlad.scoring.bootstrap import with_intervals
from speakervlad.scoring.metrics import VerificationReport, verification_report
from speakervlad.scoring.speakers import TrialSpeakers
from speakervlad.tables.manifest import Manifest
from speakervlad.training.distributed import World
from speakervlad.training.frame_cache import FrameCache, embed_rows, open_cache, start_embeddings
from speakervlad.training.frame_crops import FrameExamples, build_frame_crops
from speakervlad.training.frame_targets import targets_around_mean
from speakervlad.training.loading import build_loader, frame_shares, num_classes, stream
from speakervlad.training.start import build_model, init_classes, subtract
from speakervlad.training.trainer import build_trainer
from speakervlad.verification.known import read_calibration, read_thresholds
from speakervlad.verification.listed import save_decisions
from speakervlad.verification.thresholds import learn_calibration, learn_thresholds

logger = logging.getLogger(__name__)

ALONE = World(0, 1, torch.device("cpu"))
# Fewer speakers than the first are refused, fewer than the second judged by cross-validation.
FEWEST_SPEAKERS, ENOUGH_SPEAKERS = 10, 40
# Speakers of a part that is judged, at least; and how many parts there are at most.
SPEAKERS_PER_FOLD, MOST_FOLDS = 4, 5
# Of the speakers, if there are enough, every so many is kept apart.
KEPT_APART = 3
# Of an utterance's speaker in a judged list: pairs grow with the square.
MOST_UTTERANCES = 30
# With so many speakers, half of their mean embedding is taken for that of all speakers.
SPEAKERS_OF_A_MEAN = 10
LICENCES = ("NOTICE", "LICENSE*")


@dataclass(frozen=True)
class Adapted:
    """What became of an encoder.

    Attributes:
        before: how it tells speakers apart that it was not fitted to.
        after: how the fitted one does, on the same pairs.
        speakers: how many there are.
        judged: how many of them were kept apart, each once.
        parts: how many times a head was fitted and judged.
        learns: whether thresholds and calibration are learnt, and not those that it had.
        encoder: where it is; None if it is worse and was not written.
    """

    before: VerificationReport
    after: VerificationReport
    speakers: int
    judged: int
    parts: int
    learns: bool
    encoder: Path | None

    @property
    def is_worse(self) -> bool:
        """Whether the fitted head has more errors."""
        return self.after.eer > self.before.eer


def adapt(
    manifest: Manifest,
    out: str | Path,
    *,
    encoder: str | Path = "default",
    frames: str | Path | None = None,
    steps: int = 300,
    seed: int = 0,
    even_if_worse: bool = False,
) -> Adapted:
    """Fit the head of an encoder to some speakers' recordings; the trunk stays as it is.

    With 40 speakers or more a third of them is kept apart: the head is fitted to the others, judged
    by these, and thresholds and calibration are learnt from them. With fewer, heads are fitted to
    the others and judged by each part of the speakers in turn; the head that is written is fitted
    to all, and keeps the encoder's thresholds.

    Args:
        manifest: the recordings; ten speakers or more, most of them with several.
        out: folder of the new encoder.
        encoder: a name that ships, or an encoder folder.
        frames: folder to keep the trunk's frames in, to be used again; a temporary one by default.
        steps: of the fitting.
        seed: of all that is drawn.
        even_if_worse: write the encoder also if it is worse than before.

    Raises:
        InputError: too few speakers, an ``out`` that is there, no weights in the encoder's folder,
            or recordings that cannot be used.
    """
    out, folder = Path(out), find_encoder(encoder)
    _check(manifest, folder, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        config = adaptation(folder, Path(frames or Path(place) / "frames"), steps, seed)
        fitting = Fitting(config, open_cache(config, manifest, ALONE))
        folds = split_speakers(manifest, seed)
        judged = [fitting.judge(rows) for rows in track(folds, "fitting and judging", len(folds))]
        learns = len(folds) == 1
        fitted = judged[0].fitted if learns else fitting.fit(np.arange(len(manifest)))
        before, after = (_report(judged, name) for name in ("before", "after"))
        result = Adapted(
            before,
            after,
            len(manifest.speaker_names),
            sum(len(np.unique(one.speakers)) for one in judged),
            len(folds),
            learns,
            None,
        )
        if result.is_worse and not even_if_worse:
            return result
        made = Path(place) / "encoder"
        _write(made, folder, fitted, config, judged if learns else None)
        made.replace(out)
    return replace(result, encoder=out)


def _check(manifest: Manifest, folder: Path, out: Path) -> None:
    names, counts = np.unique(manifest.speaker_indices, return_counts=True)
    if len(names) < FEWEST_SPEAKERS:
        raise InputError(
            f"{len(names)} speakers: a head is fitted to {FEWEST_SPEAKERS} or more. Record more, "
            "or learn thresholds alone with `speakervlad calibrate-encoder`."
        )
    if (counts >= 2).sum() < FEWEST_SPEAKERS:
        raise InputError(
            f"{(counts >= 2).sum()} speakers have several recordings: {FEWEST_SPEAKERS} must."
        )
    if not folder.is_dir() or weights_digest(folder) is None:
        raise InputError(f"{folder}: holds no weights to fit. Name an encoder folder.")
    if out.exists():
        raise InputError(f"{out}: is there already. Name a new folder.")


def adaptation(folder: Path, frames: Path, steps: int, seed: int) -> Config:
    """The training that fits the head of an encoder."""
    _, encoder = load_encoder_folder(folder)
    return Config(
        init_from=str(folder),
        encoder=encoder,
        classifier=Part("am_softmax", scale=30.0, margin=0.2),
        teacher=TeacherConfig(
            start=True, init_classes=True, labels=1.0, cosine=10.0, similarity=10.0
        ),
        data=DataConfig(
            speaker_balance=0.5,
            num_workers=0,
            max_bad_fraction=0.1,
            frame_cache=FrameCacheConfig(folder=str(frames), copies=1.0, longest_seconds=4.0),
        ),
        augment=AugmentConfig(
            channel_probability=0.5,
            telephone_probability=0.1,
            level_probability=0.5,
            pitch_probability=0.2,
        ),
        optim=OptimConfig("adamw", lr=5e-4, weight_decay=0.02, clip_norm=5.0),
        schedule=ScheduleConfig("cosine", warmup_steps=min(20, steps), final_factor=0.0),
        train=TrainConfig(
            steps=steps, batch_size=64, seed=seed, frozen_trunk=True, frozen_norm=True
        ),
    )


def split_speakers(manifest: Manifest, seed: int) -> list[np.ndarray]:
    """The rows of the speakers that are judged: one part, or several in turn."""
    count = len(manifest.speaker_names)
    order = np.random.default_rng(seed).permutation(count)
    if count >= ENOUGH_SPEAKERS:
        parts = [order[::KEPT_APART]]
    else:
        folds = min(MOST_FOLDS, count // SPEAKERS_PER_FOLD)
        parts = [order[number::folds] for number in range(folds)]
    return [np.flatnonzero(np.isin(manifest.speaker_indices, part)) for part in parts]


@dataclass(frozen=True)
class _Judged:
    """Pairs of the utterances of speakers that a head has not been fitted to.

    Attributes:
        fitted: the encoder with that head.
        speakers: of the utterances.
        pairs: (pairs, 2) numbers of utterances.
        before: scores of the encoder as it was.
        after: scores of the fitted one.
    """

    fitted: SpeakerEncoder
    speakers: np.ndarray
    pairs: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """(pairs, 2) speakers."""
        return self.speakers[self.pairs]

    @property
    def labels(self) -> np.ndarray:
        """(pairs,) bool."""
        return self.sides[:, 0] == self.sides[:, 1]


class Fitting:
    """Heads on the frames of some utterances.

    Args:
        config: of ``adaptation``.
        cache: the frames of all utterances.
    """

    def __init__(self, config: Config, cache: FrameCache) -> None:
        assert config.init_from is not None
        self.config, self.cache = config, cache
        self.clean = start_embeddings(cache, config.init_from)

    def fit(self, rows: np.ndarray) -> SpeakerEncoder:
        """The encoder with a head that was fitted to some utterances."""
        cache = self.cache.of(rows)
        speakers = len(cache.manifest.speaker_names)
        share = speakers / (speakers + SPEAKERS_OF_A_MEAN)
        config = replace(self.config, teacher=replace(self.config.teacher, centre=share))
        crops = build_frame_crops(config, cache)
        targets = targets_around_mean(config, cache, self.clean[rows], frame_shares(config, crops))
        model = build_model(config, num_classes(config, cache.manifest))
        assert targets.centre is not None
        subtract(targets.centre, model.encoder.projection)
        init_classes(model.classifier, targets, cache.manifest.speaker_indices)
        trainer = build_trainer(config, model, ALONE)
        trunk = model.encoder.trunk
        shape = (trunk.channels, trunk.num_rows)
        examples = FrameExamples(shape, speakers, ALONE.device, config.train.precision, targets)
        batches = stream(build_loader(config, crops, 0, ALONE))
        for step, batch in zip(range(config.train.steps), batches, strict=False):
            trainer.step(step, examples(batch))
        return model.encoder.eval()

    def judge(self, rows: np.ndarray) -> _Judged:
        """Fit to all other utterances, and compare some of these."""
        others = np.setdiff1d(np.arange(len(self.cache.manifest)), rows)
        fitted = self.fit(others)
        chosen = self._some(rows)
        vectors = (self.clean[chosen], embed_rows(fitted, self.cache.of(chosen)))
        pairs = np.stack(np.triu_indices(len(chosen), 1), axis=1)
        before, after = (_cosines(each, pairs) for each in vectors)
        return _Judged(fitted, self.cache.manifest.speaker_indices[chosen], pairs, before, after)

    def _some(self, rows: np.ndarray) -> np.ndarray:
        """Those that can be used, and not too many of one speaker."""
        speakers = self.cache.manifest.speaker_indices
        usable = rows[self.cache.kept[0, rows]]
        by_speaker = [usable[speakers[usable] == one] for one in np.unique(speakers[usable])]
        return np.sort(np.concatenate([own[:MOST_UTTERANCES] for own in by_speaker]))


def _cosines(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    unit = F.normalize(torch.from_numpy(vectors)).numpy()
    return np.einsum("pd,pd->p", unit[pairs[:, 0]], unit[pairs[:, 1]])


def _report(judged: Sequence[_Judged], name: str) -> VerificationReport:
    scores = np.concatenate([getattr(one, name) for one in judged])
    labels = np.concatenate([one.labels for one in judged])
    sides = np.concatenate([one.sides for one in judged])
    speakers = TrialSpeakers.numbered(sides[:, 0], sides[:, 1])
    return with_intervals(verification_report(scores, labels), scores, labels, speakers)


def _write(
    made: Path,
    folder: Path,
    fitted: SpeakerEncoder,
    config: Config,
    judged: Sequence[_Judged] | None,
) -> None:
    """The encoder, what decides by it, and the licences of the one that it was."""
    notes = {"adapted_from": weights_digest(folder) or "", "steps": str(config.train.steps)}
    save_encoder(made, fitted, _encoder_config(config.encoder), notes)
    own, before = weights_digest(made), weights_digest(folder)
    thresholds, calibration = (
        read_thresholds(folder, {}, before),
        read_calibration(folder, {}, before),
    )
    if judged is not None:
        scored = {"own recordings": (judged[0].after, judged[0].labels)}
        thresholds, calibration = learn_thresholds(scored), learn_calibration(scored)
    if thresholds is not None and calibration is not None:
        save_decisions(made, replace(thresholds, encoder=own), replace(calibration, encoder=own))
    for pattern in LICENCES:
        for path in folder.glob(pattern):
            shutil.copy(path, made)


def _encoder_config(config: EncoderConfig) -> EncoderConfig:
    """As it is kept: without what is found out when it is written."""
    return replace(config, packages=())
