"""Checkpoints of torch as encoder folders: what their readers have in common.

A reader states which module of the original is which of ours; every tensor must have its place, and
every place its tensor. Nothing is unpickled but tensors.
"""

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from speakervlad.checkpoints.reader import COUNTER, Converted, Reader
from speakervlad.config import EncoderConfig
from speakervlad.errors import InputError, first_few
from speakervlad.models.folder import assemble_encoder, complete

Tensors = dict[str, Tensor]


class TensorReader(Reader):
    """A toolkit's checkpoint of one kind of network.

    Attributes:
        what: the network and the toolkit, for messages.
        keystone: a tensor by which it is known.
    """

    what: str
    keystone: str

    @abstractmethod
    def config(self, state: Tensors) -> EncoderConfig:
        """The encoder whose sizes are those of the tensors.

        Raises:
            KeyError, IndexError, ValueError: a tensor is missing or has too few axes.
        """

    @abstractmethod
    def modules(self, config: EncoderConfig) -> Mapping[str, str]:
        """Modules of the original to ours; all but the head."""

    @abstractmethod
    def head_shapes(self, config: EncoderConfig, pooled: int) -> dict[str, tuple[int, ...]]:
        """The tensors of the head, which take a pooled vector of that size."""

    @abstractmethod
    def projection(self, state: Tensors) -> Tensors:
        """The head as the state of our projection."""

    def useful(self, state: Tensors) -> Tensors:
        """The tensors that take part in an embedding; by default all."""
        return state

    def read(self, paths: Sequence[Path]) -> Converted:
        if len(paths) != 1:
            raise InputError(f"convert: {self.what} is one file, not {len(paths)}.")
        path = paths[0]
        state = self.useful(read_tensors(path))
        if self.keystone not in state:
            raise InputError(
                f"{path}: is no {self.what} (no {self.keystone}, but {first_few(state)})."
            )
        try:
            config = complete(self.config(state))
            with torch.device("meta"):
                encoder = assemble_encoder(config)
        except KeyError as error:
            raise InputError(f"{path}: is no {self.what}: no {error.args[0]}.") from error
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}: is no {self.what} ({error}).") from error
        shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        names = _names(shapes, self.modules(config))
        expected = {theirs: shapes[ours] for theirs, ours in names.items()}
        expected |= self.head_shapes(config, encoder.pooling.out_dim)
        _refuse_mismatches(state, expected, f"{path}: is no {self.what}")
        ours = {names[theirs]: value for theirs, value in state.items() if theirs in names}
        ours |= {f"projection.{name}": value for name, value in self.projection(state).items()}
        told = f"{config.trunk.kind}, {config.pooling.kind}, {config.embedding_dim} dimensions"
        return Converted(config, ours, told)


def read_tensors(path: Path) -> Tensors:
    """A file of named tensors that torch wrote, floats as float32.

    Raises:
        InputError: the file is absent or damaged, holds anything but tensors by name, or values
            that are not finite.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}.")
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes of exceptions
        raise InputError(
            f"{path}: is damaged, or is no file of tensors alone, which torch reads without "
            "running code. Name a state dict that `torch.save` wrote."
        ) from error
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{path}: holds no tensors by name. Name a state dict.")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_sparse:
            raise InputError(f"{path}: {name!s:.80} is no tensor. Name a state dict alone.")
        tensors[name] = value.float() if value.is_floating_point() else value
        if not tensors[name].isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinity.")
    return tensors


def _names(shapes: Mapping[str, tuple[int, ...]], modules: Mapping[str, str]) -> dict[str, str]:
    """Their tensors to ours, of all modules."""
    found = {}
    for theirs, ours in modules.items():
        own = [name for name in shapes if name.rpartition(".")[0] == ours]
        found |= {f"{theirs}.{name.rpartition('.')[2]}": name for name in own}
    return found


def _refuse_mismatches(state: Tensors, expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Name what is missing, surplus or of another shape."""
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [f"no {name}" for name in expected if name not in found and COUNTER not in name]
    wrong += [f"{name} has no place" for name in found if name not in expected]
    wrong += [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if wrong:
        raise InputError(f"{where}: {first_few(wrong)}.")
