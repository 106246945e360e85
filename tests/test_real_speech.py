"""The chain on a few dozen real recordings; they live beside the checkout, never in it."""

import json
import tarfile

import numpy as np
import pytest

from speakervlad.audio.spans import load_audio
from speakervlad.config import EncoderConfig
from speakervlad.corpus.inputs import from_names
from speakervlad.encoder.encoder import load_encoder
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.location import find_encoder
from speakervlad.models.folder import build_encoder, save_encoder
from speakervlad.schema import Part
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.metrics import equal_error_rate, verification_report
from speakervlad.scoring.scoring import cosine_scores
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings

LIST = "librispeech_train"
WORDS = "google_speech_commands"
SPEAKERS, RECORDINGS = 4, 8


@pytest.fixture(scope="module")
def recordings(shared_speech, tmp_path_factory):
    """The first recordings of the first speakers of one development corpus, unpacked."""
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(shared_speech / "dev.tar") as archive:
        members = [m for m in archive.getmembers() if f"/{LIST}/" in m.name and m.isfile()]
        chosen = {}
        for member in sorted(members, key=lambda member: member.name):
            chosen.setdefault(member.name.rsplit("/", 1)[0], []).append(member)
        few = [m for group in list(chosen.values())[:SPEAKERS] for m in group[:RECORDINGS]]
        archive.extractall(folder, few, filter="data")
    return folder, {member.name for member in few}


@pytest.fixture(scope="module")
def unpacked_words(shared_speech, tmp_path_factory):
    """All development recordings of the Speech Commands."""
    folder = tmp_path_factory.mktemp("words")
    with tarfile.open(shared_speech / "dev.tar") as archive:
        archive.extractall(
            folder, [m for m in archive.getmembers() if f"/{WORDS}/" in m.name], filter="data"
        )
    return folder


@pytest.fixture(scope="module")
def eer_of_words(shared_speech, unpacked_words):
    """What an encoder makes of the list of the Speech Commands."""
    trials = load_trials(shared_speech / "dev" / f"{WORDS}.trials")
    listed = from_names(trials.names.tolist(), unpacked_words)

    def eer(encoder):
        vectors = encoder.embed_files(listed.paths)
        scores = cosine_scores(Embeddings(np.asarray(listed.ids), vectors), trials)
        return equal_error_rate(scores, trials.labels())

    return eer


@pytest.mark.slow
def test_encoder_that_ships_does_what_its_card_says(eer_of_words):
    eer = eer_of_words(load_encoder())
    said = json.loads((find_encoder("default") / "evaluation.json").read_text())
    assert eer == pytest.approx(said["whole"][WORDS]["eer"], abs=1e-3)
    assert eer < 0.02


@pytest.mark.slow
def test_int8_costs_little(eer_of_words, unpacked_words, tmp_path):
    recordings = sorted(unpacked_words.rglob("*.opus"))[::20]
    calibration = [load_audio(path) for path in recordings]
    export_onnx(
        find_encoder("small"), tmp_path / "i.onnx", check_seconds=(2.0,), calibration=calibration
    )
    whole = eer_of_words(load_encoder("small"))
    assert eer_of_words(load_encoder(tmp_path / "i.onnx")) == pytest.approx(whole, abs=2e-3)


def test_real_recordings_are_embedded_scored_and_judged(shared_speech, recordings, tmp_path):
    folder, names = recordings
    everything = load_trials(shared_speech / "dev" / f"{LIST}.trials")
    kept = np.isin(everything.enrol_ids, list(names)) & np.isin(everything.test_ids, list(names))
    trials = Trials.from_ids(
        everything.enrol_ids[kept], everything.test_ids[kept], everything.labels()[kept]
    )
    config = EncoderConfig(
        front_end=Part("log_mel", num_mels=40, normalise="none"),
        trunk=Part("thin_resnet34", width=0.125),
        descriptor_dim=32,
        pooling=Part("netvlad", num_clusters=8, num_ghosts=2, assignment="descriptors"),
        embedding_dim=32,
        embedding_relu=False,
    )
    save_encoder(tmp_path / "encoder", build_encoder(config), config, {})
    listed = from_names(trials.names.tolist(), folder)
    vectors = load_encoder(tmp_path / "encoder", device="cpu").embed_files(listed.paths)
    scores = cosine_scores(Embeddings(np.asarray(listed.ids), vectors), trials)
    report = verification_report(scores, trials.labels())
    assert len(listed.ids) > 24
    assert report.num_target > 20
    assert report.num_nontarget > 20
    # Even random features tell these speakers and rooms apart better than a coin.
    assert report.eer < 0.45
