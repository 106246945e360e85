"""What a run leaves behind for people: train.log, metrics.jsonl, TensorBoard."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.models.classifier import Loss

Record = dict[str, float]


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
