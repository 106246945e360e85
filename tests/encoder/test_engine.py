import io

import numpy as np
import pytest
import soxr
import torch

from speakervlad.audio.recording import Recording
from speakervlad.audio.spans import load_audio
from speakervlad.config import EncoderConfig
from speakervlad.encoder.encoder import Encoder, load_encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.encoder.windows import Windows, window_spans
from speakervlad.errors import InputError
from speakervlad.models.folder import build_encoder, save_encoder
from speakervlad.schema import Part

CONFIG = EncoderConfig(
    front_end=Part("log_mel", num_mels=40, normalise="time_mean"),
    trunk=Part("thin_resnet34", width=0.125),
    descriptor_dim=16,
    pooling=Part("netvlad", num_clusters=3, num_ghosts=1),
    embedding_dim=12,
    embedding_relu=False,
)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder(CONFIG)


@pytest.fixture(scope="module")
def embedder(encoder):
    return Encoder(TorchBackend(encoder, "cpu"))


@pytest.fixture
def folder(encoder, tmp_path):
    save_encoder(tmp_path / "encoder", encoder, CONFIG, {})
    return tmp_path / "encoder"


def test_embeddings_are_unit_vectors_of_the_encoders_size(embedder, make_waveform):
    vector = embedder.embed(make_waveform(1.0))
    assert vector.shape == (embedder.dim,) == (12,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_file_equals_its_samples(embedder, make_wav, tmp_path):
    path = make_wav(tmp_path / "a.wav", seconds=1.3)
    np.testing.assert_array_equal(embedder.embed(path), embedder.embed(load_audio(path)))


def kinds_of_audio(path):
    """The same recording as a path, bytes, a file object, an array, a list and a tensor."""
    samples = load_audio(path)
    content = path.read_bytes()
    in_memory = (samples, samples.tolist(), torch.from_numpy(samples))
    return [path, str(path), content, io.BytesIO(content), *in_memory]


def test_files_are_embedded_whatever_holds_them(embedder, make_wav, tmp_path):
    path = make_wav(tmp_path / "a.wav", 1.0)
    vectors = embedder.embed_files(kinds_of_audio(path))
    np.testing.assert_allclose(vectors, np.tile(embedder.embed(path), (7, 1)), atol=1e-6)


def test_samples_of_another_rate_are_embedded_at_theirs(embedder, make_waveform):
    slow = make_waveform(1.0, rate=8000)
    expected = embedder.embed(Recording(slow, sample_rate=8000))
    recordings = [Recording(samples, sample_rate=8000) for samples in (slow, slow.copy())]
    vectors = embedder.embed_files(recordings)
    np.testing.assert_allclose(vectors, [expected, expected], atol=1e-6)
    answer = embedder.verify(*recordings, threshold=0.999, any_sound=True)
    assert answer.same


def test_a_nameless_recording_that_fails_is_counted(embedder, make_waveform):
    with pytest.raises(InputError, match=r"1 of 2 files .*: recording 2: waveform: some samples"):
        embedder.embed_files([make_waveform(1.0), np.full(9000, np.nan, np.float32)])


def test_verify_compares_whatever_holds_the_recordings(embedder, make_speech, tmp_path):
    one, other = make_speech(tmp_path / "a.wav"), make_speech(tmp_path / "b.wav", seed=2)
    expected = float(embedder.embed(one) @ embedder.embed(other))
    for audio in kinds_of_audio(other):
        answer = embedder.verify(one, audio, threshold=expected - 1e-4)
        assert answer.score == pytest.approx(expected, abs=1e-6)
        assert answer.same
    assert not embedder.verify(one, other, threshold=expected + 1e-4).same
    with pytest.raises(InputError, match=r"absent\.wav"):
        embedder.verify(one, tmp_path / "absent.wav", threshold=0)


def test_an_encoder_in_memory_knows_no_threshold(embedder):
    with pytest.raises(InputError, match=r"holds no thresholds\.json\. Pass --threshold"):
        embedder.threshold()
    with pytest.raises(InputError, match="no threshold is known"):
        embedder.rule()
    assert embedder.rule(threshold=0.5).judge(0.5).same


def assert_companions_do_not_matter(embedder, make_wav, folder, count, longest):
    rng = np.random.default_rng(0)
    lengths = 0.1 * (longest / 0.1) ** rng.random(count)
    paths = [make_wav(folder / f"{i}.wav", seconds=s, seed=i) for i, s in enumerate(lengths)]
    together = embedder.embed_files(paths)
    order = rng.permutation(count)
    shuffled = embedder.embed_files([paths[i] for i in order])
    np.testing.assert_array_equal(shuffled, together[order])
    # One thread or several: sums of convolutions in another order.
    alone = np.stack([embedder.embed(path) for path in paths])
    np.testing.assert_allclose(np.linalg.norm(together - alone, axis=1), 0, atol=1e-5)


def test_companions_and_order_do_not_matter(embedder, make_wav, tmp_path):
    assert_companions_do_not_matter(embedder, make_wav, tmp_path, 12, 3)


@pytest.mark.slow
def test_companions_do_not_matter_for_a_hundred_lengths(embedder, make_wav, tmp_path):
    assert_companions_do_not_matter(embedder, make_wav, tmp_path, 100, 60)


def test_bfloat16_keeps_the_direction(encoder, embedder, make_waveform):
    half = Encoder(TorchBackend(encoder, "cpu", "bfloat16"))
    waveform = make_waveform(2.0)
    assert half.embed(waveform) @ embedder.embed(waveform) > 0.999


def test_folding_leaves_the_network_as_it_was_and_its_numbers_too(make_waveform):
    torch.manual_seed(1)
    encoder = build_encoder(CONFIG)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 3)
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    encoder.eval()
    waveform = make_waveform(1.7)
    plain = torch.nn.functional.normalize(encoder(torch.from_numpy(waveform)[None]), dim=1)
    backend = TorchBackend(encoder, "cpu")
    ours = Encoder(backend).embed(waveform)
    np.testing.assert_allclose(ours, plain[0].detach().numpy(), atol=2e-6)
    again = torch.nn.functional.normalize(encoder(torch.from_numpy(waveform)[None]), dim=1)
    assert torch.equal(plain, again)
    norms = [m for m in backend.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms


def test_threads_are_given_back(embedder, make_wav, tmp_path, monkeypatch):
    monkeypatch.setattr(embedder.backend, "num_streams", 2)
    threads = torch.get_num_threads()
    embedder.embed_files([make_wav(tmp_path / f"{i}.wav", 0.2, seed=i) for i in range(6)])
    assert torch.get_num_threads() == threads


def test_windows_cover_the_recording():
    spans = window_spans(4.0, Windows(1.5, 0.75))
    np.testing.assert_allclose(spans, [[0, 1.5], [0.75, 2.25], [1.5, 3], [2.25, 3.75], [3, 4]])
    np.testing.assert_allclose(window_spans(1.5, Windows(1.5, 0.75)), [[0, 1.5]])
    np.testing.assert_allclose(window_spans(0.3, Windows(1.5, 0.75)), [[0, 0.3]])


@pytest.mark.parametrize("windows", [Windows(0.1, 1), Windows(1, 0), Windows(1, -1)])
def test_impossible_windows_are_refused(windows):
    with pytest.raises(InputError, match="hop"):
        window_spans(4.0, windows)


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


def test_unknown_precision_is_refused(folder):
    with pytest.raises(InputError, match="precision=bfloat61: Did you mean 'bfloat16'"):
        load_encoder(folder, precision="bfloat61")


def test_absent_device_is_refused(folder):
    with pytest.raises(InputError, match="device=warp"):
        load_encoder(folder, device="warp")


def test_assignments_are_shares_of_every_frame(embedder, make_waveform):
    shares = embedder.assignments(make_waveform(1.7))
    assert shares.shape == (4, -(-(1 + 27200 // 160) // 2 // 8))
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)


def test_one_pass_embeds_and_assigns(make_waveform):
    encoder = load_encoder()
    for seconds in (0.1, 3.0, 3.016, 23.0):
        waveform = make_waveform(seconds)
        vector, shares = encoder.embed_and_assign(waveform)
        assert np.array_equal(vector, encoder.embed(waveform))
        assert np.array_equal(shares, encoder.assignments(waveform))


def test_an_encoder_without_clusters_has_no_assignments(tiny_encoder, make_waveform):
    encoder, _ = tiny_encoder(pooling=Part("average"))
    with pytest.raises(InputError, match="no clusters"):
        Encoder(TorchBackend(encoder, "cpu")).assignments(make_waveform(1.0))


def test_samples_of_another_rate_are_resampled(embedder, make_waveform):
    slow = make_waveform(1.0, rate=8000)
    ours = embedder.embed(Recording(slow, sample_rate=8000))
    assert ours @ embedder.embed(soxr.resample(slow, 8000, 16000)) > 0.9999
    assert ours @ embedder.embed(slow) < 0.999


def test_an_embedding_that_is_not_finite_is_refused(tiny_encoder, make_waveform):
    encoder, _ = tiny_encoder()
    encoder.projection.linear.bias.data[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        Encoder(TorchBackend(encoder, "cpu")).embed(make_waveform(1.0))


def test_pieces_that_are_too_short_for_sums_are_refused_with_the_reason(embedder, make_waveform):
    whole = make_waveform(3.0)
    for seconds in (0.1, 0.25, 0.49):
        with pytest.raises(InputError, match=rf"waveform: {seconds}.* too little for sums .*mean"):
            embedder.sums(Recording(whole[: round(seconds * 16000)], name="waveform"))
    parts = [embedder.sums(part) for part in np.array_split(whole, 3)]
    total = parts[0].merge(parts[1]).merge(parts[2])
    assert embedder.finish(total).shape == (embedder.dim,)
    assert embedder.embed(whole[:1600]).shape == (embedder.dim,)
    assert embedder.enrol([whole[:1600], whole]).shape == (embedder.dim,)
