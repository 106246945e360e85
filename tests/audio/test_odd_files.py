"""Whatever is wrong with a file is one line of that file, said soon and in little memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speakervlad.audio.reading import speech_blocks
from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.corpus.packing import pack
from speakervlad.corpus.prepare import convert_folder, prepare
from speakervlad.corpus.work import BadList, Work
from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest, load_manifest


def wav_with(path, make_waveform, *, tag=1, rate=16000, bits=16, size=None):
    """A mono wav whose header says so."""
    soundfile.write(path, make_waveform(1.0), 16000)
    content = bytearray(path.read_bytes())
    content[20:22] = tag.to_bytes(2, "little")
    content[24:28] = rate.to_bytes(4, "little")
    content[34:36] = bits.to_bytes(2, "little")
    if size is not None:
        content[40:44] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("tag", [*range(0, 800, 7), 0x4143, 0x674F, 0xA109, 0xF1AC, 0xFFFE, 0xFFFF])
def test_every_wav_tag_is_read_or_refused(tmp_path, make_waveform, tag):
    path = wav_with(tmp_path / "a.wav", make_waveform, tag=tag)
    try:
        num_samples = audio_info(path).num_samples
    except InputError:
        with pytest.raises(InputError, match=r"^[^\n]*a\.wav: [^\n]*$"):
            load_audio(path)
    else:
        assert len(load_audio(path)) == num_samples


RAISED = [AttributeError, MemoryError, ValueError("x"), OSError(5, "Bad")]


@pytest.mark.parametrize(
    "raised", [AttributeError, MemoryError, ValueError("x"), OSError(5, "Bad")]
)
def test_whatever_a_decoder_raises_is_that_files_error(tmp_path, make_wav, monkeypatch, raised):
    def broken(*arguments, **options):
        raise raised

    good, bad = make_wav(tmp_path / "s" / "good.wav"), make_wav(tmp_path / "t" / "bad.wav")
    read = soundfile.SoundFile.read

    def read_some(file, *arguments, **options):
        return (broken if file.name.endswith("bad.wav") else read)(file, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", read_some)
    with pytest.raises(InputError, match=r"bad\.wav: \S"):
        load_audio(bad)
    bad_list = BadList(tmp_path / "bad.csv")
    work = Work(0.5, bad_list, num_workers=0)
    manifest = prepare(tmp_path, layout="speaker-folders", work=work).manifest
    assert list(manifest.utterance_ids) == ["s/good"]
    assert "t/bad" in (tmp_path / "bad.csv").read_text()
    assert convert_folder(tmp_path, tmp_path / "out", work=work).num_written == 1
    both = Manifest.of(
        tmp_path,
        utterance_ids=["good", "bad"],
        paths=["s/good.wav", "t/bad.wav"],
        speakers=["s", "t"],
        sessions=["s", "t"],
        num_samples=[16000, 16000],
    )
    assert len(pack(both, tmp_path / "packed", work=work)) == 1
    crops = UtteranceDataset(both, crop_samples=4000, seed=1, max_bad_fraction=0.5)
    assert crops[0, 1].index == 0
    assert crops.bad_utterances() == ["bad"]
    np.testing.assert_array_equal(load_audio(good), load_audio(good))


@pytest.mark.skipif(sys.platform != "linux", reason="makes names and devices of Linux")
def test_devices_pipes_and_names_of_bytes_are_listed(tmp_path, make_wav):
    make_wav(tmp_path / "in" / "s" / "good.wav")
    os.mkfifo(tmp_path / "in" / "s" / "pipe.wav")
    (tmp_path / "in" / "s" / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "in" / "s" / "gone.wav").symlink_to("nowhere.wav")
    latin = os.fsencode(tmp_path / "in" / "s") + b"/M\xfcller.wav"
    with open(latin, "wb") as file:  # noqa: PTH123 - bytes
        file.write((tmp_path / "in" / "s" / "good.wav").read_bytes())
    bad_list = BadList(tmp_path / "bad.csv")
    work = Work(0.9, bad_list, num_workers=0)
    assert len(prepare(tmp_path / "in", layout="speaker-folders", work=work).manifest) == 1
    reasons = dict(bad_list.files)
    assert "device or a pipe" in reasons["s/pipe"]
    assert "device or a pipe" in reasons["s/zero"]
    assert "no such file" in reasons["s/gone"]
    assert r"M\udcfcller.wav: its name is not UTF-8" in reasons["s/M\udcfcller"]
    assert r"M\udcfcller" in (tmp_path / "bad.csv").read_text()
    done = convert_folder(tmp_path / "in", tmp_path / "out", work=work)
    assert (done.num_written, len(done.bad_files)) == (1, 4)


@pytest.mark.parametrize("name", ["nul\0.wav", "x" * 300 + ".wav", "a.wav/b.wav"])
def test_impossible_names_are_one_line(tmp_path, make_wav, name):
    make_wav(tmp_path / "a.wav")
    with pytest.raises(InputError):
        load_audio(tmp_path / name)


def test_the_longest_names_are_written(tmp_path, make_wav):
    name = "ü" * 120 + "x" * 6  # 246 bytes
    make_wav(tmp_path / "in" / "s" / f"{name}.wav")
    assert convert_folder(tmp_path / "in", tmp_path / "out").num_written == 1
    assert [path.name for path in (tmp_path / "out" / "s").iterdir()] == [f"{name}.flac"]


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.wav\n",
        "#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    ],
)
@pytest.mark.parametrize("suffix", ["m4a", "wav", "ffconcat", "m3u8", "sdp"])
def test_no_file_leads_to_another(tmp_path, make_wav, text, suffix):
    make_wav(tmp_path / "secret.wav")
    (tmp_path / f"a.{suffix}").write_text(text)
    with pytest.raises(InputError, match="not an audio file"):
        load_audio(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("rate", [1, 50, 99, 1999])
def test_impossible_rates_are_refused(tmp_path, make_waveform, rate):
    path = wav_with(tmp_path / "a.wav", make_waveform, rate=rate)
    with pytest.raises(InputError, match=f"a sample rate of {rate} Hz"):
        list(speech_blocks(path))


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"])
def test_mutated_files_are_read_or_refused(tmp_path, make_waveform, form):
    path, rng = tmp_path / f"a.{form.lower()}", np.random.default_rng(7)
    soundfile.write(path, make_waveform(0.5), 16000, format=form)
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(rng.choice([60, len(whole)]), size=rng.integers(1, 9)).tolist():
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(1, len(whole))] if rng.random() < 0.3 else content)
        try:
            assert np.abs(load_audio(path)).max() <= 1
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes


def flac_with_total(path, samples, total):
    soundfile.write(path, samples, 16000, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | total >> 32  # STREAMINFO: 36 bits from here on
    content[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("total", [0, 2**36 - 1, 2**35, 1_500_000_000])
def test_a_flac_that_claims_too_much_is_read_to_its_end(tmp_path, make_waveform, total):
    samples = make_waveform(2.0)
    path = flac_with_total(tmp_path / "a.flac", samples, total)
    np.testing.assert_allclose(load_audio(path), samples, atol=2**-15)
    np.testing.assert_allclose(
        load_audio(path, start=9000, num_samples=5000), samples[9000:14000], atol=2**-15
    )
    assert audio_info(path).num_samples == 32000


def test_a_manifest_that_claims_too_much_is_refused(tmp_path, make_wav):
    make_wav(tmp_path / "a.wav")
    (tmp_path / "m.csv").write_text(
        "utterance_id,path,speaker,session,num_samples\nu,a.wav,s,s,4000000000000\n"
    )
    with pytest.raises(InputError, match=r"line 2: num_samples is '4000000000000', not"):
        load_manifest(tmp_path / "m.csv")


# Every door, with 1 GB for all of the process. Torch reserves more, so only what needs none of it.
DOORS = """
import sys, resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9))
from speakervlad.errors import InputError
from speakervlad.corpus.prepare import convert_folder, prepare
from speakervlad.corpus.work import Work
from speakervlad.audio.reading import load_audio, audio_info
from speakervlad.audio.recording import Recording
folder, work = Path(sys.argv[1]), Work(0.99, num_workers=0)
for path in sorted((folder / "s").iterdir()):
    for door in (lambda: Recording(path).wave.read(0, 400), lambda: audio_info(path),
                 lambda: load_audio(path, start=100, num_samples=16000)):
        try:
            door()
        except InputError as error:
            assert "MemoryError" not in str(error), error
print(len(prepare(folder, layout="speaker-folders", work=work).manifest))
print(convert_folder(folder, folder.with_name("out"), work=work).num_written)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_small_files_take_less_than_a_gigabyte(tmp_path, make_waveform, make_wav):
    folder = tmp_path / "in" / "s"
    folder.mkdir(parents=True)
    make_wav(folder / "good.wav")
    flac_with_total(folder / "claims.flac", make_waveform(1.0), 2**36 - 1)
    minute = np.zeros(60 * 16000, np.float32)
    for name, minutes, subtype in (("a.flac", 6 * 60, "PCM_16"), ("b.ogg", 60, "VORBIS")):
        with soundfile.SoundFile(folder / name, "w", 16000, 1, subtype=subtype) as file:
            for _ in range(minutes):
                file.write(minute)
    wav_with(folder / "rate.wav", make_waveform, rate=3)
    low = np.resize(make_waveform(30.0), 9_000_000)
    soundfile.write(folder / "slow.wav", low, 2000, subtype="PCM_U8")
    noise = np.random.default_rng(0).uniform(-1, 1, (9000, 1000)).astype(np.float32)
    soundfile.write(folder / "channels.wav", noise, 16000, subtype="PCM_U8")
    assert all(path.stat().st_size < 1e7 for path in folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", DOORS, tmp_path / "in"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "4"]
