"""What the features of sherpa-onnx cost: cosines and error rates of an encoder in its runtime.

    python benchmarks/elsewhere.py LIST.trials... --root FOLDER

The encoder is exported for sherpa-onnx, whose own package (`pip install sherpa-onnx`) embeds the
recordings of the lists; here the same file embeds them by the encoder's own features, and by what
`cosines_on` takes for sherpa-onnx's.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sherpa_onnx  # pyright: ignore[reportMissingImports]

from speakervlad import load_encoder
from speakervlad.audio.spans import load_audio
from speakervlad.encoder.elsewhere import PLATFORMS, export_for, scale_for
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


def by_features(path: Path, platform: str | None) -> Embed:
    """Samples to a unit vector, by the features of a platform or by the encoder's own."""
    backend = ForeignBackend(path)
    own = backend.adopted.front_end

    def embed(samples: np.ndarray) -> np.ndarray:
        if platform is None:
            features = own.features(samples)
            features = features - features.mean(axis=1, keepdims=True)
        else:
            row = PLATFORMS[platform]
            features = row.features(samples, scale_for(own, row))
        return backend.describe(features)[0][:, 0]

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
        ways = {
            "own features": by_features(path, None),
            "sherpa-onnx": in_sherpa(path),
            "its features, here": by_features(path, "sherpa-onnx"),
        }
        whole = load_encoder(given.encoder)
        ways["speakervlad"] = whole.embed
        for name in given.lists:
            trials = load_trials(name)
            names = trials.names.tolist()
            waves = [load_audio((given.root or name.parent) / each) for each in names]
            tables = {
                way: Embeddings(np.asarray(names), np.stack([embed(wave) for wave in waves]))
                for way, embed in ways.items()
            }
            told: dict[str, object] = {"list": name.name, "recordings": len(names)}
            for way, table in tables.items():
                scores = cosine_scores(table, trials)
                cosines = (table.vectors * tables["own features"].vectors).sum(axis=1)
                theirs = (table.vectors * tables["sherpa-onnx"].vectors).sum(axis=1)
                told[way] = {
                    "eer_percent": 100 * equal_error_rate(scores, trials.labels()),
                    "cosine_to_own": [float(cosines.mean()), float(cosines.min())],
                    "cosine_to_sherpa": [float(theirs.mean()), float(theirs.min())],
                }
            print(json.dumps(told, indent=1), flush=True)


if __name__ == "__main__":
    main()
