"""The frames of an exported graph, for long audio, enrolment and windows: no torch needed."""

import base64
from collections.abc import Sequence
from threading import Lock

import numpy as np

from speakervlad.inference.chunked import ChunkedBackend, Layout, Statistics
from speakervlad.inference.onnx_backend import open_session
from speakervlad.inference.pooling_sums import Pooling, PoolingSums, empty_sums

AS_IT_IS = {"extend": np.array(0, np.int64)}
# As little as passes a trunk, for what is not wanted of it.
SHORTEST = np.zeros((1, 512), np.float32)
FEW_FRAMES = {"limit": np.array([4], np.int64)}


class GraphFrames(ChunkedBackend):
    """An exported graph with its doors open; nothing is compiled before it is needed.

    Args:
        data: the file.
        notes: what it carries.
        dim: size of an embedding.
        threads: of each computation.
    """

    def __init__(self, data: bytes, notes: dict[str, str], dim: int, threads: int) -> None:
        super().__init__(Layout.from_json(notes["layout"]))
        self.pooling = Pooling.from_json(notes["pooling"])
        self._dim = dim
        self._data, self._doors = data, base64.b64decode(notes["doors"])
        self._threads = threads
        self._lock = Lock()
        self._session = None

    @property
    def dim(self) -> int:
        return self._dim

    def empty(self) -> PoolingSums:
        return empty_sums(self.pooling)

    def finish(self, sums: Sequence[PoolingSums]) -> np.ndarray:
        pooled = np.stack([each.finish() for each in sums])
        return self._run(["embedding"], waveform=SHORTEST, pooled=pooled, **FEW_FRAMES)[0]

    def features(self, samples: np.ndarray) -> np.ndarray:
        return self._run(["features"], waveform=samples[None], **AS_IT_IS, **FEW_FRAMES)[0][0]

    def describe(
        self, samples: np.ndarray, statistics: Statistics | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        given = {} if statistics is None else {"mean": statistics.mean[None]}
        if statistics is not None and statistics.deviation is not None:
            given["deviation"] = statistics.deviation[None]
        names = ["frames", "weights"] if self.pooling.kind == "netvlad" else ["frames"]
        outputs = self._run(names, waveform=samples[None], **AS_IT_IS, **given)
        return outputs[0][0], outputs[1][0] if len(outputs) == 2 else None

    def _run(self, names: list[str], **inputs: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            if self._session is None:
                # Messages of protocol buffers, one after the other, are parsed as their sum.
                self._session = open_session(self._data + self._doors, self._threads)
        feeds = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        return [np.asarray(output) for output in self._session.run(names, feeds)]
