"""The folder of one run: what is in it, opened once, refused when it would lose something."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from speakervlad.config import (
    ENCODER_CONFIG_NAME,
    THRESHOLDS_NAME,
    WEIGHTS_NAME,
    Config,
    load_config,
    to_yaml,
)
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path, exclusive, naming_full_disk, remove_stale
from speakervlad.models.folder import (
    CLASSIFIER_NAME,
    load_encoder_folder,
    save_classifier,
    save_encoder,
)
from speakervlad.models.losses import Loss
from speakervlad.schema import differences
from speakervlad.texts import parse_json
from speakervlad.training.distributed import World
from speakervlad.training.state import DataIdentity, TrainingState, Weights, compared_rows

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
STATE_NAME = "last.pt"
METRICS_NAME = "metrics.jsonl"
# Keys that may change between the parts of one run: they do not change what is learnt.
FREE_KEYS = (
    "resume",
    "run_dir",
    "data.num_workers",
    "data.max_bad_fraction",
    "train.device",
    "train.compile",
    "train.log_every",
    "train.save_every",
    "train.validate_every",
)
# Keys that may change as well when ``train.steps`` grows.
EXTENSION_KEYS = ("train.steps", "schedule.")

Record = dict[str, float]


def hold_run(config: Config, world: World) -> AbstractContextManager[None]:
    """Keep other trainings out of the run folder; its first process does.

    Raises:
        InputError: another training holds it.
    """
    if not world.is_main:
        return nullcontext()
    folder = Path(config.run_dir)
    busy = f"{folder}: another process trains here. Wait for it, or choose another run_dir."
    return exclusive(folder / ".lock", busy)


def open_run(config: Config, world: World, data: DataIdentity) -> TrainingState | None:
    """Make the run folder, or check that it may go on; the first process does, the others follow.

    Returns:
        The state to resume from, or None for a fresh start.

    Raises:
        InputError: the folder holds a run and ``resume`` is not set; the config, the manifest or
            its recordings have changed; or the state is damaged.
    """
    state = _open(config, data) if world.is_main else None
    world.wait()
    path = Path(config.run_dir) / STATE_NAME
    if not world.is_main and path.exists():
        state = TrainingState.load(path)
    return state


def _open(config: Config, data: DataIdentity) -> TrainingState | None:
    folder = Path(config.run_dir)
    state_path, config_path = folder / STATE_NAME, folder / CONFIG_NAME
    _sweep(folder)
    if state_path.exists() and not config.resume:
        raise InputError(f"{folder}: already holds a run. Use resume=true or another run_dir.")
    if state_path.exists():
        is_longer = _refuse_changes(config, config_path)
        state = TrainingState.load(state_path)
        _refuse_other_data(config, state, data)
        if state.step < config.train.steps:
            _refuse_other_sound(config, state, data)
        logger.info("resuming %s at step %d", folder, state.step)
        if not is_longer:
            return state
        logger.info("the schedule is now that of %d steps", config.train.steps)
    else:
        state = None
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        (folder / METRICS_NAME).unlink(missing_ok=True)
    with atomic_path(config_path) as path:
        path.write_text(to_yaml(config))
    return state


def _sweep(folder: Path) -> None:
    """Remove what killed trainings have left half written."""
    for name in (CONFIG_NAME, STATE_NAME, METRICS_NAME):
        remove_stale(folder / name)
    for encoder in (*folder.glob("encoder*"), *folder.glob("encoders/*")):
        for name in (ENCODER_CONFIG_NAME, WEIGHTS_NAME, CLASSIFIER_NAME, THRESHOLDS_NAME):
            remove_stale(encoder / name)


def _refuse_changes(config: Config, path: Path) -> bool:
    """Whether the run becomes longer, which is the one change of what is learnt that may be."""
    before = load_config(path)
    is_longer = config.train.steps > before.train.steps
    allowed = (*FREE_KEYS, *(EXTENSION_KEYS if is_longer else ()))
    changed = {
        key: values
        for key, values in differences(before, config).items()
        if not key.startswith(allowed)
    }
    if changed:
        shown = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
        raise InputError(f"{path}: the config has changed ({shown}). Start another run_dir.")
    return is_longer


def _refuse_other_data(config: Config, state: TrainingState, data: DataIdentity) -> None:
    """Classes are numbered by sorted speaker, and crops drawn by row: both must be the same."""
    trained, found = set(state.class_names), set(data.class_names)
    rows, own = state.row_digests.numpy(), data.row_digests.numpy()
    shared = min(len(rows), len(own))
    others = np.flatnonzero(rows[:shared] != own[:shared])
    changes = {
        "new speakers": [name for name in data.class_names if name not in trained],
        "missing speakers": [name for name in state.class_names if name not in found],
        "other rows": [f"line {row + 2}" for row in others.tolist()],
        "utterances": [f"{len(own)} instead of {len(rows)}"] if len(rows) != len(own) else [],
    }
    shown = "; ".join(f"{what}: {first_few(names)}" for what, names in changes.items() if names)
    if shown:
        raise InputError(
            f"{config.data.train_manifest}: is not the manifest that {config.run_dir} was trained "
            f"on ({shown}). Give the run its manifest back, or start another run_dir."
        )


def _refuse_other_sound(config: Config, state: TrainingState, data: DataIdentity) -> None:
    """Crops of recordings that were made anew are other crops, at the same rows."""
    before, now = state.sound_digests.numpy(), data.sound_digests.numpy()
    if len(before) != len(now):  # of a state that has none, or a run that reads no sound
        return
    rows = compared_rows(len(data.row_digests), len(now))
    others = [f"line {rows[place] + 2}" for place in np.flatnonzero(before != now)]
    if others:
        raise InputError(
            f"{config.data.train_manifest}: {len(others)} of {len(rows)} recordings that were "
            f"compared are missing or not those that {config.run_dir} was trained on "
            f"({first_few(others)}). Restore them, or start another run_dir."
        )


class RunLog:
    """Appends records to ``metrics.jsonl`` and TensorBoard, and library messages to ``train.log``.

    Args:
        folder: the run folder.
        step: records after this step belong to a part of the run that was lost; they are dropped.

    Attributes:
        earlier: the records that were there already.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._metrics = folder / METRICS_NAME
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("speakervlad").addHandler(self._handler)
        self.earlier = self._keep_until(step)

    def write(self, step: int, record: Record) -> None:
        """Append one record.

        Raises:
            InputError: the disk is full.
        """
        with naming_full_disk(self._metrics):
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(_line({"step": step, **record}))
            for name, value in record.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and detach."""
        self._board.close()
        logging.getLogger("speakervlad").removeHandler(self._handler)
        self._handler.close()

    def _keep_until(self, step: int) -> list[Record]:
        if not self._metrics.exists():
            return []
        records = read_metrics(self._metrics)
        num_lines = len(self._metrics.read_bytes().splitlines())
        if len(records) < num_lines:
            logger.warning(
                "%s: damaged or incomplete after line %d; the rest is cut off",
                self._metrics,
                len(records),
            )
        kept = [record for record in records if record["step"] <= step]
        with atomic_path(self._metrics) as path:
            path.write_text("".join(_line(record) for record in kept), encoding="utf-8")
        return kept


class LossWindow:
    """Mean loss and accuracy since the last report; refuses losses that are not finite.

    A loss is looked at one step late, when the device is done with it, so that looking does not
    stall the next step.

    Args:
        name_rows: manifest rows of a batch to utterance ids, for the message.
        earlier: loss and accuracy of steps that an earlier part of the run took since its last
            report, float32 (steps, 2).
    """

    def __init__(
        self, name_rows: Callable[[Sequence[int]], list[str]], earlier: torch.Tensor
    ) -> None:
        self._name_rows = name_rows
        self._losses = list(earlier)
        self._unchecked: tuple[int, Loss, torch.Tensor] | None = None

    def add(self, step: int, loss: Loss, rows: torch.Tensor) -> None:
        """Take a step's loss, and look at that of the step before."""
        self.check()
        self._unchecked = (step, loss, rows)
        self._losses.append(torch.stack([loss.value, loss.accuracy]))

    def check(self) -> None:
        """Look at the newest loss now, as before every save.

        Raises:
            InputError: it is infinite or not a number.
        """
        if self._unchecked is None:
            return
        (step, loss, rows), self._unchecked = self._unchecked, None
        if not torch.isfinite(loss.value):
            names = first_few(self._name_rows(rows.tolist()), len(rows))
            raise InputError(
                f"loss is {loss.value.item()} at step {step}: lower optim.lr, set optim.clip_norm, "
                f"or look at the batch: {names}"
            )

    def steps(self) -> torch.Tensor:
        """Loss and accuracy of every step of the window, float32 (steps, 2)."""
        return torch.stack(self._losses) if self._losses else torch.zeros(0, 2)

    def means(self) -> torch.Tensor:
        """Mean (loss, accuracy) of the window, which starts anew."""
        means = self.steps().mean(dim=0)
        self._losses.clear()
        return means


def read_metrics(path: Path) -> list[Record]:
    """The records of a ``metrics.jsonl`` up to the first damaged line.

    A kill cuts the last line short; a power cut may leave zeros.
    """
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        record = _record(line)
        if record is None:
            break
        records.append(record)
    return records


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _record(line: bytes) -> Record | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    is_record = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if is_record else None


def average_encoders(folders: Sequence[str | Path], out: str | Path) -> None:
    """Write the encoder whose weights and running statistics are the means of several encoders'.

    Classifiers are averaged where every folder keeps one.

    Raises:
        InputError: a folder is no encoder, they are not of one config, or there is none.
    """
    if not folders:
        raise InputError("no encoder to average. Name the folders.")
    encoder, config = load_encoder_folder(folders[0])
    states = [encoder.state_dict()]
    for folder in folders[1:]:
        other, other_config = load_encoder_folder(folder)
        if other_config != config:
            raise InputError(f"{folder}: its config is not that of {folders[0]}. Average one run.")
        states.append(other.state_dict())
    encoder.load_state_dict(mean_state(states))
    save_encoder(out, encoder, config, {"averaged": str(len(folders))})
    kept = [Path(folder) / CLASSIFIER_NAME for folder in folders]
    if all(path.is_file() for path in kept):
        save_classifier(out, mean_state([load_file(path) for path in kept])["weight"])


def mean_state(states: Sequence[Weights]) -> Weights:
    """The mean of every tensor; counters are those of the last state."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def keep_last(folder: Path, count: int) -> list[Path]:
    """Encoders ``step-...`` of a folder, by step; all but the last ``count`` are removed."""
    found = sorted(folder.glob("step-*"))
    for old in found[:-count]:
        shutil.rmtree(old)
    return found[-count:]
