"""Small files that go wrong elsewhere, through every door; they lie beside the checkout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakervlad.audio.examples import examples
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
    return load_encoder("small")


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
def test_verify_says_the_same(shared_cases, name, run, capsys):
    code = run("verify", shared_cases / name, shared_cases / "pipe.flac")
    shown = capsys.readouterr()
    if name in BAD:
        assert code == 2
        assert RIGHT[name] in shown.err
    else:
        assert code in (0, 1)
        assert "decision" in shown.out


# What is told of a file that is read; of the rest nothing but that it is telephone audio.
TOLD = {name: right[1] for name, right in RIGHT.items() if isinstance(right, tuple) and right[1]}
CANCEL = "its channels cancel each other"
MAY_BE_TOLD = ("no energy above 4 kHz", "far apart", "is there already")
SMALL = ("--encoder", "small")


@pytest.fixture
def answer(run, capsys, monkeypatch, tmp_path):
    """``answer("speech", ...)``: exit code, standard output and standard error of a command."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = run(*words)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return call


@pytest.fixture
def cases(shared_cases, tmp_path):
    """A copy of the files, of which nothing has been told yet in this process."""
    return Path(shutil.copytree(shared_cases, tmp_path / "cases"))


def told_of(name, told):
    return [line for line in told.splitlines() if f"{name}: " in line]


def check_what_is_told(names, told):
    for name in names:
        lines = [line for line in told_of(name, told) if not any(w in line for w in MAY_BE_TOLD)]
        assert len(lines) == (name in TOLD), lines
        assert TOLD.get(name, "") in "".join(lines)


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (("speech",), ["float16bit.wav"]),
        (("diarize", "--out", "turns", *SMALL), ["float16bit.wav"]),
        (("embed", "--out", "E.npz", *SMALL), [*BAD, "antiphase.flac"]),
    ],
)
def test_no_file_stops_the_others_and_what_is_told_is_told_of_its_file(
    cases, answer, words, left_out
):
    paths = [cases / name for name in (*GOOD, *BAD, "antiphase.flac", "two_voices.opus")]
    code, _, told = answer(*words, *paths, "--max-bad", "100%")
    assert code == 0
    (line,) = (line for line in told_of("antiphase.flac", told) if CANCEL in line)
    assert "--channel 0" in line
    for name in left_out:
        assert told_of(name, told)
    is_quiet_alone_told = words[0] != "embed"
    check_what_is_told([name for name in GOOD if name != "q60.wav" or is_quiet_alone_told], told)


def test_people_are_enrolled_of_what_can_be_heard(cases, answer):
    words = ("people", "add", "Kim", "--yes", "--store", "people.db", *SMALL)
    for name, reason in {"antiphase.flac": CANCEL, "q60.wav": "very quiet"}.items():
        code, _, told = answer(*words, cases / "gsm.wav", cases / name)
        assert code == 2
        assert any(reason in line for line in told_of(name, told))
    for name in BAD:
        code, _, told = answer(*words, cases / name)
        assert code == 2
        assert RIGHT[name] in "".join(told_of(name, told))
    heard = [name for name in GOOD if name != "q60.wav"]
    code, _, told = answer(*words, *(cases / name for name in heard))
    assert code == 0
    check_what_is_told(heard, told)
    _, out, _ = answer("people", "list", "--json", "--store", "people.db")
    (kim,) = json.loads(out)
    heard.remove("size0.wav")  # the samples of pipe.flac
    assert kim["seconds"] == pytest.approx(sum(RIGHT[name][0] for name in heard), abs=0.2)


def test_identify_goes_on_after_what_it_cannot_hear(cases, answer):
    store = ("--store", "people.db", *SMALL)
    assert answer("people", "add", "Sam", examples()["sam-1"], *store)[0] == 0
    refused = {"antiphase.flac": CANCEL, "q60.wav": "very quiet"}
    refused |= {name: RIGHT[name] for name in BAD}
    heard = [*(name for name in GOOD if name != "q60.wav"), "two_voices.opus"]
    code, out, told = answer("identify", *(cases / name for name in (*refused, *heard)), *store)
    assert code == 2
    for name, reason in refused.items():
        assert any(reason in line for line in told_of(name, told))
        assert name not in out
    for name in heard:
        assert len([line for line in out.splitlines() if name in line]) == 1
        says_so = any("two voices" in line for line in told_of(name, told))
        assert says_so == (name == "two_voices.opus")


@pytest.mark.parametrize("name", ["gsm.wav", "f32x7.wav", "float16bit.wav", "const.wav"])
def test_explain_says_the_same(cases, answer, name):
    code, _, told = answer("explain", cases / name, "--out", "a.png", *SMALL)
    assert (code == 0) == (name in GOOD)
    assert (TOLD.get(name, "") if name in GOOD else RIGHT[name]) in told


def test_every_case_has_its_right_value(shared_cases):
    assert {path.name for path in shared_cases.iterdir()} - {"README.md"} == {*RIGHT, *TALKS}


def test_a_float_file_is_embedded_as_the_array_of_its_samples(shared_cases, embedder):
    samples, _ = soundfile.read(shared_cases / "f32x7.wav", dtype="float32")
    assert np.abs(samples).max() > 5
    vector = embedder.embed(shared_cases / "f32x7.wav")
    np.testing.assert_allclose(vector, embedder.embed(samples), atol=1e-6)
    assert vector @ embedder.embed(samples / 7) > 0.99
