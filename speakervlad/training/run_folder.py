"""The folder of one run: what is in it, opened once, refused when it would lose something."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file

from speakervlad.config import Config, load_config, to_yaml
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.models.build import (
    CLASSIFIER_NAME,
    load_encoder_folder,
    save_classifier,
    save_encoder,
)
from speakervlad.models.classifier import Loss
from speakervlad.plain import differences
from speakervlad.training.distributed import World

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.yaml"
STATE_NAME = "last.pt"
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
)

Record = dict[str, float]
Weights = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """All that a step depends on; schedules and random draws are functions of ``step``."""

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    best_eer: float = math.inf

    def save(self, path: Path) -> None:
        """Write under a temporary name, then rename.

        Raises:
            InputError: it cannot be written; the state of an earlier save stays.
        """
        try:
            with atomic_path(path) as temporary:
                torch.save(asdict(self), temporary)
        except RuntimeError as error:
            # All that torch says of a full disk is "unexpected pos".
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: cannot be written, probably for want of room ({reason}). Make room, then "
                "resume=true goes on from the save before."
            ) from error

    @classmethod
    def load(cls, path: Path) -> "TrainingState":
        """Read tensors and plain values only, never arbitrary pickles.

        The file stays mapped: what is not used is not read.

        Raises:
            InputError: the file is damaged or something else.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise InputError(f"{path}: is no training state of speakervlad.") from error
        if not isinstance(values, dict) or values.keys() != {field.name for field in fields(cls)}:
            raise InputError(f"{path}: is no training state of this version of speakervlad.")
        return cls(**values)


def open_run(config: Config, world: World) -> TrainingState | None:
    """Make the run folder, or check that it may go on; the first process does, the others follow.

    Returns:
        The state to resume from, or None for a fresh start.

    Raises:
        InputError: the folder holds a run and ``resume`` is not set, or the config has changed.
    """
    state = _open(config) if world.is_main else None
    world.wait()
    path = Path(config.run_dir) / STATE_NAME
    if not world.is_main and path.exists():
        state = TrainingState.load(path)
    return state


def _open(config: Config) -> TrainingState | None:
    folder = Path(config.run_dir)
    state_path, config_path = folder / STATE_NAME, folder / CONFIG_NAME
    if state_path.exists() and not config.resume:
        raise InputError(f"{folder}: already holds a run. Use resume=true or another run_dir.")
    if state_path.exists():
        _refuse_changes(config, config_path)
        state = TrainingState.load(state_path)
        logger.info("resuming %s at step %d", folder, state.step)
        return state
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    with atomic_path(config_path) as path:
        path.write_text(to_yaml(config))
    return None


def _refuse_changes(config: Config, path: Path) -> None:
    changed = {
        key: values
        for key, values in differences(load_config(path), config).items()
        if key not in FREE_KEYS
    }
    if changed:
        shown = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
        raise InputError(f"{path}: the config has changed ({shown}). Start another run_dir.")


class RunLog:
    """Appends records to ``metrics.jsonl`` and TensorBoard, and library messages to ``train.log``.

    Args:
        folder: the run folder.
        step: records after this step belong to a part of the run that was lost; they are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._metrics = folder / "metrics.jsonl"
        self._drop_after(step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._handler = logging.FileHandler(folder / "train.log")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("speakervlad").addHandler(self._handler)

    def write(self, step: int, record: Record) -> None:
        """Append one record."""
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, **record}) + "\n")
        for name, value in record.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and detach."""
        self._board.close()
        logging.getLogger("speakervlad").removeHandler(self._handler)
        self._handler.close()

    def _drop_after(self, step: int) -> None:
        if not self._metrics.exists():
            return
        kept = [line for line in _whole_lines(self._metrics) if json.loads(line)["step"] <= step]
        with atomic_path(self._metrics) as path:
            path.write_text("".join(line + "\n" for line in kept))


class LossWindow:
    """Mean loss and accuracy since the last report; refuses losses that are not finite.

    A loss is looked at one step late, when the device is done with it, so that looking does not
    stall the next step.

    Args:
        name_rows: manifest rows of a batch to utterance ids, for the message.
    """

    def __init__(self, name_rows: Callable[[Sequence[int]], list[str]]) -> None:
        self._name_rows = name_rows
        self._losses: list[torch.Tensor] = []
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

    def means(self) -> torch.Tensor:
        """Mean (loss, accuracy) of the window, which starts anew."""
        means = torch.stack(self._losses).mean(dim=0)
        self._losses.clear()
        return means


def read_metrics(path: Path) -> list[Record]:
    """All complete records of a ``metrics.jsonl``."""
    return [json.loads(line) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[str]:
    # A kill may have cut the last line short.
    return path.read_text().split("\n")[:-1]


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
