import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.speakers import speakers_from_manifest, speakers_from_names
from speakervlad.scoring.trials import Trials
from speakervlad.tables.manifest import Manifest


def pairs(prefix, labels=(True, False, True)):
    enrol = [f"{prefix}A/s/1.wav", f"{prefix}A/s/1.wav", f"{prefix}B/s/1.wav"]
    test = [f"{prefix}A/t/2.wav", f"{prefix}B/s/1.wav", f"{prefix}B/s/2.wav"]
    return Trials.from_ids(enrol, test, np.array(labels))


@pytest.mark.parametrize("prefix", ["", "dev/corpus/", "/data/x/"])
def test_names_tell_the_speakers(prefix):
    speakers = speakers_from_names(pairs(prefix))
    assert speakers.num_speakers == 2
    assert (speakers.enrol == speakers.test).tolist() == [True, False, True]


def test_speakers_of_several_corpora_are_corpus_and_name():
    trials = Trials.from_ids(
        ["c/A/1", "c/A/1", "d/A/1"], ["c/A/2", "c/B/1", "d/A/2"], np.array([1, 0, 1])
    )
    assert speakers_from_names(trials).num_speakers == 3


def test_names_that_contradict_the_labels_tell_nothing():
    with pytest.raises(InputError, match="names do not tell the speakers"):
        speakers_from_names(pairs("", (True, True, False)))


@pytest.fixture
def manifest(tmp_path):
    ids = ["A/s/1", "A/t/2", "B/s/1", "B/s/2"]
    return Manifest.of(
        tmp_path,
        utterance_ids=ids,
        paths=[f"wav/{name}.flac" for name in ids],
        speakers=["A", "A", "B", "B"],
        sessions=["As", "At", "Bs", "Bs"],
        num_samples=[16000, 32000, 48000, 64000],
        extra={"gender": ["f", "f", "m", "m"]},
    )


def test_manifest_tells_the_speakers(manifest):
    speakers = speakers_from_manifest(pairs("/data/x/"), manifest)
    assert (speakers.enrol == speakers.test).tolist() == [True, False, True]


def test_manifest_of_other_labels_is_refused(manifest):
    with pytest.raises(InputError, match="2 of 3 labels contradict the speakers: A/s/1"):
        speakers_from_manifest(pairs("", (True, True, False)), manifest)


def test_recordings_outside_the_manifest_are_counted(manifest):
    trials = Trials.from_ids(["A/s/1", "A/s/1"], ["C/1", "C/2"], np.array([True, False]))
    with pytest.raises(InputError, match=r"2 of 3 recordings .* C/1, C/2"):
        speakers_from_manifest(trials, manifest)
