"""Encoders of other toolkits: ONNX files that take filter-bank features and give one vector.

WeSpeaker's (``feats`` to ``embs``), 3D-Speaker's (``feature`` to ``embedding``), and those of
sherpa-onnx, whose metadata say what they are. What a file does not say stands in ``adopted.json``
beside it, which ``speakervlad adopt`` writes, or in a YAML file of its name.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from speakervlad.encoder.adopted import (
    ADOPTED_NAME,
    Adopted,
    adopt_values,
    checked_seconds,
    describe_file,
)
from speakervlad.encoder.backends import (
    FORMAT_FAMILY,
    GRAPH_NAME,
    Backend,
    probe_waveform,
)
from speakervlad.encoder.frames import Ends, Projection
from speakervlad.encoder.graphs import check_graph, notes_in
from speakervlad.errors import InputError
from speakervlad.models.frontend import FrontEnd
from speakervlad.models.sums import Finish
from speakervlad.onnx import open_session
from speakervlad.schema import from_dict
from speakervlad.threads import available_cores


def is_foreign(path: Path) -> bool:
    """Whether an ONNX file is not one that ``export`` wrote for speakervlad.

    Raises:
        InputError: it is no ONNX file.
    """
    data = path.read_bytes()
    return not notes_in(data, str(path)).get("format", "").startswith(FORMAT_FAMILY)


class ForeignBackend(Backend):
    """A network of others in onnxruntime on the CPU.

    The embedding of a recording of up to ``piece_seconds`` is the network's own, divided by its
    norm; of longer ones, the mean of the unit vectors of the pieces, weighted by their lengths.

    Args:
        path: the ONNX file.
        adopted: what is known of it; by default what it and the files beside it say.

    Raises:
        InputError: no such network, or it is not known what it takes.
    """

    def __init__(self, path: Path, adopted: Adopted | None = None) -> None:
        self.path = path
        self.num_streams = available_cores()
        data = path.read_bytes()
        check_graph(data, str(path))
        self._data = data
        try:
            self._session = open_session(data, self.num_streams)
        except Exception as error:  # onnxruntime raises classes of its own
            raise InputError(f"{path}: damaged or no network that can be computed.") from error
        self._input, self._output, num_bins = _interface(path, self._session)
        metadata = self._session.get_modelmeta().custom_metadata_map
        names = self._input, self._output
        self.adopted = adopted or describe_file(path, metadata, names)
        wanted = self.adopted.front_end.num_bins
        if num_bins is not None and num_bins != wanted:
            raise InputError(
                f"{path}: takes {num_bins} features a frame, and its front end gives {wanted}. "
                f"Adopt it with --num-mels {num_bins}, or write num_mels into its YAML file."
            )
        self._compute = self._session
        self.ends = _ends(self.adopted, self._probe())
        self.notes = {
            "weights": self._fingerprint(),
            "framework": self.adopted.framework,
            "front end": ", ".join(f"{k} {v}" for k, v in self.adopted.differing().items()),
            "dim": str(self.ends.dim),
        }

    def describe(self, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The unit embedding of a piece as one frame (dim, 1), and its weight (1, 1)."""
        vector = self._run(spectrogram)
        weight = np.full((1, 1), spectrogram.shape[1], np.float32)
        return (vector / max(float(np.linalg.norm(vector)), 1e-12))[:, None], weight

    @contextmanager
    def streams(self, count: int) -> Iterator[ThreadPoolExecutor]:
        if count > 1:
            self._compute = open_session(self._data, max(1, self.num_streams // count))
        try:
            with ThreadPoolExecutor(count, "compute") as pool:
                yield pool
        finally:
            self._compute = self._session

    def _run(self, spectrogram: np.ndarray) -> np.ndarray:
        """The network's own vector, float32 (dim,)."""
        features = np.ascontiguousarray(spectrogram.T, np.float32)[None]
        try:
            (found,) = self._compute.run([self._output], {self._input: features})
        except Exception as error:  # onnxruntime raises classes of its own
            reason = str(error).strip().partition("\n")[0][:200]
            raise InputError(
                f"{self.path}: cannot compute {features.shape[1]} frames of {features.shape[2]} "
                f"features ({reason})."
            ) from error
        return np.asarray(found, np.float32).reshape(-1)

    def _probe(self) -> int:
        """Size of an embedding, by a known signal.

        Raises:
            InputError: it gives no vector, or one that does not depend on its length alone.
        """
        front_end, sizes = self.adopted.front_end, set()
        for seconds in (1.0, 1.7):
            features = front_end.features(probe_waveform(seconds))
            vector = self._run(features - features.mean(axis=1, keepdims=True))
            if not np.isfinite(vector).all():
                raise InputError(f"{self.path}: its embedding of a known signal is not finite.")
            sizes.add(len(vector))
        if len(sizes) != 1:
            raise InputError(
                f"{self.path}: gives {sorted(sizes)} numbers for two lengths, not one vector a "
                "recording. An encoder's last layer pools over time."
            )
        return sizes.pop()

    def _fingerprint(self) -> str:
        """Of the network and what it is given; parameters at their defaults do not count."""
        told = json.dumps([self.adopted.differing(), self.adopted.piece_seconds], sort_keys=True)
        return hashlib.sha256(self._data + told.encode()).hexdigest()


def _interface(path: Path, session: Any) -> tuple[str, str, int | None]:  # noqa: ANN401
    """Names of the input and the output, and the number of features if it is fixed.

    Raises:
        InputError: it takes or gives something else than features and a vector.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        told = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise InputError(
            f"{path}: has {len(inputs)} inputs ({told}). An encoder of others takes features "
            "(batch, frames, bins) alone; NeMo's, which take lengths too, are not computed."
        )
    shape, kind = inputs[0].shape, inputs[0].type
    if len(shape) != 3 or kind != "tensor(float)":
        raise InputError(
            f"{path}: takes {inputs[0].name} of {kind} {shape}, not float features "
            "(batch, frames, bins)."
        )
    if isinstance(shape[1], int) and shape[1] > 0:
        raise InputError(
            f"{path}: takes exactly {shape[1]} frames. Export it with a dynamic number of frames."
        )
    if not outputs:
        raise InputError(f"{path}: has no output.")
    bins = shape[2] if isinstance(shape[2], int) and shape[2] > 0 else None
    return inputs[0].name, outputs[-1].name, bins


def _ends(adopted: Adopted, dim: int) -> Ends:
    zeros = np.zeros(dim, np.float32)
    same = Projection(np.eye(dim, dtype=np.float32), zeros, False, zeros, zeros + 1)
    pooling = Finish("mean", "clusters")
    return Ends(
        adopted.front_end, 1, None, (1, 1), pooling, same, adopted.piece_seconds, has_frames=False
    )


def adopt_file(path: Path, out: Path, values: Mapping[str, Any]) -> str:
    """Make an encoder folder of a network of others; complete or not at all.

    Args:
        path: the ONNX file.
        out: the folder, which is new or empty.
        values: as ``adopt_values`` takes them; without a framework or a kind, they change what the
            file says.

    Returns:
        What it is, in a few words.

    Raises:
        InputError: no such network, it is too little known, or the folder holds something.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}.")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: is there already. Name a new folder.")
    if not is_foreign(path):
        raise InputError(f"{path}: `speakervlad export` wrote it; it is an encoder as it is.")
    named = "framework" in values or "kind" in values.get("front_end", {})
    found = None if not named else adopt_values(values, "adopt")
    backend = ForeignBackend(path, found)
    if not named and values:
        base = backend.adopted
        front_end = from_dict(
            FrontEnd, asdict(base.front_end) | values.get("front_end", {}), "adopt"
        )
        seconds = checked_seconds(values.get("piece_seconds", base.piece_seconds))
        text = Adopted(front_end, base.framework, seconds).to_json()
        backend = ForeignBackend(path, Adopted.from_json(text, "adopt"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        made = Path(place) / "encoder"
        made.mkdir()
        shutil.copyfile(path, made / GRAPH_NAME)
        (made / ADOPTED_NAME).write_text(backend.adopted.to_json(), encoding="utf-8")
        made.replace(out)
    return (
        f"{backend.adopted.framework}, {backend.ends.dim} dimensions, {backend.notes['front end']}"
    )
