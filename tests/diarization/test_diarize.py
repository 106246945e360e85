"""Recordings of generated voices to turns."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from speakervlad import InputError, diarization_errors, diarize, load_encoder
from speakervlad.audio.local_speakers import WINDOW_SAMPLES, network_file, window_scores
from speakervlad.diarization.turns import Turns
from speakervlad.people.matching import Identification
from speakervlad.progress import tracked_by

RATE = 16000


@pytest.fixture(scope="module")
def found(talk, encoder):
    return diarize(talk[0], encoder=encoder)


def test_two_voices_are_found_where_they_speak(talk, found):
    errors = diarization_errors(talk[1], found, collar=0.5)
    assert errors.num_found == 2
    assert errors.der < 0.1
    assert list(found.speakers) == ["speaker_1", "speaker_2"]
    assert found.seconds == pytest.approx(len(talk[0]) / RATE)


def test_how_audio_arrives_changes_nothing(talk, found, encoder, tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, talk[0], RATE, subtype="FLOAT")
    of_file = diarize(path, encoder=encoder)
    assert of_file.recording == "talk"
    assert of_file.turns == found.turns
    assert diarize(io.BytesIO(path.read_bytes()), encoder=encoder).turns == found.turns


def test_progress_is_told_while_speech_is_sought_and_voices_are_heard(talk, encoder, tmp_path):
    soundfile.write(tmp_path / "talk.wav", np.tile(talk[0], 3), RATE)
    counts = {}

    def track(items, description, total=None):
        for number, item in enumerate(items, 1):
            counts[description] = (number, total)
            yield item

    with tracked_by(track):
        diarize(tmp_path / "talk.wav", encoder=encoder)
    assert list(counts) == ["searching", "listening"]
    assert all(number == total > 2 for number, total in counts.values())


def test_another_process_finds_the_same_bytes(talk, encoder, tmp_path):
    soundfile.write(tmp_path / "talk.wav", talk[0], RATE)
    here = diarize(tmp_path / "talk.wav", encoder=encoder).to_json()
    code = (
        "import sys; from speakervlad import diarize, load_encoder\n"
        "turns = diarize('talk.wav', encoder=load_encoder(backend='onnxruntime'))\n"
        "sys.stdout.write(turns.to_json())\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    assert there.decode() == here


def test_the_number_of_speakers_can_be_given(talk, encoder):
    assert len(diarize(talk[0], encoder=encoder, speakers=1).speakers) == 1
    assert len(diarize(talk[0], encoder=encoder, min_speakers=3).speakers) == 3
    assert len(diarize(talk[0], encoder=encoder, max_speakers=1).speakers) == 1


def test_spectral_clustering_finds_them_too(talk, encoder):
    turns = diarize(talk[0], encoder=encoder, method="spectral", speakers=2)
    assert diarization_errors(talk[1], turns, collar=0.5).der < 0.1


@pytest.mark.parametrize(("precision", "distance"), [("float32", 1e-4), ("bfloat16", 0.2)])
def test_the_segmentation_runs_in_the_runtime_of_the_encoder(talk, precision, distance):
    """In float32 it says the same in OpenVINO; in 8 bits of digits nearly so."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    encoder = load_encoder("small", backend="openvino", precision=precision)
    run = encoder.backend.beside(network_file())
    window = talk[0][:WINDOW_SAMPLES].astype(np.float32)
    theirs, ours = np.exp(run(window[None, None])[0]), np.exp(window_scores(window))
    assert 1e-9 < np.abs(theirs - ours).max() < distance
    errors = diarization_errors(talk[1], diarize(talk[0], encoder=encoder), collar=0.5)
    assert (errors.num_found, errors.der < 0.1) == (2, True)


def test_without_overlap_one_speaks_at_a_time(encoder, make_talk):
    samples, _ = make_talk("ghghghgh")
    other, _ = make_talk("hghghghg")
    both = samples[: len(other)] + np.roll(other, RATE)[: len(samples)]
    turns = diarize(both, encoder=encoder, speakers=2, overlap=False).turns
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(turns))


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_where_nobody_speaks_there_are_no_turns(encoder, noise):
    samples = noise * np.random.default_rng(0).standard_normal(2 * RATE)
    turns = diarize(samples, encoder=encoder)
    assert turns == Turns("audio", (), 2.0)


def test_less_than_a_window_is_one_speaker(make_talk, encoder):
    samples, _ = make_talk("g", turn=0.6)
    assert len(diarize(samples, encoder=encoder).speakers) == 1


def test_more_speakers_than_the_speech_allows_are_refused(make_talk, encoder):
    samples, _ = make_talk("gh", turn=2.0)
    with pytest.raises(
        InputError, match=r"audio: \d\.\d s of speech are too little for 9 speakers"
    ):
        diarize(samples, encoder=encoder, speakers=9)


def test_each_channel_of_a_call_is_a_speaker(make_talk, encoder, tmp_path):
    samples, reference = make_talk("ghghghghghgh")
    both = np.zeros((len(samples), 2), np.float32)
    for start, end, name in reference.turns:
        span = slice(round(start * RATE), round(end * RATE))
        both[span, 0 if name == "g" else 1] = samples[span]
    soundfile.write(tmp_path / "call.wav", both, RATE)
    turns = diarize(tmp_path / "call.wav", encoder=encoder, separate=True)
    assert list(turns.speakers) == ["speaker_1", "speaker_2"]
    assert diarization_errors(reference, turns, collar=0.5).der < 0.1
    with pytest.raises(InputError, match="separate channels are taken from a file"):
        diarize(samples, encoder=encoder, separate=True)


def test_people_of_the_store_get_their_names(talk, encoder, found):
    class Store:
        """Knows whom it is asked about second."""

        def match(self, vectors, *, fpir, top):
            names = [None, "Ada", *[None] * len(vectors)]
            return [Identification(name, (), 0.0, fpir, 0.0) for name in names[: len(vectors)]]

    turns = diarize(talk[0], encoder=encoder, store=Store(), fpir=0.05)
    assert list(turns.speakers) == ["speaker_1", "Ada"]
    assert turns == found.rename({"speaker_2": "Ada"})
