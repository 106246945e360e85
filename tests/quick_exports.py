"""What spares the tests most of the time of torch's exporter: each network is exported once."""

import functools
import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import onnx
import pytest
import torch

from speakervlad.encoder import elsewhere, export


@contextmanager
def installed() -> Iterator[None]:
    """Exports of equal networks are computed once, and operators are read once."""
    to_onnx = export.to_onnx
    made: dict[str, bytes] = {}

    def once(network, example, axes, names, where, *, optimise=True):
        asked = (network, type(network).forward.__code__, example, axes, names, optimise)
        key = content(asked)
        if key not in made:
            made[key] = to_onnx(
                network, example, axes, names, where, optimise=optimise
            ).SerializeToString()
        return onnx.ModelProto.FromString(made[key])

    with pytest.MonkeyPatch.context() as patch:
        for module in (export, elsewhere):
            patch.setattr(module, "to_onnx", once)
        # It is torch's own; where it is another one, each export reads them: half a second.
        with suppress(ImportError, AttributeError):
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            kept = functools.cache(ONNXRegistry.from_torchlib)
            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))
        yield


class Content(pickle.Pickler):
    """Writes modules with all that they hold: tensors by their values, code as bytes."""

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor):
            array = value.detach().contiguous()
            return str, (f"{array.dtype} {tuple(array.shape)} {array.numpy().tobytes()!r}",)
        if isinstance(value, type(content.__code__)):
            return bytes, (value.co_code, *map(repr, (value.co_consts, value.co_names)))
        return NotImplemented


def content(value: object) -> str:
    """Equal for what is equal."""
    file = io.BytesIO()
    Content(file).dump(value)
    return hashlib.sha256(file.getvalue()).hexdigest()
