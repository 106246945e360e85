"""Our encoders in the runtimes of others: one file, features in, unit vectors out."""

import numpy as np
import onnx
import pytest
import torch

from speakervlad import load_encoder
from speakervlad.audio.examples import examples
from speakervlad.audio.spans import load_audio
from speakervlad.encoder.backends import probe_waveform
from speakervlad.encoder.elsewhere import PLATFORMS, check_features, cosines_on, export_for
from speakervlad.encoder.location import find_encoder
from speakervlad.errors import InputError
from speakervlad.models.folder import load_encoder_folder
from speakervlad.models.frontend import KALDI_SCALE, kaldi_fbank
from speakervlad.onnx import open_session
from speakervlad.schema import Part


@pytest.fixture(scope="module", params=[pytest.param("campplus", marks=pytest.mark.slow), "padded"])
def folder(request, save_tiny_encoder, small_trunk, short_trunk, tmp_path_factory):
    """A tiny encoder with the features of the default one."""
    return save_tiny_encoder(
        tmp_path_factory.mktemp("elsewhere") / "encoder",
        front_end=Part("kaldi_fbank"),
        trunk=short_trunk if request.param == "padded" else small_trunk("campplus"),
    )


@pytest.fixture(scope="module")
def exported(folder):
    path = folder.parent / "e.onnx"
    assert export_for(folder, path, "sherpa-onnx") < 1e-4
    return path


def kaldi_of_sherpa(samples):
    """(frames, 80), as sherpa-onnx computes them."""
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    found = kaldi.fbank(
        torch.from_numpy(samples)[None],
        num_mel_bins=80,
        dither=0.0,
        high_freq=7600.0,
        snip_edges=False,
        sample_frequency=16000,
    )
    return (found - found.mean(dim=0)).numpy()


def test_any_number_of_recordings_of_any_length(folder, exported):
    encoder, _ = load_encoder_folder(folder)
    session = open_session(exported.read_bytes(), 1)
    for batch, frames in ((1, 50), (3, 141)):
        features = torch.randn(batch, frames, 80)
        with torch.no_grad():
            centred = (features - features.mean(dim=1, keepdim=True)).transpose(1, 2)
            expected = encoder.embed_map(encoder.trunk(centred))
        (found,) = session.run(None, {"feats": features.numpy()})
        cosines = (found * expected.numpy()).sum(1) / np.linalg.norm(expected.numpy(), axis=1)
        assert cosines.min() > 1 - 1e-5
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_metadata_that_runtimes_read(exported):
    model = onnx.load(str(exported))
    notes = {note.key: note.value for note in model.metadata_props}
    assert notes["framework"] == "3d-speaker"
    # Without one sherpa-onnx ends the process.
    assert notes["language"]
    assert notes["output_dim"] == "12"
    assert notes["sample_rate"] == "16000"
    assert notes["normalize_samples"] == "1"
    assert notes["feature_normalize_type"] == "global-mean"


def test_it_is_an_encoder_here_with_its_own_features(folder, exported):
    samples = probe_waveform(3.0)
    ours, back = load_encoder(folder, device="cpu", backend="torch"), load_encoder(exported)
    assert ours.embed(samples) @ back.embed(samples) > 1 - 1e-4


def test_features_of_platforms_are_kaldis():
    samples = probe_waveform(2.013)
    found = PLATFORMS["sherpa-onnx"].features(samples, 1.0)
    np.testing.assert_allclose(found, kaldi_of_sherpa(samples).T, atol=2e-3)


def test_the_cost_of_other_features_is_told(exported):
    cosines = cosines_on(exported, "sherpa-onnx")
    assert cosines.shape == (8,)
    assert cosines.max() < 1
    assert cosines.min() > 0.5


@pytest.mark.parametrize("platform", PLATFORMS)
def test_small_is_refused_with_the_reason(platform, tmp_path):
    with pytest.raises(InputError, match=r"takes other features \(.*num_mels 64 instead of 80"):
        export_for(find_encoder("small"), tmp_path / "s.onnx", platform)
    assert not list(tmp_path.iterdir())


def test_what_may_differ_and_what_may_not():
    check_features("e", kaldi_fbank(scale=KALDI_SCALE, window="hamming"), "sherpa-onnx")
    for wrong, problem in (
        (kaldi_fbank(num_mels=40), "num_mels 40"),
        (kaldi_fbank(normalise="none"), "normalise none"),
        (kaldi_fbank(preemphasis=0.0), "preemphasis"),
    ):
        with pytest.raises(InputError, match=problem):
            check_features("e", wrong, "wespeaker")
    with pytest.raises(InputError, match="--as sherpa: Did you mean 'sherpa-onnx'"):
        export_for("e", "e.onnx", "sherpa")


def test_in_the_real_sherpa_onnx(exported, tmp_path):
    """Its extractor gives what the graph gives on its features; its manager identifies."""
    sherpa = pytest.importorskip("sherpa_onnx", reason="needs the package sherpa-onnx")
    config = sherpa.SpeakerEmbeddingExtractorConfig(model=str(exported), num_threads=1)
    assert config.validate()
    extractor = sherpa.SpeakerEmbeddingExtractor(config)
    assert extractor.dim == 12
    session = open_session(exported.read_bytes(), 1)
    manager = sherpa.SpeakerEmbeddingManager(extractor.dim)
    for seed in range(10):
        samples = probe_waveform(1.5 + 0.37 * seed, seed)
        stream = extractor.create_stream()
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        theirs = np.array(extractor.compute(stream))
        (ours,) = session.run(None, {"feats": kaldi_of_sherpa(samples)[None]})
        assert theirs @ ours[0] / np.linalg.norm(theirs) > 1 - 1e-3
        manager.add(f"person {seed}", theirs)
        assert manager.search(theirs, threshold=0.99).startswith("person")
    assert manager.num_speakers == 10


@pytest.mark.slow
def test_the_default_encoder_in_the_real_sherpa_onnx(tmp_path):
    """On the recordings of the package: the graph's vectors, and everybody is known again."""
    sherpa = pytest.importorskip("sherpa_onnx", reason="needs the package sherpa-onnx")
    pytest.importorskip("torchaudio")
    path = tmp_path / "default.onnx"
    export_for(find_encoder("default"), path, "sherpa-onnx")
    config = sherpa.SpeakerEmbeddingExtractorConfig(model=str(path), num_threads=1)
    extractor = sherpa.SpeakerEmbeddingExtractor(config)
    session = open_session(path.read_bytes(), 1)
    found = {}
    for name, clip in examples().items():
        samples = load_audio(clip)
        stream = extractor.create_stream()
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        found[name] = np.array(extractor.compute(stream))
        (ours,) = session.run(None, {"feats": kaldi_of_sherpa(samples)[None]})
        assert found[name] @ ours[0] / np.linalg.norm(found[name]) > 1 - 1e-3
    assert len(found) >= 10
    manager = sherpa.SpeakerEmbeddingManager(extractor.dim)
    for name, vector in found.items():
        person = name.partition("-")[0]
        if person not in manager.all_speakers:
            manager.add(person, vector)
        else:
            assert manager.search(vector, threshold=0.5) == person


def test_the_command(run, save_tiny_encoder, short_trunk, tmp_path, capsys):
    folder = save_tiny_encoder(
        tmp_path / "encoder", front_end=Part("kaldi_fbank"), trunk=short_trunk
    )
    assert run("export", folder, tmp_path / "e.onnx", "--as", "sherpa-onnx") == 0
    assert "cosine of" in capsys.readouterr().err
    assert run("export", folder, tmp_path / "e.onnx", "--as", "x", "--int8", folder) == 2
    assert "--int8 goes without --as" in capsys.readouterr().err
