"""Our encoders for the runtimes of others: one ONNX file of features to one unit vector.

Unlike ``export.py``'s, the file pools and projects itself, so that whatever runs such networks of
WeSpeaker or 3D-Speaker (sherpa-onnx on phones, in browsers, in ten languages) runs it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from jaxtyping import Float
from onnx import helper
from torch import Tensor, nn

from speakervlad.encoder.adopted import FRONT_END_NOTE
from speakervlad.encoder.backends import probe_waveform
from speakervlad.encoder.export import save_model, to_onnx
from speakervlad.encoder.foreign import ForeignBackend
from speakervlad.errors import InputError, did_you_mean
from speakervlad.models.encoder import SpeakerEncoder
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import KALDI_SCALE, FrontEnd, kaldi_fbank
from speakervlad.onnx import open_session
from speakervlad.sound import SAMPLE_RATE

# Frames of recordings at which the file is compared with torch, and how far they may be apart.
CHECK_FRAMES = (30, 99, 100, 301, 777)
TOLERANCE = 1e-3
MELS = 80


@dataclass(frozen=True)
class Platform:
    """What a runtime feeds a network with.

    Attributes:
        names: of the input and the output.
        front_end: what it computes features by, for samples in [-1, 1].
        centred: whether frames begin before the signal (Kaldi without "snip edges").
        scales: of samples, that it can be told.
    """

    names: tuple[str, str]
    front_end: FrontEnd
    centred: bool = False
    scales: tuple[float, ...] = (1.0,)

    def features(self, samples: np.ndarray, scale: float) -> np.ndarray:
        """float32 (bins, frames) of float32 samples, minus their mean."""
        front_end = replace(self.front_end, scale=scale)
        if self.centred:
            hop, window = front_end.hop_length, front_end.win_length
            before = window // 2 - hop // 2
            count = (len(samples) + hop // 2) // hop
            after = (count - 1) * hop + window - before - len(samples)
            samples = np.pad(samples, (before, max(0, after)), mode="symmetric")
        found = front_end.features(samples)
        return found - found.mean(axis=1, keepdims=True)


PLATFORMS = {
    "sherpa-onnx": Platform(("feats", "embs"), kaldi_fbank(f_max=7600.0), True, (1.0, KALDI_SCALE)),
    "wespeaker": Platform(
        ("feats", "embs"), kaldi_fbank(scale=KALDI_SCALE, window="hamming"), scales=(KALDI_SCALE,)
    ),
    "3d-speaker": Platform(("feature", "embedding"), kaldi_fbank()),
}
# Parameters of a front end that may differ: what that costs is measured and told.
MAY_DIFFER = ("scale", "window", "f_max", "normalise", "min_seconds")
# What may be left of features minus their mean over the recording.
KNOWN_NORMALISATIONS = ("time_mean", "time")


class WholeNetwork(nn.Module):
    """Features (batch, frames, bins) of a runtime to unit vectors (batch, dim).

    It normalises them as the encoder does, which changes nothing where the runtime has done so.
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.kind = encoder.front_end.spec.normalise

    def forward(
        self, features: Float[Tensor, "batch frame bin"]
    ) -> tuple[Float[Tensor, "batch dim"]]:
        spectrograms = features.transpose(1, 2)
        centred = spectrograms - spectrograms.mean(dim=2, keepdim=True)
        if self.kind == "time":
            deviation = (centred**2).mean(dim=2, keepdim=True) ** 0.5
            centred = centred / (deviation + 1e-5)
        trunk = self.encoder.trunk
        feature_map = trunk.convolve(_padded(centred, *trunk.stem_padding))
        return (F.normalize(self.encoder.embed_map(feature_map)),)


def _padded(spectrograms: Tensor, kernel: int, stride: int) -> Tensor:
    """``Trunk.pad_time`` without a comparison, which would fix the length that is traced."""
    if kernel == 1:
        return spectrograms
    size = spectrograms.shape[-1]
    total = (-(-size // stride) - 1) * stride + kernel - size
    return F.pad(spectrograms, (total // 2, total - total // 2))


def export_for(folder: str | Path, out: str | Path, platform: str) -> float:
    """Write an encoder for a runtime of others, and compare it with torch.

    Args:
        folder: the encoder folder.
        out: the file to write; it appears only when the check has passed.
        platform: a row of ``PLATFORMS``.

    Returns:
        The largest distance between an embedding of torch and of the file.

    Raises:
        InputError: no such platform, the folder is damaged, the platform cannot compute the
            encoder's features, or torch cannot export it.
    """
    if platform not in PLATFORMS:
        raise InputError(f"--as {platform}: {did_you_mean(platform, PLATFORMS)}")
    encoder, _ = load_encoder_folder(folder)
    wanted, row = encoder.front_end.spec, PLATFORMS[platform]
    check_features(str(folder), wanted, platform)
    network = WholeNetwork(encoder).eval()
    example = torch.randn(2, 201, MELS)
    names = [row.names[0]], [row.names[1]]
    model = to_onnx(network, example, (0, 1), names, str(folder))
    notes = metadata_of(encoder, wanted, row)
    helper.set_model_props(model, {name: str(value) for name, value in notes.items()})
    onnx.checker.check_model(model)

    return save_model(model, Path(out), lambda path: max(_distances(network, path)), TOLERANCE)


def check_features(encoder: str, wanted: FrontEnd, platform: str) -> None:
    """Refuse an encoder whose features a platform cannot compute.

    Raises:
        InputError: names the differences.
    """
    row = PLATFORMS[platform]
    theirs, ours = asdict(row.front_end), asdict(wanted)
    wrong = [
        f"{name} {ours[name]} instead of {theirs[name]}"
        for name in theirs
        if name not in MAY_DIFFER and ours[name] != theirs[name]
    ]
    if wanted.normalise not in KNOWN_NORMALISATIONS:
        wrong.append(f"normalise {wanted.normalise} instead of time_mean")
    if wrong:
        raise InputError(
            f"{encoder}: {platform} computes Kaldi's filter bank, and this encoder takes other "
            f"features ({', '.join(wrong)}). Only encoders with the front end kaldi_fbank of "
            f"{MELS} bands can go there, such as default; `export` without --as takes any."
        )


def scale_for(wanted: FrontEnd, row: Platform) -> float:
    """What the platform multiplies samples in [-1, 1] with."""
    return wanted.scale if wanted.scale in row.scales else row.scales[0]


def metadata_of(encoder: SpeakerEncoder, wanted: FrontEnd, row: Platform) -> Mapping[str, object]:
    """What sherpa-onnx reads, and by what `speakervlad` knows its own features."""
    is_unit = scale_for(wanted, row) == 1
    return {
        "framework": "3d-speaker" if is_unit else "wespeaker",
        # sherpa-onnx ends the process where it finds none.
        "language": "unspecified",
        "comment": "exported by speakervlad",
        "sample_rate": SAMPLE_RATE,
        "output_dim": encoder.dim,
        "normalize_samples": int(is_unit),
        "feature_normalize_type": "global-mean",
        FRONT_END_NOTE: json.dumps(asdict(wanted)),
    }


def _distances(network: WholeNetwork, path: Path) -> Iterator[float]:
    """Between torch and onnxruntime, of random features in batches of one and two."""
    session = open_session(path.read_bytes(), 1)
    (into,) = session.get_inputs()
    torch.manual_seed(0)
    for count in CHECK_FRAMES:
        features = 3 * torch.randn(1 + count % 2, count, MELS)
        with torch.inference_mode():
            (expected,) = network(features)
        (found,) = session.run(None, {into.name: features.numpy()})
        yield float(np.linalg.norm(found - expected.numpy(), axis=1).max())


def cosines_on(
    path: Path, platform: str, recordings: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """How alike embeddings of the platform's own features and of the encoder's are.

    Args:
        path: what ``export_for`` wrote.
        platform: for what.
        recordings: float32 samples by name; eight known signals by default.

    Returns:
        float64 (recordings,), cosines.
    """
    backend, row = ForeignBackend(path), PLATFORMS[platform]
    scale = scale_for(backend.adopted.front_end, row)
    waves = recordings or {str(seed): probe_waveform(4.0, seed) for seed in range(8)}
    found = []
    for samples in waves.values():
        theirs, _ = backend.describe(row.features(samples, scale))
        ours, _ = backend.describe(_own_features(backend, samples))
        found.append(float(theirs[:, 0] @ ours[:, 0]))
    return np.array(found)


def _own_features(backend: ForeignBackend, samples: np.ndarray) -> np.ndarray:
    front_end = backend.adopted.front_end
    found = front_end.features(samples)
    return found - found.mean(axis=1, keepdims=True)
