"""What the benchmarks of inference measure with: voices, files, encoders of the published size."""

from pathlib import Path

import numpy as np

RATE = 16_000


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz in noise, float32 (samples,)."""
    rng = np.random.default_rng(seed)
    moments = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * (120 + seed % 80) * moments) / k for k in range(1, 20))
    return (0.1 * buzz + 0.02 * rng.standard_normal(len(moments))).astype(np.float32)


def write_files(folder: Path, count: int) -> list[Path]:
    """``count`` flac files of 2 to 6 seconds."""
    import soundfile

    folder.mkdir()
    lengths = np.random.default_rng(0).uniform(2, 6, count)
    paths = [folder / f"{number:05d}.flac" for number in range(count)]
    for number, (path, seconds) in enumerate(zip(paths, lengths, strict=True)):
        soundfile.write(path, voice(seconds, number), RATE)
    return paths


def write_published_size(folder: Path) -> Path:
    """An encoder of the published size with random weights, and its graph beside them."""
    from speakervlad.config import EncoderConfig
    from speakervlad.encoder.export import export_onnx
    from speakervlad.models.folder import build_encoder, save_encoder

    config = EncoderConfig()
    save_encoder(folder, build_encoder(config), config, {})
    export_onnx(folder, folder / "model.onnx", check_seconds=(1.0,))
    return folder


def write_int8(encoder: Path, path: Path) -> Path:
    """The graph of an encoder with its trunk in 8 bits, calibrated on voices as above."""
    from speakervlad.encoder.export import export_onnx

    calibration = [voice(3, seed) for seed in range(16)]
    export_onnx(encoder, path, check_seconds=(3.0,), calibration=calibration)
    return path
