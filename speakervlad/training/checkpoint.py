"""``last.pt``: the whole state of a training run, saved atomically, loaded strictly."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from speakervlad.errors import InputError
from speakervlad.files import atomic_path


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
