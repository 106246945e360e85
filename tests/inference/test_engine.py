import numpy as np
import pytest
import torch

from speakervlad.config import EncoderConfig, FrontEndConfig, PoolingConfig, TrunkConfig
from speakervlad.errors import InputError
from speakervlad.inference.engine import Embedder, load_encoder
from speakervlad.models.build import build_encoder, save_encoder

CONFIG = EncoderConfig(
    front_end=FrontEndConfig(kind="log_mel", num_mels=40, normalise="time_mean"),
    trunk=TrunkConfig(width=0.125),
    descriptor_dim=16,
    pooling=PoolingConfig(num_clusters=3, num_ghosts=1),
    embedding_dim=12,
    embedding_relu=False,
)


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return Embedder(build_encoder(CONFIG), torch.device("cpu"))


@pytest.fixture
def folder(embedder, tmp_path):
    save_encoder(tmp_path / "encoder", embedder.encoder, CONFIG, {})
    return tmp_path / "encoder"


def test_embeddings_are_unit_vectors_of_the_encoders_size(embedder, make_waveform):
    vector = embedder.embed(make_waveform(1.0))
    assert vector.shape == (embedder.dim,) == (12,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_file_equals_its_samples(embedder, make_wav, tmp_path):
    from speakervlad.data.audio import read_audio

    path = make_wav(tmp_path / "a.wav", seconds=1.3)
    np.testing.assert_array_equal(embedder.embed(path), embedder.embed(read_audio(path)))


def test_companions_and_order_do_not_matter(embedder, make_wav, tmp_path):
    lengths = np.random.default_rng(0).uniform(0.1, 3, 12)
    paths = [make_wav(tmp_path / f"{i}.wav", seconds=s, seed=i) for i, s in enumerate(lengths)]
    together = embedder.embed_files(paths)
    backwards = embedder.embed_files(paths[::-1])[::-1]
    alone = np.stack([embedder.embed(path) for path in paths])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(backwards, alone)


@pytest.mark.parametrize("samples", [400, 401, 512, 700, 16000])
def test_short_audio_has_finite_embeddings(embedder, make_waveform, samples):
    assert np.isfinite(embedder.embed(make_waveform(samples / 16000))).all()


def test_saved_encoder_embeds_the_same(embedder, folder, make_waveform):
    loaded = load_encoder(folder, device="cpu")
    waveform = make_waveform(1.0)
    np.testing.assert_array_equal(loaded.embed(waveform), embedder.embed(waveform))


def test_all_failures_are_counted(embedder, make_wav, tmp_path):
    good = make_wav(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("hello")
    paths = [good, tmp_path / "text.wav", tmp_path / "absent.wav", good]
    with pytest.raises(InputError, match=r"2 of 4 files cannot be embedded: .*text\.wav"):
        embedder.embed_files(paths)


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (np.zeros(16000), "silent"),
        (np.ones(1), "too short"),
        (np.ones((2, 16000)), "one dimension"),
        (np.full(16000, np.nan), "not finite"),
    ],
)
def test_samples_that_hold_no_speech_are_refused(embedder, waveform, words):
    with pytest.raises(InputError, match=words):
        embedder.embed(waveform)


def test_absent_device_is_refused(folder):
    with pytest.raises(InputError, match="device=warp"):
        load_encoder(folder, device="warp")
