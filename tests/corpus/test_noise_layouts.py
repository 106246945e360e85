"""MUSAN's and OpenSLR 28's folders become manifests."""

import numpy as np
import pytest
import soundfile

from speakervlad.corpus.prepare import prepare
from speakervlad.corpus.work import Work
from speakervlad.errors import InputError


def test_musan_tells_the_kind_in_the_speaker_column(tmp_path, make_wav):
    for name in ("noise/free-sound/n-1", "music/fma/m-1", "speech/us-gov/s-1"):
        make_wav(tmp_path / f"musan/{name}.wav", 0.2)
    (tmp_path / "musan/music/fma/ANNOTATIONS").write_text("m-1 pop\n")
    manifest = prepare(tmp_path, layout="musan").manifest
    assert list(manifest.speakers) == ["music", "noise", "speech"]
    assert list(manifest.sessions) == [
        "musan/music/fma",
        "musan/noise/free-sound",
        "musan/speech/us-gov",
    ]


def test_a_folder_without_the_kinds_is_refused(tmp_path, make_wav):
    make_wav(tmp_path / "traffic/a.wav", 0.2)
    with pytest.raises(InputError, match="no audio below noise, music or speech"):
        prepare(tmp_path, layout="musan")


def test_zero_length_noise_is_counted_and_left_out(tmp_path, make_wav):
    make_wav(tmp_path / "noise/a.wav", 0.2)
    soundfile.write(tmp_path / "noise/b.wav", np.zeros(0), 16000)
    done = prepare(tmp_path, layout="musan", work=Work(0.5))
    assert list(done.manifest.utterance_ids) == ["noise/a"]
    assert done.bad_files[0].utterance_id == "noise/b"


def test_rirs_leave_the_noises_of_openslr_28_out(tmp_path, make_wav):
    base = tmp_path / "RIRS_NOISES"
    make_wav(base / "simulated_rirs/smallroom/Room001/Room001-00001.wav", 0.2)
    make_wav(base / "real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1.wav", 0.2)
    make_wav(base / "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1.wav", 0.2)
    make_wav(base / "pointsource_noises/bell.wav", 0.2)
    manifest = prepare(tmp_path, layout="rirs").manifest
    assert list(manifest.speakers) == ["real_rirs_isotropic_noises", "Room001"]


def test_noises_alone_are_no_rirs(tmp_path, make_wav):
    make_wav(tmp_path / "pointsource_noises/bell.wav", 0.2)
    with pytest.raises(InputError, match="holds noises only"):
        prepare(tmp_path, layout="rirs")


def test_a_room_response_may_be_short_but_not_silent(tmp_path):
    for name, response in (("short", np.eye(1, 120)[0]), ("silent", np.zeros(120))):
        soundfile.write(tmp_path / f"{name}.wav", response, 16000)
    done = prepare(tmp_path, layout="rirs", work=Work(0.5))
    assert done.manifest.num_samples.tolist() == [120]
    assert "silent, every sample is zero" in done.bad_files[0].reason
