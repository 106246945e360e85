"""Small files that go wrong elsewhere, through every door; they lie beside the checkout."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakervlad.audio.recording import Recording
from speakervlad.audio.spans import audio_info, load_audio
from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.corpus.prepare import convert_folder, prepare
from speakervlad.corpus.work import Work
from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.tables.manifest import Manifest

# Seconds that FFmpeg decodes, and a warning; or what the refusal says.
RIGHT = {
    "pipe.flac": (7.363, None),
    "vbr_noxing.mp3": (7.452, None),
    "silsp_noxing.mp3": (22.779, None),
    "concat.ogg": (14.335, None),
    "v_hi_lo.amr": (14.76, None),
    "m7.amr": (7.38, None),
    "delayed.mp4": (7.488, None),
    "gsm.wav": (7.44, None),
    "mp3in.wav": (7.452, None),
    "size0.wav": (7.363, "states no samples"),
    "f32x7.wav": (7.363, "scaled down"),
    "q60.wav": (7.363, "very quiet"),
    "float16bit.wav": "no decoder for its codec",
    "const.wav": "holds no speech",
    "lsb.wav": "holds no speech",
}
GOOD = [name for name, right in RIGHT.items() if isinstance(right, tuple)]
BAD = [name for name in RIGHT if name not in GOOD]
# Conversations and their turns, whose right answers are tested beside diarization and people.
TALKS = {
    *("ref.rttm", "spk_space.rttm", "empty.rttm", "whisperx.srt"),
    *("antiphase.flac", "two_voices.opus"),
}


@pytest.fixture(scope="module")
def embedder():
    return load_encoder()


@pytest.fixture
def corpus(shared_cases, tmp_path):
    """``corpus(name)``: a folder with that file as speaker ``s``, and another good one as ``t``."""

    def make(name):
        for folder, source in (("s", name), ("t", "gsm.wav")):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / folder / source).write_bytes((shared_cases / source).read_bytes())
        return tmp_path / "in"

    return make


def manifest_of(folder, name, num_samples):
    return Manifest.of(
        folder,
        utterance_ids=["u"],
        paths=[name],
        speakers=["s"],
        sessions=["s"],
        num_samples=[num_samples],
    )


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_read_to_their_end_everywhere(
    shared_cases, corpus, embedder, tmp_path, name, caplog
):
    seconds, warning = RIGHT[name]
    path = shared_cases / name
    whole = load_audio(path)
    assert len(whole) / 16000 == pytest.approx(seconds, abs=0.02)
    assert audio_info(path).num_samples == len(whole)
    for start, length in ((0, 1000), (30000, 40000), (len(whole) - 700, 700)):
        span = load_audio(path, start=start, num_samples=length)
        np.testing.assert_allclose(span, whole[start : start + length], atol=2e-6)

    assert Recording(path).wave.num_samples == len(whole)
    vector = embedder.embed(path)
    np.testing.assert_allclose(embedder.embed_files([path])[0], vector, atol=1e-6)
    if name != "q60.wav":
        assert vector @ embedder.embed(whole) == pytest.approx(1, abs=1e-5)
    assert warning is None or warning in caplog.text

    manifest = prepare(corpus(name), layout="speaker-folders", work=Work(0)).manifest
    assert manifest.num_samples[0] == len(whole)
    done = convert_folder(corpus(name), tmp_path / "out", file_format="wav", work=Work(0))
    assert (done.num_written, done.bad_files) == (2, [])
    converted, rate = soundfile.read(next((tmp_path / "out" / "s").iterdir()), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(converted, whole, atol=2**-15)
    crop = UtteranceDataset(manifest, crop_samples=20000, seed=1)[0, 0].waveform.numpy()
    windows = np.lib.stride_tricks.sliding_window_view(whole, 20000)
    assert np.abs(windows[:, ::500] - crop[::500]).max(axis=1).min() < 2e-6


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line_everywhere(
    shared_cases, corpus, embedder, tmp_path, name
):
    path, reason = shared_cases / name, RIGHT[name]
    for door in (
        lambda: embedder.embed(path),
        lambda: embedder.embed_files([path]),
        lambda: UtteranceDataset(manifest_of(path.parent, name, 32000), crop_samples=20000, seed=1)[
            0, 0
        ],
        lambda: prepare(corpus(name), layout="speaker-folders", work=Work(0)),
        lambda: convert_folder(corpus(name), tmp_path / "out", work=Work(0)),
    ):
        with pytest.raises(InputError, match=rf"(?s)^[^\n]*{path.stem}[^\n]*$"):
            door()
    with pytest.raises(InputError, match=reason):
        embedder.embed(path)
    bad = prepare(corpus(name), layout="speaker-folders", work=Work(0.5)).bad_files
    assert reason in bad[0].reason
    bad = convert_folder(corpus(name), tmp_path / "out", work=Work(0.5)).bad_files
    assert reason in bad[0].reason


@pytest.mark.parametrize("name", ["silsp_noxing.mp3", "f32x7.wav", *BAD])
def test_verify_says_the_same(shared_cases, name, monkeypatch, capsys, caplog):
    from speakervlad.cli import main

    arguments = ["verify", str(shared_cases / name), str(shared_cases / "pipe.flac")]
    monkeypatch.setattr("sys.argv", ["speakervlad", *arguments])
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as stopped:
        main()
    if name in BAD:
        assert stopped.value.code == 2
        assert RIGHT[name] in capsys.readouterr().err
    else:
        assert stopped.value.code in (None, 0, 1)
        assert "decision" in capsys.readouterr().out


# Files of which something is told, or that are left out, by the words; of the rest nothing is said.
TOLD = {name: right[1] for name, right in RIGHT.items() if isinstance(right, tuple) and right[1]}
CANCEL = "its channels cancel each other"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """``run("speech", ...)``: exit code, standard output and standard error of a command."""
    from speakervlad.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["speakervlad", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        shown = capsys.readouterr()
        return stopped.value.code or 0, shown.out, shown.err

    return call


@pytest.fixture
def cases(shared_cases, tmp_path):
    """A copy of the files, of which nothing has been told yet in this process."""
    return Path(shutil.copytree(shared_cases, tmp_path / "cases"))


SMALL = ("--encoder", "small")


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (("speech",), ["float16bit.wav"]),
        (("diarize", "--out", "turns", *SMALL), ["float16bit.wav"]),
        (("embed", "--out", "E.npz", *SMALL), [*BAD, "antiphase.flac"]),
        (("people", "add", "Kim", "--yes", "--store", "people.db", *SMALL), None),
    ],
)
def test_commands_of_many_files_say_the_same(cases, run, words, left_out):
    """Everybody's recordings at once: none stops another, and what is told is told of its file."""
    names = [*GOOD, *BAD, "antiphase.flac", "two_voices.opus"]
    if left_out is None:  # people are enrolled as a whole or not at all
        code, _, told = run(*words, *(cases / name for name in names))
        assert code == 2
        assert "float16bit.wav: there is no decoder for its codec" in told
        names = [name for name in GOOD if name != "q60.wav"]
        code, _, told = run(*words, *(cases / name for name in names))
        assert code == 0
    else:
        code, _, told = run(*words, *(cases / name for name in names), "--max-bad", "100%")
        assert code == 0
        assert f"antiphase.flac: {CANCEL}" in told or "antiphase.flac: silent" in told
        for name in left_out:
            assert f"{name}: " in told
    assert "Traceback" not in told
    for name, remark in TOLD.items():
        if name in names and not (words[0] == "embed" and name == "q60.wav"):
            (line,) = (line for line in told.splitlines() if f"{name}: " in line)
            assert remark in line
    silent = set(names) - {*TOLD, *(left_out or []), "antiphase.flac", "two_voices.opus", *BAD}
    telephone = "no energy above 4 kHz"
    for name in silent:
        lines = [line for line in told.splitlines() if f"{name}: " in line]
        assert all(telephone in line or "far apart" in line for line in lines)


def test_identify_goes_on_after_what_it_cannot_hear(cases, run):
    from speakervlad import examples

    store = ("--store", "people.db", *SMALL)
    assert run("people", "add", "Sam", examples()["sam-1"], *store)[0] == 0
    refused = {"antiphase.flac": CANCEL, "q60.wav": "very quiet"}
    refused |= {name: str(RIGHT[name]) for name in BAD}
    heard = [*(name for name in GOOD if name != "q60.wav"), "two_voices.opus"]
    code, out, told = run("identify", *(cases / name for name in (*refused, *heard)), *store)
    assert code == 2
    assert "Traceback" not in told
    for name, reason in refused.items():
        assert any(f"{name}: " in line and reason in line for line in told.splitlines())
        assert name not in out
    for name in heard:
        (line,) = (
            (line for line in (out + told).splitlines() if "two voices" in line)
            if (name == "two_voices.opus")
            else (line for line in out.splitlines() if name in line)
        )
        assert name in line


@pytest.mark.parametrize("name", ["gsm.wav", "f32x7.wav", "float16bit.wav", "const.wav"])
def test_explain_says_the_same(cases, run, name):
    code, _, told = run("explain", cases / name, "--out", "a.png", *SMALL)
    assert (code == 0) == (name in GOOD)
    assert "Traceback" not in told
    assert (TOLD.get(name, "") if name in GOOD else RIGHT[name]) in told


def test_every_case_has_its_right_value(shared_cases):
    assert {path.name for path in shared_cases.iterdir()} - {"README.md"} == {*RIGHT, *TALKS}


def test_a_float_file_is_embedded_as_the_array_of_its_samples(shared_cases, embedder):
    samples, _ = soundfile.read(shared_cases / "f32x7.wav", dtype="float32")
    assert np.abs(samples).max() > 5
    vector = embedder.embed(shared_cases / "f32x7.wav")
    np.testing.assert_allclose(vector, embedder.embed(samples), atol=1e-6)
    assert vector @ embedder.embed(samples / 7) > 0.99
