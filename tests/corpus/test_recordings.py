import pytest

from speakervlad.corpus.inputs import from_folder, from_manifest, from_names
from speakervlad.errors import InputError


def test_folder_is_read_recursively_and_sorted(make_wav, tmp_path):
    for name in ("b/2.wav", "a.flac", "b/1.WAV"):
        make_wav(tmp_path / name, seconds=0.1)
    (tmp_path / "notes.txt").write_text("no audio")
    recordings = from_folder(tmp_path)
    assert recordings.ids == ["a.flac", "b/1.WAV", "b/2.wav"]
    assert recordings.paths[1] == tmp_path / "b" / "1.WAV"


def test_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no audio"):
        from_folder(tmp_path)


def test_manifest_gives_utterance_ids(make_wav, tmp_path):
    make_wav(tmp_path / "x.wav")
    header = "utterance_id,path,speaker,session,num_samples\n"
    (tmp_path / "m.csv").write_text(header + "first,x.wav,s,t,16000\n")
    recordings = from_manifest(tmp_path / "m.csv")
    assert (recordings.ids, recordings.paths) == (["first"], [tmp_path / "x.wav"])


def test_missing_recordings_are_counted(make_wav, tmp_path):
    make_wav(tmp_path / "x.wav")
    with pytest.raises(
        InputError, match=r"2 of 3 recordings are missing, such as .*y\.wav\. Check"
    ):
        from_names(["x.wav", "y.wav", "z.wav"], tmp_path)
