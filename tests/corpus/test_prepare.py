import logging

import numpy as np
import pytest
import soundfile
import soxr

from speakervlad.corpus.inputs import from_folder
from speakervlad.corpus.layouts import LAYOUTS, audio_below
from speakervlad.corpus.prepare import prepare
from speakervlad.corpus.work import Work
from speakervlad.errors import InputError
from speakervlad.progress import tracked_by
from speakervlad.tables.manifest import load_manifest, save_manifest


@pytest.fixture
def folder(tmp_path, make_wav):
    """Three speakers: sessions, deep sessions, no sessions."""
    make_wav(tmp_path / "c" / "ann" / "s1" / "0.wav", 0.5)
    make_wav(tmp_path / "c" / "ann" / "s2" / "0.flac", 0.6)
    make_wav(tmp_path / "c" / "bob" / "2020" / "may" / "x.y.wav", 0.7)
    make_wav(tmp_path / "c" / "cy" / "0.ogg", 0.8)
    make_wav(tmp_path / "c" / "cy" / "1.WAV", 0.9)
    return tmp_path / "c"


def rows_of(manifest):
    return list(zip(manifest.utterance_ids, manifest.speakers, manifest.sessions, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2, None])
def test_speaker_folders(folder, num_workers):
    work = Work(num_workers=num_workers)
    manifest, bad_files, narrow = prepare(folder, layout="speaker-folders", work=work)
    assert rows_of(manifest) == [
        ("ann/s1/0", "ann", "ann/s1"),
        ("ann/s2/0", "ann", "ann/s2"),
        ("bob/2020/may/x.y", "bob", "bob/2020/may"),
        ("cy/0", "cy", "cy/0"),
        ("cy/1", "cy", "cy/1"),
    ]
    assert manifest.num_samples.tolist() == [8000, 9600, 11200, 12800, 14400]
    assert manifest.path(2) == folder / "bob" / "2020" / "may" / "x.y.wav"
    assert not bad_files
    assert not narrow


def test_workers_give_the_same(tmp_path, make_wav):
    for number in range(70):
        make_wav(tmp_path / "c" / f"s{number % 7}" / f"{number}.wav", 0.1 + number / 1000)
    alone = prepare(tmp_path / "c", layout="speaker-folders", work=Work(num_workers=0)).manifest
    spawned = prepare(tmp_path / "c", layout="speaker-folders", work=Work(num_workers=2)).manifest
    assert rows_of(alone) == rows_of(spawned)
    assert alone.num_samples.tolist() == spawned.num_samples.tolist()


def test_length_is_counted_at_16_khz(tmp_path, make_wav):
    make_wav(tmp_path / "a" / "0.wav", 1.0, rate=44100)
    manifest = prepare(tmp_path, layout="speaker-folders").manifest
    assert manifest.num_samples.tolist() == [16000]


def test_hidden_and_other_files_are_left_out_loudly(folder, caplog):
    (folder / "ann" / "._0.wav").touch()
    (folder / ".trash").mkdir()
    (folder / "ann" / "notes.txt").touch()
    (folder / "dan").mkdir()
    with caplog.at_level(logging.INFO):
        assert len(prepare(folder, layout="speaker-folders").manifest) == 5
    assert "1 .txt" in caplog.text
    assert "1 folder(s) without audio: dan" in caplog.text


def test_links_are_followed_once(folder, tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "ann").symlink_to(folder / "ann")
    (folder / "ann" / "loop").symlink_to(folder / "ann")
    assert len(prepare(tmp_path / "link", layout="speaker-folders").manifest) == 2


def test_one_walker_for_all(folder, make_wav):
    (folder / "aa").symlink_to(folder / "ann")  # the real folder keeps its name
    (folder / "eve").symlink_to(folder / "dan" / "x")
    make_wav(folder / "dan" / "x" / "0.wav")
    make_wav(folder / "dan" / "noise.wav" / "1.wav")
    make_wav(folder / "dan" / ".hidden" / "2.wav")
    make_wav(folder / "dan" / "._3.wav")
    (folder / "dan" / "4.aifc").touch()
    (folder / "dan" / "loop").symlink_to(folder)
    names = audio_below(folder)
    assert names == from_folder(folder).ids
    assert [str(path) for path in from_folder(folder).paths] == [f"{folder}/{x}" for x in names]
    assert [name for name in names if not name.startswith(("bob", "cy"))] == [
        "ann/s1/0.wav",
        "ann/s2/0.flac",
        "dan/4.aifc",
        "dan/noise.wav/1.wav",
        "dan/x/0.wav",
    ]
    linked = folder.parent / "linked"
    linked.mkdir()
    (linked / "ann").symlink_to(folder / "ann")
    assert from_folder(linked).ids == ["ann/s1/0.wav", "ann/s2/0.flac"]


@pytest.mark.parametrize("prefix", ["", "wav/", "dev/aac/", "vox1/test/wav/"])
def test_voxceleb(tmp_path, make_wav, prefix, caplog):
    for name in ("id00012/21Uxsk56VDQ/00001", "id10270/x6uYqmx31kE/00002"):
        make_wav(tmp_path / f"{prefix}{name}.wav", 0.5)
    make_wav(tmp_path / "noise" / "music.wav", 0.5)
    (tmp_path / f"{prefix}id00013" / "empty").mkdir(parents=True)
    manifest = prepare(tmp_path, layout="voxceleb").manifest
    assert "1 folder(s) without audio: id00013" in caplog.text
    assert rows_of(manifest) == [
        ("id00012/21Uxsk56VDQ/00001", "id00012", "id00012/21Uxsk56VDQ"),
        ("id10270/x6uYqmx31kE/00002", "id10270", "id10270/x6uYqmx31kE"),
    ]
    assert manifest.paths[0] == f"{prefix}id00012/21Uxsk56VDQ/00001.wav"


@pytest.fixture
def kaldi(tmp_path, make_wav):
    make_wav(tmp_path / "audio" / "a b.wav", 0.5)
    make_wav(tmp_path / "data" / "local.wav", 0.6)
    data = tmp_path / "data"
    (data / "wav.scp").write_text(f"utt/2 local.wav\nutt1  {tmp_path}/audio/a b.wav\n\n")
    (data / "utt2spk").write_text("utt1 ann\nutt/2 bob\nutt3 bob\n")
    return data


def test_kaldi(kaldi, tmp_path):
    manifest = prepare(kaldi, layout="kaldi").manifest
    assert rows_of(manifest) == [("utt/2", "bob", "utt/2"), ("utt1", "ann", "utt1")]
    assert manifest.path(1) == tmp_path / "audio" / "a b.wav"


def test_kaldi_tables_as_they_come(kaldi, tmp_path):
    """With a byte order mark, tabs, line ends of Windows, white space of Unicode in a name."""
    local = (kaldi / "local.wav").read_bytes()
    (kaldi / "a\u2028b.wav").write_bytes(local)
    rows = "\ufeffutt1\tlocal.wav\r\nutt\u30002 \t a\u2028b.wav\r\n"
    (kaldi / "wav.scp").write_bytes(rows.encode())
    (kaldi / "utt2spk").write_bytes("\ufeffutt1 ann\nutt\u30002\tbob\n".encode())
    manifest = prepare(kaldi, layout="kaldi").manifest
    assert list(manifest.utterance_ids) == ["utt1", "utt\u30002"]
    assert manifest.num_samples.tolist() == [9600, 9600]


def test_kaldi_root_does_not_hang_on_the_first_file(kaldi, tmp_path, monkeypatch):
    (kaldi / "utt2spk").write_text("u0 ann\nu1 ann\nu2 bob\n")
    (kaldi / "wav.scp").write_text("u0 gone.wav\nu1 local.wav\nu2 local.wav\n")
    manifest = prepare(kaldi, layout="kaldi", work=Work(0.5)).manifest
    assert list(manifest.utterance_ids) == ["u1", "u2"]
    monkeypatch.chdir(tmp_path)
    (kaldi / "wav.scp").write_text("u0 gone.wav\nu1 audio/a b.wav\nu2 data/local.wav\n")
    manifest = prepare(kaldi, layout="kaldi", work=Work(0.5)).manifest
    assert manifest.path(0) == tmp_path / "audio" / "a b.wav"


def test_kaldi_pipe_is_refused_and_never_executed(kaldi, tmp_path):
    (kaldi / "wav.scp").write_text(f"utt1 local.wav\nutt3 touch {tmp_path}/executed; cat x |\n")
    with pytest.raises(InputError, match=r"wav\.scp, line 2: a shell pipe is never executed"):
        prepare(kaldi, layout="kaldi")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("utt2spk", "utt1 ann\n", r"utt2spk: 1 utterance\(s\) of wav\.scp have no speaker: utt/2"),
        ("utt2spk", "utt1\n", r"utt2spk, line 1: 'utt1' has no value"),
        ("wav.scp", "u local.wav\nu local.wav\n", r"wav\.scp, line 2: 'u' appears twice"),
        ("segments", "utt1 rec 0 1\n", "segments: utterances inside longer recordings"),
        ("wav.scp", "utt1 ../audio/x.wav\n", r"line 1: path '\.\./audio/x\.wav' leaves the root"),
        ("wav.scp", "", "holds no utterances"),
        ("wav.scp", "u local.wav\nv M\xfcller.wav\n", r"wav\.scp, line 2: not UTF-8"),
    ],
)
def test_bad_kaldi_directory(kaldi, name, content, reason):
    (kaldi / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=reason):
        prepare(kaldi, layout="kaldi")


def test_kaldi_table_missing(kaldi):
    (kaldi / "utt2spk").unlink()
    with pytest.raises(InputError, match="utt2spk: no such file"):
        prepare(kaldi, layout="kaldi")


def test_csv(folder):
    table = folder / "list.csv"
    table.write_text("speaker,path,corpus\nann,ann/s1/0.wav,x\nbob,bob/2020/may/x.y.wav,y\n")
    manifest = prepare(table, layout="csv").manifest
    assert rows_of(manifest)[1] == ("bob/2020/may/x.y", "bob", "bob/2020/may/x.y")
    assert manifest.column("corpus").tolist() == ["x", "y"]
    table.write_text("utterance_id,speaker,path,session,num_samples\nu,ann,ann/s1/0.wav,s,1\n")
    manifest = prepare(table, layout="csv").manifest
    assert rows_of(manifest) == [("u", "ann", "s")]
    assert manifest.num_samples.tolist() == [8000]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("speaker,file\na,b\n", "no column 'path'. Known"),
        ("speakers,path\na,b\n", "no column 'speaker'. Did you mean 'speakers'"),
        ("speaker,path\nann,ann/s1/0.wav\nbob,\n", "line 3: path or speaker missing"),
        ("speaker,path\nann\n", "line 2: path or speaker missing"),
        ("speaker,path\nann,a,b\n", "line 2: path or speaker missing"),
        ("speaker,path\n", "holds no utterances"),
        ("speaker,path\na,x.wav\na,x.wav\n", r"line 3: 1 utterance id\(s\) are not unique: x"),
        ("speaker,path\na,../x.wav\n", "line 2: path '../x.wav' leaves the root"),
    ],
)
def test_bad_csv(tmp_path, content, reason):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(InputError, match=reason):
        prepare(tmp_path / "list.csv", layout="csv")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_source(tmp_path, layout):
    with pytest.raises(InputError, match="no such"):
        prepare(tmp_path / "nowhere", layout=layout)


def test_source_without_the_layout(tmp_path, make_wav):
    with pytest.raises(InputError, match="no audio file below it"):
        prepare(tmp_path, layout="speaker-folders")
    make_wav(tmp_path / "0.wav")
    with pytest.raises(InputError, match=r"0\.wav: lies outside of any speaker's folder"):
        prepare(tmp_path, layout="speaker-folders")
    with pytest.raises(InputError, match="no id#####/video/utterance"):
        prepare(tmp_path, layout="voxceleb")
    with pytest.raises(InputError, match="Did you mean 'voxceleb'"):
        prepare(tmp_path, layout="voxcleb")


def test_one_utterance_in_two_formats(folder, make_wav):
    make_wav(folder / "cy" / "0.wav")
    with pytest.raises(InputError, match=r"not unique: cy/0 \(cy/0\.ogg, cy/0\.wav\)"):
        prepare(folder, layout="speaker-folders")


def spoil(folder):
    """Seven bad files of seven kinds."""
    (folder / "ann" / "s1" / "empty.wav").touch()
    (folder / "ann" / "s1" / "text.wav").write_text("text")
    whole = (folder / "ann" / "s2" / "0.flac").read_bytes()
    (folder / "ann" / "s1" / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "ann" / "s1" / "short.wav", np.full(100, 0.1), 16000)
    soundfile.write(folder / "ann" / "s1" / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "ann" / "s1" / "quiet.wav", np.zeros(16000 * 5), 16000)
    whole = (folder / "ann" / "s1" / "quiet.wav").read_bytes()
    (folder / "ann" / "s1" / "half.wav").write_bytes(whole[: len(whole) // 2])


def test_bad_files_are_counted_and_listed(folder, caplog):
    spoil(folder)
    with pytest.raises(InputError, match=r"7 of 12 files cannot be used, more than 1\.00%"):
        prepare(folder, layout="speaker-folders")
    caplog.clear()
    manifest, bad_files, _ = prepare(folder, layout="speaker-folders", work=Work(0.6))
    assert len(manifest) == 5
    reasons = {bad.utterance_id.rsplit("/", 1)[1]: bad.reason for bad in bad_files}
    kinds = ["empty", "half", "quiet", "short", "silent", "text", "truncated"]
    assert sorted(reasons) == kinds
    for name, reason in reasons.items():
        assert f"{name}." in reason
        assert reason in caplog.text
    assert "empty file" in reasons["empty"]
    assert "truncated or damaged" in reasons["truncated"]
    assert "truncated or damaged (ends after 79978 of 160000 bytes)" in reasons["half"]
    assert "too short" in reasons["short"]
    assert "silent" in reasons["silent"]
    assert "silent" in reasons["quiet"]


def test_files_that_end_in_silence_or_came_through_a_pipe_are_good(tmp_path, make_waveform):
    (tmp_path / "ann").mkdir()
    ending = np.concatenate([make_waveform(1.0), np.zeros(16000 * 4, np.float32)])
    soundfile.write(tmp_path / "ann" / "ending.wav", ending, 16000)
    content = bytearray((tmp_path / "ann" / "ending.wav").read_bytes())
    for name, claimed in (("ffmpeg", 0xFFFFFFFF), ("sox", 0x7FFFF000), ("header", 160044)):
        content[40:44] = claimed.to_bytes(4, "little")
        (tmp_path / "ann" / f"{name}.wav").write_bytes(content)
    manifest = prepare(tmp_path, layout="speaker-folders", work=Work(num_workers=0)).manifest
    assert manifest.num_samples.tolist() == [80000] * 4


def test_corpus_without_any_good_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.wav").touch()
    with pytest.raises(InputError, match="1 of 1 files cannot be used"):
        prepare(tmp_path, layout="speaker-folders", work=Work(1.0))


def test_decoding_whole_files_finds_more(folder):
    samples = np.tile(np.linspace(-0.1, 0.1, 100), 800)
    samples[100] = np.nan
    soundfile.write(folder / "cy" / "nan.wav", samples, 16000, subtype="FLOAT")
    assert not prepare(folder, layout="speaker-folders").bad_files
    bad_files = prepare(folder, layout="speaker-folders", decode=True, work=Work(0.5)).bad_files
    assert [bad.utterance_id for bad in bad_files] == ["cy/nan"]


def test_telephone_band_is_counted(folder, make_waveform, caplog):
    narrow = soxr.resample(soxr.resample(make_waveform(2.0), 16000, 8000), 8000, 16000)
    soundfile.write(folder / "cy" / "narrow.wav", narrow, 16000)
    assert prepare(folder, layout="speaker-folders").narrow_band == ["cy/narrow"]
    assert "1 of 6 files have nothing above 4 kHz" in caplog.text


def test_progress_counts_files(folder):
    seen = []

    def track(items, description, total=None):
        for item in items:
            seen.append((description, total))
            yield item

    with tracked_by(track):
        prepare(folder, layout="speaker-folders")
    assert seen == [("Reading audio files", 5)] * 5


def test_speech_only_leaves_out_files_without_speech_and_counts_it(make_speech, make_wav, tmp_path):
    make_speech(tmp_path / "c" / "ann" / "0.wav", 2.0)
    make_wav(tmp_path / "c" / "ann" / "tone.wav", 2.0)
    found = prepare(tmp_path / "c", layout="speaker-folders", speech_only=True, work=Work(0.5))
    assert list(found.manifest.utterance_ids) == ["ann/0"]
    (counted,) = map(int, found.manifest.column("speech_samples"))
    assert 1.8 * 16000 < counted <= 2.0 * 16000
    assert [bad.utterance_id for bad in found.bad_files] == ["ann/tone"]
    assert "0.00 s of speech found in 2.00 s" in found.bad_files[0].reason
    save_manifest(tmp_path / "c.csv", found.manifest)
    assert list(load_manifest(tmp_path / "c.csv").column("speech_samples")) == [str(counted)]
