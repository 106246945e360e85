"""A stream gives what the whole recording gives, however its samples arrive."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad import Recording, examples, load_audio, load_encoder
from speakervlad.encoder.encoder import Encoder
from speakervlad.encoder.torch_backend import TorchBackend
from speakervlad.errors import InputError
from speakervlad.schema import Part

RATE = 16000
ENCODERS = ("default", "small")


@pytest.fixture(scope="module")
def recording():
    """35 s of which two thirds are speech, with pauses of all lengths: three pieces."""
    parts, rng = [], np.random.default_rng(0)
    for pause, path in zip(
        (0.0, 0.1, 0.4, 2.0, 0.02, 0.9), list(examples().values()), strict=False
    ):
        parts += [1e-3 * rng.standard_normal(round(pause * RATE)), load_audio(path)]
    return np.concatenate(parts).astype(np.float32)


def heard(encoder, samples, cuts, rate=RATE):
    """The stream after all samples, in pieces of lengths that ``cuts`` gives."""
    stream, at = encoder.stream(rate), 0
    while at < len(samples):
        count = cuts()
        stream.add(samples[at : at + count])
        at += count
    return stream


def cutting(seed):
    rng = np.random.default_rng(seed)
    return lambda: int(rng.choice([0, 1, 160, 700, 8000, 50_000]))


@pytest.mark.parametrize("name", [pytest.param("default", marks=pytest.mark.slow), "small"])
def test_a_stream_ends_with_the_embedding_of_the_speech(name, recording):
    encoder = load_encoder(name)
    expected = encoder.embed(Recording(recording, speech_only=True))
    for cuts in (lambda: 160, lambda: 10**9, cutting(1)):
        stream = heard(encoder, recording, cuts)
        stream.finish()
        np.testing.assert_array_equal(stream.embedding, expected)
    spoken = Recording(recording, speech_only=True).find_speech()
    assert stream.speech_seconds == spoken.spoken_seconds > 20
    assert stream.seconds == len(recording) / RATE


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_other_rates_and_integers_give_the_same_too(rate, recording):
    encoder = load_encoder("small")
    played = soxr.resample(recording[: 15 * RATE], RATE, rate)
    samples = np.round(played * 32000).astype(np.int16)
    stream = heard(encoder, samples, cutting(2), rate)
    stream.finish()
    whole = Recording(samples, speech_only=True, sample_rate=rate)
    np.testing.assert_array_equal(stream.embedding, encoder.embed(whole))
    assert stream.seconds == len(samples) / rate


def test_a_file_of_another_rate_gives_the_same(recording, tmp_path):
    encoder = load_encoder("small")
    played = soxr.resample(recording[: 9 * RATE], RATE, 8000)
    samples = np.round(played * 16000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    stream = heard(encoder, samples, lambda: 80, 8000)
    stream.finish()
    whole = Recording(tmp_path / "a.wav", speech_only=True)
    np.testing.assert_array_equal(stream.embedding, encoder.embed(whole))


def test_at_any_moment_it_depends_on_what_has_arrived_alone(recording):
    encoder = load_encoder("small")
    for seconds in (0.4, 3.3, 14.7):
        begin = recording[: round(seconds * RATE)]
        one, other = (heard(encoder, begin, cuts) for cuts in (lambda: 160, cutting(3)))
        assert one.speech_seconds == other.speech_seconds
        if one.embedding is None:
            assert other.embedding is None
            continue
        np.testing.assert_array_equal(one.embedding, other.embedding)
        np.testing.assert_array_equal(one.spoken(0, 10**9), other.spoken(0, 10**9))
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
    assert heard(encoder, recording[:1600], lambda: 160).embedding is None


def test_speech_in_the_stream_has_its_place_in_the_recording(recording):
    stream = heard(load_encoder("small"), recording, lambda: 160)
    stream.finish()
    spans = Recording(recording, speech_only=True).find_speech().spans
    ends = np.cumsum(spans[:, 1] - spans[:, 0])
    assert stream.place_of(int(ends[-1]), is_end=True) == spans[-1, 1]
    assert stream.place_of(int(ends[-2]), is_end=True) == spans[-2, 1]
    assert stream.place_of(int(ends[-2])) == spans[-1, 0]
    assert stream.pause_behind(int(ends[-2]) - 1, 1) == ends[-2]
    assert stream.pause_behind(int(ends[-2]), 1) in (None, ends[-1])
    np.testing.assert_array_equal(
        stream.spoken(int(ends[-1]) - 5, int(ends[-1])), recording[spans[-1, 1] - 5 : spans[-1, 1]]
    )


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_a_stream_goes_on_elsewhere(rate, recording, tmp_path):
    encoder = load_encoder("small")
    samples = soxr.resample(recording[: 14 * RATE], RATE, rate)
    whole = heard(encoder, samples, lambda: 999, rate)
    for cut in (100, 3 * rate + 1, len(samples) - 7):
        heard(encoder, samples[:cut], lambda: 160, rate).save(tmp_path / "stream.npz")
        again = encoder.load_stream(tmp_path / "stream.npz")
        assert again.sample_rate == rate
        again.add(samples[cut:])
        again.finish()
        whole.finish()
        assert again.seconds == whole.seconds
        if rate == RATE:
            assert again.speech_seconds == whole.speech_seconds
            np.testing.assert_array_equal(again.embedding, whole.embedding)
        else:
            assert again.embedding @ whole.embedding > 0.9999
    assert [each.name for each in tmp_path.iterdir()] == ["stream.npz"]


def test_what_is_no_stream_is_refused(recording, tmp_path):
    small, path = load_encoder("small"), tmp_path / "a.npz"
    heard(small, recording[:RATE], lambda: 999).save(path)
    with pytest.raises(InputError, match="another encoder"):
        load_encoder("default").load_stream(path)
    content = path.read_bytes()
    for damaged in (content[:-300], b"", b"PK" + content[2:200], b"abc"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.npz"):
            small.load_stream(path)
    np.savez(path, format=np.array("x"))
    with pytest.raises(InputError, match="no stream"):
        small.load_stream(path)
    np.savez(path, format=np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="no stream"):
        small.load_stream(path)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.full(10, np.nan, np.float32), "not finite"),
        (np.zeros((2, 10), np.float32), "one dimension"),
        (np.full(10, 3000.0, np.float32), "Divide by the full scale"),
        (np.zeros(10, np.int64), "full scale is not known"),
        (["a"], "samples"),
    ],
)
def test_bad_samples_are_refused_and_leave_the_stream_as_it_was(samples, words, recording):
    encoder = load_encoder("small")
    stream = encoder.stream()
    stream.add(recording[:80_000])
    with pytest.raises(InputError, match=words):
        stream.add(samples)
    stream.add(recording[80_000:160_000])
    expected = heard(encoder, recording[:160_000], lambda: 4096)
    np.testing.assert_array_equal(stream.embedding, expected.embedding)


def test_impossible_rates_and_the_end_of_a_stream_are_said():
    encoder = load_encoder("small")
    for rate, words in ((0, "at least"), (16000.5, "whole number")):
        with pytest.raises(InputError, match=words):
            encoder.stream(rate)
    stream = encoder.stream()
    stream.finish()
    stream.finish()
    assert stream.embedding is None
    with pytest.raises(InputError, match="has ended"):
        stream.add(np.zeros(10, np.float32))


def test_silence_and_speech_of_hours_need_no_more_memory(recording):
    stream = load_encoder("small").stream()
    for _ in range(2):
        stream.add(recording)
    tracemalloc.start()
    stream.add(np.zeros(RATE * 60, np.float32))
    held = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        stream.add(recording)
    grown = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    assert grown < 1_000_000
    assert len(stream.spoken(0, stream.num_spoken)) <= 12 * RATE


@pytest.mark.parametrize(
    "fields",
    [
        {"front_end": Part("linear", mirror=True, min_seconds=0.8)},
        {"front_end": Part("linear", normalise="time", mirror=True)},
        {"trunk": Part("campplus", layers=(1, 2), width=0.25),
         "front_end": Part("kaldi_fbank", num_mels=40)},
        {"pooling": Part("statistics"), "piece_seconds": 50.0},
    ],
)  # fmt: skip
def test_every_kind_of_encoder_streams(fields, tiny_encoder, recording, tmp_path):
    module, _ = tiny_encoder(**({"piece_seconds": 4.0} | fields))
    encoder = Encoder(TorchBackend(module, "cpu"))
    stream = heard(encoder, recording, cutting(4))
    stream.save(tmp_path / "a.npz")
    again = encoder.load_stream(tmp_path / "a.npz")
    for each in (stream, again):
        each.finish()
        expected = encoder.embed(Recording(recording, speech_only=True))
        np.testing.assert_array_equal(each.embedding, expected)
