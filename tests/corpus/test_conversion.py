import numpy as np
import pytest
import soundfile

from speakervlad import speech
from speakervlad.audio.spans import load_audio
from speakervlad.audio.speech import spoken_blocks
from speakervlad.corpus.prepare import convert_folder
from speakervlad.corpus.work import BadList, Work
from speakervlad.errors import InputError
from speakervlad.files import alone_in


@pytest.fixture
def source(tmp_path, make_wav):
    make_wav(tmp_path / "in" / "a" / "0.ogg", 0.5, 0)
    make_wav(tmp_path / "in" / "a" / "v.1.mp3", 0.6, 1)
    make_wav(tmp_path / "in" / "b" / "c" / "2.wav", 0.7, 2, rate=44100)
    return tmp_path / "in"


@pytest.mark.parametrize("file_format", ["flac", "wav"])
def test_folder_keeps_its_names_and_sound(source, tmp_path, file_format):
    assert convert_folder(source, tmp_path / "out", file_format=file_format) == (3, 0, [])
    for name, original in [("a/0", "a/0.ogg"), ("a/v.1", "a/v.1.mp3"), ("b/c/2", "b/c/2.wav")]:
        path = tmp_path / "out" / f"{name}.{file_format}"
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        np.testing.assert_allclose(load_audio(path), load_audio(source / original), atol=2**-15)


def test_interrupted_run_continues(source, tmp_path):
    convert_folder(source, tmp_path / "out")
    (tmp_path / "out" / "a" / "0.flac").unlink()
    kept = (tmp_path / "out" / "a" / "v.1.flac").stat().st_mtime_ns
    assert convert_folder(source, tmp_path / "out") == (1, 2, [])
    assert (tmp_path / "out" / "a" / "v.1.flac").stat().st_mtime_ns == kept


def test_what_a_killed_run_left_is_swept(source, tmp_path):
    convert_folder(source, tmp_path / "out")
    (tmp_path / "out" / "a" / "0.flac").unlink()
    left = [tmp_path / "out" / "a" / name for name in (".0.abcd_123.flac", ".v.1.12345678.flac")]
    other = tmp_path / "out" / "a" / ".mine.12345678.flac"
    for path in (*left, other):
        path.touch()
    assert convert_folder(source, tmp_path / "out") == (1, 2, [])
    assert not any(path.exists() for path in left)
    assert other.exists()
    assert not (tmp_path / "out" / ".lock").exists()


def test_two_processes_do_not_write_one_folder(source, tmp_path):
    with alone_in(tmp_path / "out"), pytest.raises(InputError, match="another process"):
        convert_folder(source, tmp_path / "out")


def test_bad_files_are_counted_and_leave_nothing(source, tmp_path):
    (source / "a" / "bad.m4a").write_text("no audio")
    with pytest.raises(InputError, match=r"1 of 4 files cannot be used.*a/bad\.m4a"):
        convert_folder(source, tmp_path / "out")
    done = convert_folder(source, tmp_path / "out", work=Work(0.25))
    assert (done.num_written, done.num_skipped) == (0, 3)
    assert [bad.utterance_id for bad in done.bad_files] == ["a/bad.m4a"]
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 3


def test_clashing_names_and_unknown_formats(source, tmp_path, make_wav):
    with pytest.raises(InputError, match=r"unknown format 'flak'\. Did you mean 'flac'"):
        convert_folder(source, tmp_path / "out", file_format="flak")
    make_wav(source / "a" / "0.wav")
    with pytest.raises(InputError, match=r"several files would become a/0\.flac"):
        convert_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_at_once_and_is_no_bad_file(source, tmp_path, full_disk):
    bad_list = BadList(tmp_path / "bad.csv")
    with full_disk(10000), pytest.raises(InputError, match=r"out/a/0\.flac: cannot be written"):
        convert_folder(source, tmp_path / "out", work=Work(1, bad_list, num_workers=0))
    assert bad_list.files == []
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert convert_folder(source, tmp_path / "out") == (3, 0, [])


def test_speech_only_is_what_is_left(make_speech, make_wav, tmp_path):
    said = soundfile.read(make_speech(tmp_path / "a.wav"), dtype="int16")[0]
    silence = np.zeros(3 * 16000, np.int16)
    source = tmp_path / "in"
    make_wav(source / "tone.wav", 1.0)
    soundfile.write(source / "b.wav", np.concatenate([silence, said, silence, said]), 16000)
    done = convert_folder(source, tmp_path / "out", speech_only=True, work=Work(0.5))
    assert [bad.utterance_id for bad in done.bad_files] == ["tone.wav"]
    found = soundfile.read(tmp_path / "out" / "b.flac", dtype="int16")[0]
    samples = soundfile.read(source / "b.wav", dtype="int16")[0]
    cuts = np.rint(speech(source / "b.wav") * 16000).astype(int)
    np.testing.assert_array_equal(found, np.concatenate([samples[a:b] for a, b in cuts]))


def test_spans_are_cut_from_blocks_of_any_size():
    samples = np.arange(1000, dtype=np.float32)
    spans = [(0, 10), (90, 310), (310, 311), (999, 1000)]
    expected = np.concatenate([samples[start:stop] for start, stop in spans])
    for size in (1, 7, 100, 1000):
        blocks = (samples[start : start + size] for start in range(0, 1000, size))
        np.testing.assert_array_equal(np.concatenate([*spoken_blocks(blocks, spans)]), expected)
