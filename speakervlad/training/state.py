"""``last.pt``: the whole state of a training run, saved atomically, checked when it is read."""

import hashlib
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from speakervlad.audio.packed import PACKED_PATH
from speakervlad.errors import InputError, first_few
from speakervlad.files import atomic_path
from speakervlad.models.encoder import SpeakerClassifier
from speakervlad.models.folder import load_strictly
from speakervlad.tables.manifest import Manifest
from speakervlad.training.trainer import moments_of

Weights = dict[str, torch.Tensor]

# Of a recording; longer ones differ in their length, or in what comes first.
DIGESTED_BYTES = 1 << 20


class DataIdentity(NamedTuple):
    """What must stay while a run goes on: classes, rows in their order, sound of some recordings.

    Attributes:
        class_names: speakers by class.
        row_digests: of id, path, speaker and length of every row, int64 (rows,).
        sound_digests: of the files of ``compared_rows``, int64 (files,).
    """

    class_names: list[str]
    row_digests: torch.Tensor
    sound_digests: torch.Tensor

    @classmethod
    def of(cls, manifest: Manifest, max_files: int = 0) -> "DataIdentity":
        """Of a manifest, and of so many of its files at most.

        All files of a large corpus would take too long to read, and their dates say little: a copy
        has others. Who prepares a corpus anew changes all of them.
        """
        columns = (manifest.utterance_ids, manifest.paths, manifest.speakers, manifest.num_samples)
        digests = bytearray()
        for row in zip(*columns, strict=True):
            text = "\0".join(map(str, row))
            digests += hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
        rows = compared_rows(len(manifest), max_files)
        sounds = b"".join(_content_digest(str(manifest.path(row))) for row in rows)
        return cls(list(manifest.speaker_names), _as_tensor(digests), _as_tensor(sounds))


def compared_rows(num_rows: int, max_files: int) -> list[int]:
    """The rows whose sound is compared, spread evenly."""
    count = min(num_rows, max_files)
    return [number * num_rows // count for number in range(count)]


def _content_digest(path: str) -> bytes:
    """Of the length and the first ``DIGESTED_BYTES`` of a recording; of nothing where it is none.

    A packed recording is a part of its shard.
    """
    packed = PACKED_PATH.fullmatch(path)
    try:
        with Path(packed["shard"] if packed else path).open("rb") as file:
            length = 2 * int(packed["length"]) if packed else os.fstat(file.fileno()).st_size
            file.seek(2 * int(packed["first"]) if packed else 0)
            content = file.read(min(length, DIGESTED_BYTES))
    except OSError:
        return bytes(8)
    return hashlib.blake2b(b"%d %b" % (length, content), digest_size=8).digest()


def _as_tensor(digests: bytes | bytearray) -> torch.Tensor:
    """(digests,) int64."""
    return torch.from_numpy(np.frombuffer(digests, np.int64).copy())


@dataclass
class TrainingState:
    """All that a step depends on; schedules and random draws are functions of ``step``.

    Attributes:
        step: steps done.
        model: state of encoder and classifier.
        optimizer: state of the optimiser.
        best_eer: the lowest mean EER before a validation at ``step``, as a fraction.
        window: loss and accuracy of the steps since the last report, float32 (steps, 2).
        class_names: speakers by class.
        row_digests: of the manifest, int64 (utterances,).
        sound_digests: of some of its files, int64 (files,); none in states of version 0.2.0.
    """

    step: int
    model: Weights
    optimizer: dict[str, Any]
    best_eer: float = math.inf
    window: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    class_names: list[str] = field(default_factory=list)
    row_digests: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    sound_digests: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def save(self, path: Path) -> None:
        """Write under a temporary name, then rename.

        Raises:
            InputError: it cannot be written; the state of an earlier save stays.
        """
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        try:
            with atomic_path(path) as temporary:
                torch.save(values, temporary)
        except RuntimeError as error:
            # torch's whole message about a full disk is "unexpected pos".
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
        except Exception as error:  # torch's reader raises many classes for damaged archives
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise InputError(f"{path}: is no training state of speakervlad.") from error
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, dict) or not known - {"sound_digests"} <= values.keys() <= known:
            raise InputError(f"{path}: is no training state of this version of speakervlad.")
        state = cls(**values)
        wrong = state.wrong_fields()
        if wrong:
            raise InputError(
                f"{path}: is no training state of speakervlad: {', '.join(wrong)} damaged. "
                "Start another run_dir, with init_from if an encoder is left."
            )
        return state

    def wrong_fields(self) -> list[str]:
        """Names of the fields that hold what they cannot hold."""
        held = {
            "step": type(self.step) is int and self.step >= 0,
            "model": _holds_tensors(self.model),
            "optimizer": isinstance(self.optimizer, dict)
            and isinstance(self.optimizer.get("state"), dict)
            and all(isinstance(values, dict) for values in self.optimizer["state"].values()),
            "best_eer": isinstance(self.best_eer, float) and self.best_eer >= 0,
            "window": _is_tensor(self.window, torch.float32, 2) and self.window.shape[1] == 2,
            "class_names": isinstance(self.class_names, list)
            and all(isinstance(name, str) for name in self.class_names),
            "row_digests": _is_tensor(self.row_digests, torch.int64, 1),
            "sound_digests": _is_tensor(self.sound_digests, torch.int64, 1),
        }
        return [name for name, is_right in held.items() if not is_right]

    def restore(
        self, model: SpeakerClassifier, optimizer: torch.optim.Optimizer, path: Path
    ) -> None:
        """Give a model and its optimiser what was saved.

        Raises:
            InputError: something is missing, or of another shape or type.
        """
        wrong = [
            f"{name} is {self.model[name].dtype}, not {value.dtype}"
            for name, value in model.state_dict().items()
            if name in self.model and self.model[name].dtype != value.dtype
        ]
        if wrong:
            raise InputError(f"{path}: does not fit its config: {first_few(wrong)}.")
        load_strictly(model, self.model, str(path))
        if not self._fits(optimizer):
            raise InputError(
                f"{path}: the optimiser's state is damaged. Start another run_dir with "
                f"init_from={path.parent / 'encoder-last'}."
            )
        # Its settings are those of the config.
        settings = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer["state"], "param_groups": settings})

    def _fits(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether every moment that the optimiser keeps is there, and of its parameter's shape."""
        moments = moments_of(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        entries = self.optimizer["state"]
        if bool(entries) != bool(moments and self.step):
            return False
        return all(
            index in range(len(parameters))
            and values.keys() == moments.keys()
            and all(
                isinstance(values[name], torch.Tensor)
                and values[name].shape == (parameters[index].shape if is_whole else ())
                for name, is_whole in moments.items()
            )
            for index, values in entries.items()
        )


def _is_tensor(value: object, dtype: torch.dtype, dimensions: int) -> bool:
    return isinstance(value, torch.Tensor) and (value.dtype, value.dim()) == (dtype, dimensions)


def _holds_tensors(values: object) -> bool:
    return isinstance(values, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in values.items()
    )
