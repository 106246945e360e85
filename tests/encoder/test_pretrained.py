"""The encoder that ships: found by name, the same on every backend, and it tells speakers apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from speakervlad.audio.examples import examples
from speakervlad.audio.spans import load_audio
from speakervlad.config import read_encoder_config
from speakervlad.corpus.voices import make_corpus
from speakervlad.encoder.backends import OnnxBackend
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.location import FOLDER, PRETRAINED, find_encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError
from speakervlad.models.folder import build_encoder, load_encoder_folder
from speakervlad.scoring.metrics import equal_error_rate

RECIPE = Path(__file__).parents[2] / "recipes/small_encoder"
PARTS = ("train", "dev")
# Corpora kept back to judge by.
HELD = ("msc_malayalam/", "coswara/")
MEGABYTE = 1e6


def test_the_package_stays_small() -> None:
    files = (path for path in FOLDER.parent.rglob("*") if "__pycache__" not in path.parts)
    assert sum(path.stat().st_size for path in files if path.is_file()) < 40 * MEGABYTE


@pytest.mark.parametrize("name", PRETRAINED)
def test_ships_whole(name: str) -> None:
    folder = find_encoder(name)
    found = {path.name for path in folder.iterdir()}
    assert found >= {
        "config.json",
        "model.safetensors",
        "thresholds.json",
        "calibration.json",
        "evaluation.json",
        "MODEL_CARD.md",
        "cohort.safetensors",
    }
    assert found & {"model.onnx", "graph.onnx"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16.1 * MEGABYTE


def test_small_is_small() -> None:
    encoder, _ = load_encoder_folder(find_encoder("small"))
    assert sum(parameter.numel() for parameter in encoder.parameters()) <= 2_000_000


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"smal: no such encoder.*default, small"):
        find_encoder("smal")


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    assert find_encoder(tmp_path) == tmp_path


@pytest.mark.parametrize("graph", ["default/graph.onnx", "small/model.onnx"])
def test_the_exported_file_computes_the_same(graph: str) -> None:
    assert OnnxBackend(FOLDER / graph).check() < 1e-3


def test_names_are_the_default() -> None:
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32) / 10
    assert (load_encoder().embed(noise) == load_encoder("default").embed(noise)).all()


@pytest.mark.slow
def test_generated_voices_are_told_apart(tmp_path: Path) -> None:
    manifest = make_corpus(
        tmp_path, num_speakers=6, num_sessions=2, utterances_per_session=2, num_workers=1
    )
    paths = [manifest.path(row) for row in range(len(manifest))]
    first, second = np.triu_indices(len(manifest), 1)
    same = manifest.speaker_indices[first] == manifest.speaker_indices[second]

    def eer(embedder: Encoder) -> float:
        vectors = embedder.embed_files(paths)
        return equal_error_rate(np.einsum("td,td->t", vectors[first], vectors[second]), same)

    torch.manual_seed(0)
    untrained = build_encoder(read_encoder_config(find_encoder("default"))).eval()
    assert eer(load_encoder()) < 0.1
    assert eer(Encoder(TorchBackend(untrained, torch.device("cpu")))) > 0.3


@pytest.mark.parametrize("name", PRETRAINED)
def test_card_and_figures_agree(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(RECIPE.parent / "default_encoder")
    from card import render_card

    folder = find_encoder(name)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.splitlines() == render_card(folder, name).splitlines()


def test_split_clusters_leave_embeddings_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPE)
    from split_clusters import UNUSED, heard, split

    encoder, _ = load_encoder_folder(find_encoder("small"))
    clips = [torch.from_numpy(load_audio(path))[None] for path in list(examples().values())[:3]]
    before, shares = heard(encoder, clips)
    sources = split(encoder, shares)
    after, evened = heard(encoder, clips)
    assert set(sources) == set(np.flatnonzero(shares < UNUSED))
    assert torch.cosine_similarity(before, after).min() > 0.999
    assert evened.min() > 0.1 * evened.max()


def listed_speakers(part: str) -> set[str]:
    return set((RECIPE / f"{part}_speakers.txt").read_text().split())


def test_no_development_speaker_was_trained_on() -> None:
    train, dev = map(listed_speakers, PARTS)
    assert len(train) == 6004
    assert len(dev) == 220
    assert not train & dev
    assert not [name for name in train if name.startswith(HELD)]


def test_the_speaker_lists_are_those_of_the_manifests(shared_speech: Path) -> None:
    for part in PARTS:
        known = {
            row["speaker"]
            for path in shared_speech.glob(f"{part}*.csv")
            for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        }
        assert {name for name in known if not name.startswith(HELD)} == listed_speakers(part)


@pytest.mark.parametrize("name", ["default", "small"])
def test_the_graph_that_ships_has_the_ghosts_of_its_module(name) -> None:
    """The file of `small` was written by 0.2.0, which did not count them in its notes."""
    opened = load_encoder(name, backend="onnxruntime")
    module, _ = load_encoder_folder(find_encoder(name))
    graph, layer = opened.backend.ends.pooling.clusters, module.pooling.finish().clusters
    assert graph is not None
    assert graph == layer
    shares = opened.assignments(examples()["alex-1"])
    assert len(shares) == 10
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-4)
