"""What the features of sherpa-onnx cost: cosines and error rates of an encoder in its runtime.

    python benchmarks/elsewhere.py LIST.trials... --root FOLDER

The encoder is exported for sherpa-onnx, whose own package (`pip install sherpa-onnx`) embeds the
recordings of the lists; here the same file embeds them by the encoder's own features.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sherpa_onnx  # pyright: ignore[reportMissingImports]

from speakervlad.audio.spans import load_audio
from speakervlad.encoder.elsewhere import export_for
from speakervlad.encoder.foreign import ForeignBackend
from speakervlad.encoder.location import find_encoder
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import equal_error_rate
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.tables.embeddings import Embeddings

Embed = Callable[[np.ndarray], np.ndarray]


def in_sherpa(path: Path) -> Embed:
    """Samples to a unit vector, by the package."""
    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(path), num_threads=1)
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(config)

    def embed(samples: np.ndarray) -> np.ndarray:
        stream = extractor.create_stream()
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        found = np.array(extractor.compute(stream), np.float32)
        return found / np.linalg.norm(found)

    return embed


def by_own_features(path: Path) -> Embed:
    """Samples to a unit vector, by the same graph on the encoder's own features."""
    backend = ForeignBackend(path)

    def embed(samples: np.ndarray) -> np.ndarray:
        features = backend.adopted.front_end.features(samples)
        return backend.describe(features - features.mean(axis=1, keepdims=True))[0][:, 0]

    return embed


def main() -> None:
    """Measure every list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--encoder", default="default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        export_for(find_encoder(given.encoder), path, "sherpa-onnx")
        ways = {"own features": by_own_features(path), "sherpa-onnx": in_sherpa(path)}
        for name in given.lists:
            trials = load_trials(name)
            names = trials.names.tolist()
            waves = [load_audio((given.root or name.parent) / each) for each in names]
            tables = {
                way: Embeddings(np.asarray(names), np.stack([embed(wave) for wave in waves]))
                for way, embed in ways.items()
            }
            told: dict[str, object] = {"list": name.name, "recordings": len(names)}
            own, theirs = tables.values()
            cosines = (own.vectors * theirs.vectors).sum(axis=1)
            told["cosine"] = {"mean": float(cosines.mean()), "least": float(cosines.min())}
            told["eer_percent"] = {
                way: 100 * equal_error_rate(cosine_scores(table, trials), trials.labels())
                for way, table in tables.items()
            }
            print(json.dumps(told, indent=1), flush=True)


if __name__ == "__main__":
    main()
