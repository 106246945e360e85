"""``verify``: where it decides, what it warns of, and what it refuses before it says anything."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from speakervlad import __version__
from speakervlad.encoder.location import find_encoder
from speakervlad.scoring.calibration import Calibration, save_calibration


@pytest.fixture
def run(run):
    """With the smaller encoder, unless another one is named."""

    def call(command, *arguments):
        is_named = command != "verify" or "--encoder" in arguments
        return run(command, *arguments, *(() if is_named else ("--encoder", "small")))

    return call


@pytest.fixture
def pair(make_speech, tmp_path):
    return make_speech(tmp_path / "a.wav"), make_speech(tmp_path / "b.wav", seed=1)


@pytest.fixture
def encoder(tmp_path):
    """The exported encoder that ships, with its thresholds and its calibration beside it."""
    for name in ("model.onnx", "thresholds.json", "calibration.json"):
        shutil.copy(find_encoder("small") / name, tmp_path)
    return tmp_path / "model.onnx"


def refusal(run, capsys, *arguments):
    """The line on stderr with which ``verify`` ends before it prints anything."""
    assert run("verify", *arguments) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n") == 1
    return shown.err


def answer(run, capsys, *arguments):
    """Exit code, and the JSON object that ``verify --json`` prints."""
    code = run("verify", *arguments, "--json")
    return code, json.loads(capsys.readouterr().out)


def test_a_false_acceptance_rate_chooses_the_threshold(run, capsys, pair, encoder):
    known = json.loads((encoder.parent / "thresholds.json").read_text())
    run("verify", *pair, "--encoder", encoder, "--far", "0.001")
    shown = capsys.readouterr()
    assert f"threshold   {known['false_accept_rate']['0.001']:.4f}" in shown.out
    assert "evidence" in shown.out
    assert "probability" not in shown.out
    assert "decided by  the threshold for a false-acceptance rate of 0.001" in shown.out
    assert not shown.err


def test_any_rate_has_a_threshold_that_the_impostors_can_tell_of(run, capsys, pair, encoder):
    lower, threshold, upper = (
        answer(run, capsys, *pair, "--encoder", encoder, "--far", rate)[1]["threshold"]
        for rate in (0.005, 0.004, 0.003)
    )
    assert lower < threshold < upper
    line = refusal(run, capsys, *pair, "--encoder", encoder, "--far", "1e-9")
    assert "no threshold for a false-acceptance rate of 1e-09: known from" in line


def test_another_calibration_and_other_costs_decide(run, capsys, pair, encoder, tmp_path):
    code, own = answer(run, capsys, *pair, "--encoder", encoder)
    other = tmp_path / "other.json"
    save_calibration(other, Calibration((1.0,), -0.9 * own["score"]))
    code, found = answer(run, capsys, *pair, "--encoder", encoder, "--calibration", other)
    assert code == 0
    assert found["same"]
    assert found["log_likelihood_ratio"] == pytest.approx(0.1 * own["score"])
    costly = ("--calibration", other, "--c-fa", 100)
    code, found = answer(run, capsys, *pair, "--encoder", encoder, *costly)
    assert code == 1
    assert not found["same"]
    assert 0.5 < found["probability"] < 0.99
    assert "from a probability of 99.01% on" in found["rule"]
    rare = ("--calibration", other, "--p-target", 0.001)
    code, found = answer(run, capsys, *pair, "--encoder", encoder, *rare)
    assert (code, found["same"]) == (1, False)
    assert found["probability"] < 0.01


def test_quiet_answers_by_the_exit_code_alone(run, capsys, pair):
    assert run("verify", pair[0], pair[0], "--quiet") == 0
    assert run("verify", *pair, "--threshold", 1, "--quiet") == 1
    shown = capsys.readouterr()
    assert not shown.out + shown.err


def test_standard_input_is_a_recording(run, capsys, pair, monkeypatch):
    _, expected = answer(run, capsys, *pair)
    with pair[0].open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        _, found = answer(run, capsys, "-", pair[1])
    assert found["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert found["first"] == "-"
    assert "standard input holds one recording" in refusal(run, capsys, "-", "-")


def test_pairs_of_a_list_have_a_line_each(run, capsys, pair, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("a.wav,b.wav\na.wav,a.wav\n")
    _, expected = answer(run, capsys, *pair, "--threshold", 0.999)
    assert run("verify", "--pairs", listed, "--threshold", 0.999) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["different", f"{expected['score']:.4f}", "", "a.wav", "b.wav"]
    assert lines[1].split("\t") == ["same", "1.0000", "", "a.wav", "a.wav"]
    assert len(lines) == 2
    run("verify", "--pairs", listed, "--json")
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [found["second"] for found in objects] == ["b.wav", "a.wav"]
    assert objects[0]["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_a_recording_that_cannot_be_used_costs_its_pairs_alone(run, capsys, pair, tmp_path):
    moved = tmp_path / "elsewhere" / "list.txt"
    moved.parent.mkdir()
    moved.write_text("a.wav absent.wav 0\na.wav b.wav 1\n")
    assert run("verify", "--pairs", moved, "--root", tmp_path) == 2
    bad, good = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert bad[0] == "error"
    assert "absent.wav" in bad[5]
    assert good[0] in ("same", "different")
    run("verify", "--pairs", moved, "--root", tmp_path, "--json")
    assert "absent.wav" in json.loads(capsys.readouterr().out.splitlines()[0])["error"]


def test_a_channel_of_a_file_is_a_recording(run, capsys, pair, tmp_path):
    sides = [soundfile.read(path)[0] for path in pair]
    soundfile.write(tmp_path / "call.wav", np.stack(sides, axis=1), 16000)
    _, expected = answer(run, capsys, *pair)
    call = tmp_path / "call.wav"
    _, found = answer(run, capsys, f"{call}:0", f"{call}:1")
    assert found["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert "channel 2 asked, has 2 channel(s)" in refusal(run, capsys, f"{call}:2", f"{call}:1")
    assert "none.wav" in refusal(run, capsys, f"{tmp_path / 'none.wav'}:0", call)


def test_a_file_whose_name_ends_like_a_channel_wins_and_says_so(run, capsys, pair, tmp_path):
    odd = tmp_path / "a.wav:1"
    odd.write_bytes(pair[1].read_bytes())
    assert run("verify", odd, pair[1], "--quiet") == 0
    assert "a.wav:1: taken for the file of that name, not for a channel" in capsys.readouterr().err
    assert run("verify", f"{odd}:0", pair[1], "--quiet") == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "nan"], "--threshold nan: is not finite"),
        (["--threshold=-inf"], "--threshold -inf: is not finite"),
        (["--threshold", "0.5", "--far", "0.01"], "Give one of them"),
        (["--p-target", "2"], "operating point 2: p_target must lie between 0 and 1"),
        (["--p-target", "0"], "operating point 0: p_target must lie between 0 and 1"),
        (["--c-fa", "-1"], "costs above 0"),
        (["--p-target", "0.1", "--far", "0.01"], "Give one of them"),
        (["--calibration", "absent.json"], "absent.json: No such file"),
    ],
)
def test_impossible_options_are_refused(run, capsys, pair, options, words):
    assert words in refusal(run, capsys, *pair, *options)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"weights": [1, 2], "bias": 0, "quality": [], "p_target": 0.5, '
        '"num_target": 1, "num_nontarget": 1}',
    ],
)
def test_a_useless_calibration_is_refused(run, capsys, pair, encoder, text):
    (encoder.parent / "calibration.json").write_text(text)
    assert run("verify", *pair, "--encoder", encoder) == 2
    # Before the error may stand that no weights are named, as 0.2.0 wrote calibrations.
    assert "calibration" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no rows"),
        (b"first,second\n", "no rows"),
        (b"a.wav,b.wav\na.wav\n,b.wav\n", "2 rows are no pair of names, first 'a.wav'"),
        (b"a.wav,\xff.wav\n", "no CSV in UTF-8"),
    ],
)
def test_a_list_without_pairs_is_refused(run, capsys, tmp_path, text, words):
    (tmp_path / "list.csv").write_bytes(text)
    assert words in refusal(run, capsys, "--pairs", tmp_path / "list.csv")


def test_pairs_or_two_recordings(run, capsys, pair, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("a.wav,b.wav\n")
    assert "or --pairs alone" in refusal(run, capsys, *pair, "--pairs", listed)
    assert "give two recordings" in refusal(run, capsys, pair[0])


def test_short_speech_is_warned_of(run, capsys, make_speech, pair, tmp_path):
    short = make_speech(tmp_path / "short.wav", 1.25)
    samples = soundfile.read(short)[0]
    soundfile.write(short, np.concatenate([samples, np.zeros(32000)]), 16000)
    run("verify", short, pair[0])
    shown = capsys.readouterr()
    assert re.match(
        rf"WARNING  {re.escape(str(short))}: 1\.[1-4]\d s of speech: below 2 s", shown.err
    )
    assert shown.err.count("\n") == 1
    assert "probability" in shown.out


def test_a_recording_without_speech_is_no_answer(run, capsys, make_wav, pair, tmp_path):
    tone = make_wav(tmp_path / "tone.wav", 2.5)
    words = f"{tone}: 0.00 s of speech found in 2.50 s, at least 0.25 s are needed. Record again."
    for others in ((tone, pair[0]), (pair[0], tone), (tone, tone)):
        assert refusal(run, capsys, *others) == f"error: {words}\n"
    assert run("verify", tone, tone, "--any-sound", "--quiet") == 0


def test_two_recordings_that_cannot_be_used_are_both_named(run, capsys, make_wav, tmp_path):
    tone, absent = make_wav(tmp_path / "tone.wav", 2.5), tmp_path / "absent.wav"
    line = refusal(run, capsys, tone, absent)
    assert f"{tone}: 0.00 s of speech found" in line
    assert f"{absent}: no such file" in line


@pytest.mark.filterwarnings("error")
def test_a_channel_is_proposed_where_there_are_several(run, capsys, pair, tmp_path):
    silent, dull = tmp_path / "silent.wav", tmp_path / "dull.wav"
    for num_channels, way_out in ((1, ""), (2, " or choose a channel")):
        soundfile.write(silent, np.zeros((16000, num_channels)), 16000)
        noise = np.random.default_rng(0).normal(0, 0.1, (16000, num_channels))
        soundfile.write(dull, noise, 16000)
        assert f"Remove it{way_out}.\n" in refusal(run, capsys, silent, pair[0])
        assert f"Record again{way_out.replace(' or', ', or')}.\n" in refusal(
            run, capsys, pair[0], dull
        )


def test_an_answer_of_sounds_that_nobody_speaks_in_is_doubted(run, capsys, pair, tmp_path):
    rng, noises = np.random.default_rng(0), [tmp_path / "a-noise.wav", tmp_path / "b-noise.wav"]
    for noise in noises:
        soundfile.write(noise, rng.normal(0, 0.1, 1600), 16000)
    run("verify", *noises, "--any-sound")
    lines = capsys.readouterr().out.splitlines()
    decision = next(line for line in lines if line.startswith("decision"))
    assert decision.endswith(", but not to be trusted")
    doubts = [line.removeprefix("doubt       ") for line in lines if line.startswith("doubt ")]
    assert doubts == [f"{noise}: 0.00 s of speech: no voice to compare" for noise in noises]
    _, found = answer(run, capsys, pair[0], noises[1], "--any-sound")
    assert found["doubts"] == doubts[1:]
    (tmp_path / "list.csv").write_text("a.wav,a.wav\na.wav,a-noise.wav\n")
    run("verify", "--pairs", tmp_path / "list.csv", "--any-sound")
    certain, doubtful = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert len(certain) == 5
    assert doubtful[5] == doubts[0]


def test_speech_only_compares_speech_alone(run, capsys, pair, tmp_path):
    samples = soundfile.read(pair[0])[0]
    padded = tmp_path / "padded.wav"
    noise = 3e-3 * np.random.default_rng(0).standard_normal(5 * 16000)
    soundfile.write(padded, np.concatenate([noise, samples, noise]), 16000)
    _, whole = answer(run, capsys, padded, pair[0])
    _, speech = answer(run, capsys, padded, pair[0], "--speech-only")
    assert speech["score"] > 0.9 > whole["score"]


def test_version(run, capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"speakervlad {__version__}\n"
