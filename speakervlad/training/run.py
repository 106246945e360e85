"""A training run from config to encoder folder."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from speakervlad.config import THRESHOLDS_NAME, Config
from speakervlad.encoder.backends import weights_digest
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.models.encoder import SpeakerClassifier, SpeakerEncoder
from speakervlad.models.folder import (
    build_classifier,
    build_encoder,
    complete,
    save_classifier,
    save_encoder,
)
from speakervlad.models.tables import complete_part
from speakervlad.progress import tracked_by
from speakervlad.schema import from_dict, to_dict
from speakervlad.scoring.metrics import equal_error_rate
from speakervlad.tables.manifest import Manifest, load_manifest
from speakervlad.training.augment import check_augment
from speakervlad.training.distributed import World, join_world, preemption
from speakervlad.training.frame_cache import check_cache, open_cache
from speakervlad.training.frame_crops import FrameCrops, FrameExamples, build_frame_crops
from speakervlad.training.frame_targets import start_targets
from speakervlad.training.ghosts import ghost_maps
from speakervlad.training.loading import (
    build_augmenter,
    build_dataset,
    build_loader,
    check_batches,
    frame_shares,
    num_classes,
    stream,
)
from speakervlad.training.run_folder import (
    STATE_NAME,
    LossWindow,
    RunLog,
    average_encoders,
    hold_run,
    keep_last,
    open_run,
)
from speakervlad.training.start import (
    build_model,
    init_classes,
    init_vlad,
    noisy_crops,
    set_groups,
    subtract,
)
from speakervlad.training.state import DataIdentity, TrainingState
from speakervlad.training.teacher import Targets, check_teacher, read_targets
from speakervlad.training.trainer import build_trainer, check_schedule
from speakervlad.training.validation import Interrupted, read_lists, until
from speakervlad.verification.listed import TrialList, score_lists
from speakervlad.verification.thresholds import LabelledScores, learn_thresholds

logger = logging.getLogger(__name__)

# Schedulers leave half a minute between SIGTERM and SIGKILL.
VOTE_STEPS = 10
# Recordings whose sound is compared when a run goes on: a second or two to read.
COMPARED_FILES = 1000

# Called at every report: steps done, steps in all, one line of figures.
Show = Callable[[int, int, str], None]


def no_show(step: int, total: int, line: str) -> None:
    """Shows nothing."""


def train(config: Config, show: Show = no_show) -> Path | None:
    """Run or resume the experiment that a config describes.

    Leaves in ``run_dir``: ``config.yaml``, ``train.log``, ``metrics.jsonl``, ``tensorboard/``,
    ``last.pt`` (the whole state), ``encoder-last/``, and ``encoder/`` (the best by mean validation
    EER, with its thresholds; the last where nothing validates). Each of them keeps the classes that
    it was trained with. ``train.average_last`` adds ``encoders/`` and ``encoder-average/``.

    SIGTERM and Ctrl-C save and end it early. With ``resume`` it goes on, and beyond its end where
    ``train.steps`` is larger than before.

    Returns:
        The folder of the encoder to use; None where a signal ended the run early.

    Raises:
        InputError: config, manifest, lists or folder are not usable, or the loss is not finite.
    """
    with join_world(config.train.device) as world:
        config = check_config(config, world.size)
        manifest = load_manifest(config.data.train_manifest, config.data.train_root)
        check_speakers(config, manifest)
        lists = read_lists(config.data) if config.train.validate_every else []
        with hold_run(config, world):
            is_done = Run(config, world, manifest, lists, show).go()
    return Path(config.run_dir) / "encoder" if is_done else None


def check_config(config: Config, world_size: int) -> Config:
    """Find every mistake before data is touched: builds the whole model without memory.

    Returns:
        The config with all options of its parts.

    Raises:
        InputError: as soon as something does not fit.
    """
    config = from_dict(Config, to_dict(config), "config")
    config = replace(
        config,
        encoder=complete(config.encoder),
        classifier=complete_part("loss", config.classifier, "classifier"),
    )
    train = config.train
    if train.batch_size % (world_size * train.accumulate):
        raise InputError(
            f"train.batch_size={train.batch_size} cannot be shared by {world_size} processes and "
            f"{train.accumulate} accumulated parts. Choose a multiple."
        )
    if not config.data.train_manifest:
        raise InputError("data.train_manifest is not set. Name the CSV that `prepare` wrote.")
    for name in ("init_classifier", "init_projection"):
        if getattr(config, name) and config.init_from is None:
            raise InputError(f"{name} needs init_from. Name the folder that holds one.")
    check_schedule(config.schedule)
    check_batches(config)
    check_augment(config.augment)
    check_teacher(config)
    check_cache(config)
    with torch.device("meta"):
        encoder = build_encoder(config.encoder)
        build_classifier(config.classifier, encoder.dim, 2)
    if train.vlad_init_utterances and not encoder.pooling.starts_from_frames:
        raise InputError(
            "train.vlad_init_utterances needs encoder.pooling.kind=ghost_statistics, or netvlad "
            "with encoder.pooling.assignment=descriptors. Set it to 0 or change the pooling."
        )
    return config


def check_speakers(config: Config, manifest: Manifest) -> None:
    """Refuse one class, which every encoder tells apart from no other.

    Raises:
        InputError: the classifier would have one speaker.
    """
    if len(manifest.speaker_names) < 2 and config.teacher.labels:
        raise InputError(
            f"{config.data.train_manifest}: all {len(manifest)} recordings are of one speaker, "
            f"{manifest.speaker_names[0]}: nobody is there to be told apart from. Add recordings "
            "of others."
        )


class Run:
    """The parts of a run and the loop over its steps."""

    def __init__(
        self,
        config: Config,
        world: World,
        manifest: Manifest,
        lists: list[TrialList],
        show: Show,
    ) -> None:
        self.config, self.world, self.manifest, self.lists = config, world, manifest, lists
        self.show = show
        self.folder = Path(config.run_dir)
        model = build_model(config, num_classes(config, manifest))
        set_groups(model.classifier, config, manifest)
        targets = self._open_material(model.encoder)
        reads_sound = world.is_main and config.data.frame_cache.folder is None
        self.data = DataIdentity.of(manifest, COMPARED_FILES if reads_sound else 0)
        state = open_run(config, world, self.data)
        self.step, self.best_eer = (state.step, state.best_eer) if state else (0, math.inf)
        if state is None:
            self._start(model, targets)
        self.trainer = build_trainer(config, model, world)
        window = torch.zeros(0, 2)
        if state:
            state.restore(model, self.trainer.optimizer, self.folder / STATE_NAME)
            window = state.window
        self.window = LossWindow(self._utterance_ids, window.to(world.device))
        self.window_start = (self.step, time.perf_counter())
        self.log = RunLog(self.folder, self.step) if world.is_main else None
        self.validated_step = self._read_last_validation()

    def _open_material(self, encoder: SpeakerEncoder) -> Targets | None:
        """What is trained on: crops of sound, or of cached frames; and a teacher's targets."""
        config, world, manifest = self.config, self.world, self.manifest
        speakers = len(manifest.speaker_names)
        if config.data.frame_cache.folder is None:
            front_end, targets = encoder.front_end.spec, read_targets(config, manifest)
            self.dataset = build_dataset(config, manifest, front_end)
            self.augmenter = build_augmenter(config, front_end, speakers, world.device, targets)
            return targets
        cache = open_cache(config, manifest, world)
        self.dataset = build_frame_crops(config, cache)
        if config.teacher.start:
            targets = start_targets(config, cache, frame_shares(config, self.dataset), world)
        else:
            targets = read_targets(config, manifest)
        shape = (encoder.trunk.channels, encoder.trunk.num_rows)
        self.augmenter = FrameExamples(
            shape, speakers, world.device, config.train.precision, targets
        )
        return targets

    def _start(self, model: SpeakerClassifier, targets: Targets | None) -> None:
        """What the first step needs to know of the training material."""
        train = self.config.train
        if train.vlad_init_utterances:
            count, seed = train.vlad_init_utterances, train.seed
            if isinstance(self.dataset, FrameCrops):
                encoder, cache = model.encoder, self.dataset.cache
                clean = self.dataset.maps_of(count, encoder.trunk)
                noisy = ghost_maps(cache, self.config.augment, encoder, count, seed)
            else:
                clean, noisy = noisy_crops(self.dataset.crops, count, seed)
            init_vlad(model, clean, noisy, seed)
        if targets is None:
            return
        if train.frozen_norm and targets.centre is not None:
            subtract(targets.centre, model.encoder.projection)
        if self.config.teacher.init_classes:
            init_classes(model.classifier, targets, self.manifest.speaker_indices)

    def _read_last_validation(self) -> int:
        """The step of the last validation, whose EER the state cannot know: it was saved before."""
        validations = [record for record in self.log.earlier if "eer" in record] if self.log else []
        if not validations:
            return -1
        last = validations[-1]
        if last["step"] == self.step:
            self.best_eer = min(self.best_eer, last["eer"])
        return int(last["step"])

    def go(self) -> bool:
        """Train to the last step, or until a signal asks to save and leave.

        Returns:
            Whether the last step was done and validated.
        """
        speakers = len(self.manifest.speaker_names)
        logger.info("%d utterances of %d speakers", len(self.manifest), speakers)
        try:
            with preemption() as asked:
                is_done = self._loop(asked)
        finally:
            self._report_bad_files()
            if self.log:
                self.log.close()
        return is_done

    def _loop(self, asked: Callable[[], bool]) -> bool:
        steps = self.config.train.steps
        is_done = self._validate_if_missing(asked)
        if is_done and self.step >= steps:
            logger.info(
                "nothing left to do: step %d of %d; resume=true with a larger train.steps goes on",
                *(self.step, steps),
            )
        elif is_done:
            is_done = self._steps(asked)
        if not is_done:
            logger.info("stopped at step %d of %d; resume=true goes on", self.step, steps)
        return is_done

    def _steps(self, asked: Callable[[], bool]) -> bool:
        """Train, report, save and validate; whether all of it was done."""
        train = self.config.train
        for batch in stream(build_loader(self.config, self.dataset, self.step, self.world)):
            self._train_on(batch)
            leave = self._any_asked_to_leave(asked)
            if leave or self._due(train.log_every):
                self._report()
            validates = bool(self.lists) and self._due(train.validate_every)
            if leave or self._due(train.save_every):
                self._save_encoders()
            if leave or validates or self._due(train.save_every):
                self._save_state()
            if validates:
                leave = leave or not self._validate(asked)
            if leave or self.step == train.steps:
                break
        return self.step == train.steps and not (leave and self.lists)

    def _any_asked_to_leave(self, preempted: Callable[[], bool]) -> bool:
        """Whether any process was asked to; exchanged every ``VOTE_STEPS`` steps, as it blocks."""
        if self.world.size > 1 and self.step % VOTE_STEPS:
            return False
        return self.world.any(preempted())

    def _report_bad_files(self) -> None:
        bad = self.dataset.bad_utterances()
        if bad:
            count = len(self.manifest)
            logger.warning("%d of %d files cannot be read: %s", len(bad), count, first_few(bad))

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.train.steps

    def _train_on(self, batch: Any) -> None:  # noqa: ANN401 - as its augmenter takes it
        loss = self.trainer.step(self.step, self.augmenter(batch))
        self.window.add(self.step, loss, batch.index)
        self.step += 1

    def _report(self) -> None:
        loss, accuracy = self.world.mean(self.window.means()).tolist()
        first, began = self.window_start
        now = time.perf_counter()
        rate = (self.step - first) * self.config.train.batch_size / (now - began)
        self.window_start = (self.step, now)
        record = {
            "epoch": self.step * self.config.train.batch_size / len(self.manifest),
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": self.trainer.plan(self.step - 1).learning_rate,
            "crops_per_second": rate,
        }
        if self.log:
            self.log.write(self.step, record)
            line = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:.0f} crops/s"
            self.show(self.step, self.config.train.steps, line)

    def _validate_if_missing(self, asked: Callable[[], bool]) -> bool:
        """Validate what was saved before a validation that did not end; whether it ended now."""
        is_missing = self.lists and self.step and self._due(self.config.train.validate_every)
        if is_missing and self.world.any(bool(self.log) and self.validated_step != self.step):
            return self._validate(asked)
        return True

    @torch.no_grad()
    def _validate(self, asked: Callable[[], bool]) -> bool:
        """Judge the lists, and keep the best encoder; whether no signal came before the end."""
        is_done = True
        if self.log:
            embedder = Encoder(TorchBackend(self.trainer.model.encoder, str(self.world.device)))
            try:
                with tracked_by(until(asked)):
                    scored = score_lists(embedder, self.lists)
                self._keep_best(scored, self.log)
            except Interrupted:
                is_done = False
        self.window_start = (self.step, time.perf_counter())
        return not self.world.any(not is_done)

    def _keep_best(self, scored: LabelledScores, log: RunLog) -> None:
        eers = {name: equal_error_rate(*of_list) for name, of_list in scored.items()}
        eer = sum(eers.values()) / len(eers)
        if eer < self.best_eer:
            self.best_eer = eer
            self._save_encoder("encoder", {"eer": f"{eer:.6f}"})
            self._save_thresholds(scored)
        # Written last: a resumed run takes it for the sign that all of this was done.
        log.write(self.step, {"eer": eer} | {f"eer/{name}": one for name, one in eers.items()})
        logger.info("step %d: validation EER %.2f %%", self.step, 100 * eer)

    def _save_encoders(self) -> None:
        self.window.check()
        if not self.world.is_main:
            return
        self._save_encoder("encoder-last")
        if not self.lists:
            self._save_encoder("encoder")
        if self.config.train.average_last and self._due(self.config.train.save_every):
            self._average()

    def _save_state(self) -> None:
        self.window.check()
        window = self.world.mean(self.window.steps())
        if self.world.is_main:
            states = self.trainer.model.state_dict(), self.trainer.optimizer.state_dict()
            state = TrainingState(self.step, *states, self.best_eer, window.cpu(), *self.data)
            state.save(self.folder / STATE_NAME)

    def _average(self) -> None:
        """Keep the encoders of the last saves; after the last step, leave their mean."""
        self._save_encoder(f"encoders/step-{self.step:09d}")
        kept = keep_last(self.folder / "encoders", self.config.train.average_last)
        if self.step == self.config.train.steps:
            average_encoders(kept, self.folder / "encoder-average")

    def _save_encoder(self, name: str, notes: dict[str, str] | None = None) -> None:
        model = self.trainer.model
        notes = {"step": str(self.step), **(notes or {})}
        save_encoder(self.folder / name, model.encoder, self.config.encoder, notes)
        save_classifier(self.folder / name, model.classifier.weight.detach())

    def _save_thresholds(self, scored: LabelledScores) -> None:
        folder = self.folder / "encoder"
        learnt = replace(learn_thresholds(scored), encoder=weights_digest(folder))
        with atomic_path(folder / THRESHOLDS_NAME) as path:
            path.write_text(learnt.to_json(), encoding="utf-8")

    def _utterance_ids(self, rows: Sequence[int]) -> list[str]:
        return [self.manifest.utterance_ids[row] for row in rows]
