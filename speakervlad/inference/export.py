"""Encoder folders to single ONNX files that run without torch."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from speakervlad.errors import InputError
from speakervlad.files import atomic_path
from speakervlad.inference.exported import FORMAT, TOLERANCES, fingerprint, probe_waveform
from speakervlad.inference.onnx_backend import OnnxBackend
from speakervlad.inference.onnx_graph import build_graph
from speakervlad.inference.pooling_sums import Pooling
from speakervlad.inference.quantise import quantise
from speakervlad.inference.thresholds import THRESHOLDS_NAME
from speakervlad.inference.torch_backend import TorchBackend
from speakervlad.inference.waves import SampleWave
from speakervlad.models.build import load_encoder_folder
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.pooling import L2_EPSILON, VARIANCE_FLOOR, NetVLAD, StatisticsPooling
from speakervlad.plain import to_dict

CHECK_SECONDS = tuple(np.geomspace(0.1, 60, 20).tolist())


def export_onnx(
    folder: Path,
    out: Path,
    *,
    check_seconds: tuple[float, ...] = CHECK_SECONDS,
    calibration: Sequence[np.ndarray] | None = None,
) -> float:
    """Write an encoder as one ONNX file and compare it with torch.

    The file carries the encoder's config, its thresholds, and the embedding of a
    known signal, by which a runtime can check itself.

    Args:
        folder: the encoder folder.
        out: the file to write; it appears only when the check has passed.
        check_seconds: lengths of noise at which both are compared.
        calibration: waveforms, float32 (samples,); with them the trunk computes in 8-bit integers,
            whose ranges are those that the waveforms need.

    Returns:
        The largest distance between an embedding of torch and of the file.

    Raises:
        InputError: the folder is damaged, or the file does not compute what torch computes.
    """
    encoder, config = load_encoder_folder(folder)
    backend = TorchBackend(encoder, torch.device("cpu"))
    model, doors = build_graph(backend.encoder)
    precision = "float32" if calibration is None else "int8"
    if calibration is not None:
        model = quantise(model, calibration)
    notes = {
        "format": FORMAT,
        "precision": precision,
        "config": json.dumps(to_dict(config)),
        "layout": backend.layout.to_json(),
        "pooling": pooling_of(backend.encoder).to_json(),
        "doors": base64.b64encode(doors).decode(),
        "weights": fingerprint(folder) or "",
        "check": json.dumps(backend.embed(SampleWave(probe_waveform(1.0))).tolist()),
    }
    if (folder / THRESHOLDS_NAME).is_file():
        notes[THRESHOLDS_NAME] = (folder / THRESHOLDS_NAME).read_text(encoding="utf-8")
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    with atomic_path(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        worst = largest_distance(backend, OnnxBackend(temporary), check_seconds)
        if not worst <= TOLERANCES[precision]:
            raise InputError(f"{folder}: the exported graph is {worst:.2g} away from torch.")
    return worst


def pooling_of(encoder: SpeakerEncoder) -> Pooling:
    """What numpy must know to pool as an encoder does."""
    layer = encoder.pooling
    if isinstance(layer, NetVLAD):
        centers = layer.centers.detach().cpu().numpy()
        return Pooling("netvlad", L2_EPSILON, centers, layer.intra_norm, layer.vector_norm)
    if isinstance(layer, StatisticsPooling):
        return Pooling("statistics", VARIANCE_FLOOR)
    return Pooling("average")


def largest_distance(
    one: TorchBackend, other: OnnxBackend, check_seconds: tuple[float, ...]
) -> float:
    """The largest Euclidean distance between two backends' unit vectors of the same signals.

    Each signal is embedded, and a speaker enrolled from the first, which takes the graph's doors.
    """
    waves = [SampleWave(probe_waveform(seconds)) for seconds in check_seconds]
    pairs = [(one.embed(wave), other.embed(wave)) for wave in waves]
    pairs.append((one.enrol(waves[:1]), other.enrol(waves[:1])))
    return max(float(np.linalg.norm(ours - theirs)) for ours, theirs in pairs)
