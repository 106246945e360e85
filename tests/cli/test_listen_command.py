"""``listen``: standard input, and microphones of a module that stands for sounddevice."""

import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile

from speakervlad import PeopleStore, examples, load_audio, load_turns
from speakervlad.cli.listen import Printer

RATE = 16000


@pytest.fixture(scope="module")
def talk():
    parts = [load_audio(examples()[name]) for name in ("alex-1", "jo-1", "alex-2")]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def wav(talk):
    file = io.BytesIO()
    soundfile.write(file, talk, RATE, "PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture
def pipe(monkeypatch):
    """``pipe(content)``: what standard input holds."""

    def put(content):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=bool))

    return put


class PortAudioError(Exception):
    pass


@pytest.fixture
def microphone(monkeypatch, talk):
    """A module that stands for sounddevice: its microphone gives the talk, and then nothing."""
    module = fake_sounddevice(talk)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def fake_sounddevice(talk):  # noqa: C901
    module = ModuleType("sounddevice")

    class InputStream:
        def __init__(self, *, callback, samplerate, blocksize, **_):
            if module.busy:
                raise PortAudioError("Device unavailable [PaErrorCode -9985]")
            self.callback, self.size, self.active = callback, blocksize, True

        def start(self):
            for start in range(0, len(module.samples), self.size):
                block = module.samples[start : start + self.size, None]
                self.callback(block, len(block), None, None)
            self.active = False

        def close(self):
            module.closed = True

    device = {"index": 0, "name": "Desk mic", "default_samplerate": 16000.0,
              "max_input_channels": 1}  # fmt: skip
    output = {"index": 1, "name": "Speaker", "default_samplerate": 48000.0,
              "max_input_channels": 0}  # fmt: skip

    def query_devices(device_asked=None, kind=None):
        if kind is None:
            return module.devices
        inputs = [each for each in module.devices if each["max_input_channels"]]
        found = [each for each in inputs if device_asked in (None, each["index"], each["name"])]
        if not found:
            raise ValueError(f"No input device matching {device_asked!r}")
        return found[0]

    module.__spec__ = importlib.machinery.ModuleSpec("sounddevice", None)
    vars(module).update(
        InputStream=InputStream, PortAudioError=PortAudioError, query_devices=query_devices,
        devices=[device, output], samples=talk, busy=False, closed=False,
    )  # fmt: skip
    return module


def test_wav_from_standard_input_in_lines_for_people(run, pipe, wav, capsys, tmp_path):
    pipe(wav)
    assert run("listen", "-", "--encoder", "small", "--out", tmp_path / "a.rttm") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0:00:0")
    assert lines[0].endswith("speaker 1")
    assert any("speaker 2" in line for line in lines[1:])
    assert lines[-2].startswith("speaker 1: ")
    (turns,) = load_turns(tmp_path / "a.rttm").values()
    assert set(turns.speakers) == {"speaker_1", "speaker_2"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.rttm"]


def test_json_lines_of_raw_samples_with_names(run, pipe, talk, capsys, tmp_path):
    store = tmp_path / "people.db"
    with PeopleStore(store, "small") as people:
        people.add("Jo", [examples()["jo-2"]])
    pipe(np.round(talk * 32767).astype("<i2").tobytes())
    assert run("listen", "-", "--rate", 16000, "--json", "--store", store) == 0
    *events, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert {event["event"] for event in events} == {"speech"}
    assert set(events[0]) == {"event", "start", "end", "speaker", "corrects"}
    assert summary["event"] == "summary"
    assert {each["name"] for each in summary["speakers"]} == {"speaker 1", "Jo"}
    assert summary["seconds"] == pytest.approx(len(talk) / RATE)


@pytest.mark.parametrize("as_json", [False, True])
def test_who_got_a_name_is_told_once(capsys, as_json):
    diarizer = SimpleNamespace(renamed={})
    printer = Printer(diarizer, as_json=as_json)
    printer.say([])
    diarizer.renamed = {"speaker 2": "Jo"}
    printer.say([])
    printer.say([])
    line = '{"event": "renamed", "speaker": "speaker 2", "now": "Jo"}'
    assert capsys.readouterr().out.splitlines() == [line if as_json else "speaker 2 is Jo"]


def test_ones_own_store_names_speakers_unless_no_names_are_wanted(
    run, pipe, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("SPEAKERVLAD_STORE", str(tmp_path / "people.db"))
    with PeopleStore(tmp_path / "people.db", "small") as people:
        people.add("Jo", [examples()["jo-2"]])
    for options, heard in (([], "Jo"), (["--no-names"], "speaker 1")):
        pipe(wav_of("jo-1"))
        assert run("listen", "-", "--encoder", "small", *options) == 0
        assert f"{heard}: " in capsys.readouterr().out


def test_a_terminal_that_sends_no_sound_is_told_so(run, monkeypatch, capsys):
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=terminal))
    assert run("listen", "-", "--encoder", "small") == 2
    assert "nobody sends sound to standard input" in capsys.readouterr().err


def test_what_is_said_is_enrolled(run, pipe, capsys, tmp_path):
    store, file = tmp_path / "people.db", io.BytesIO()
    soundfile.write(file, load_audio(examples()["alex-1"]), RATE, format="WAV")
    pipe(file.getvalue())
    assert run("listen", "-", "--encoder", "small", "--add", "Alex", "--store", store) == 0
    assert "Alex: enrolled by" in capsys.readouterr().err
    with PeopleStore(store, "small") as people:
        (answer,) = people.identify([examples()["alex-2"]])
        assert answer.name == "Alex"
    # Two voices are a doubt, and nobody is there to answer.
    pipe(file.getvalue() and wav_of("alex-1", "jo-1"))
    assert run("listen", "-", "--encoder", "small", "--add", "Both", "--store", store) == 2
    assert "2 voices" in capsys.readouterr().err
    with PeopleStore(store, "small") as people:
        assert [each.name for each in people.people()] == ["Alex"]


def wav_of(*names):
    file = io.BytesIO()
    samples = np.concatenate([load_audio(examples()[name]) for name in names])
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


def test_a_microphone_that_is_unplugged_loses_nothing(run, microphone, capsys, tmp_path):
    assert run("listen", "--encoder", "small", "--out", tmp_path / "a.json") == 2
    printed = capsys.readouterr()
    assert "error: Desk mic: gives no more sound. Was it unplugged?" in printed.err
    assert "speaker 1: " in printed.out
    assert list(load_turns(tmp_path / "a.json")["a"].speakers) == ["speaker 1", "speaker 2"]
    assert microphone.closed


def test_microphones_are_listed(run, microphone, capsys):
    assert run("listen", "--list-devices") == 0
    assert capsys.readouterr().out == "*   0  Desk mic  (16000 Hz)\n"
    microphone.devices = []
    assert run("listen", "--list-devices") == 2
    assert "no microphone was found" in capsys.readouterr().err


def test_what_keeps_a_microphone_from_being_heard_is_said_in_a_line(run, microphone, capsys):
    microphone.busy = True
    assert run("listen", "--encoder", "small") == 2
    assert "Desk mic: cannot be opened (Device unavailable" in capsys.readouterr().err
    assert run("listen", "--device", "7", "--encoder", "small") == 2
    assert "--device 7: no such microphone" in capsys.readouterr().err
    microphone.devices = []
    assert run("listen", "--encoder", "small") == 2
    assert "no microphone was found" in capsys.readouterr().err


def test_portaudio_or_sounddevice_missing(run, monkeypatch, capsys, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    assert run("listen", "--list-devices") == 2
    assert "PortAudio (PortAudio library not found). Install it" in capsys.readouterr().err
    (tmp_path / "sounddevice.py").unlink()
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "sounddevice" else found(name)
    )
    assert run("listen", "--list-devices") == 2
    assert "pip install 'speakervlad[live]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.wav"], "diarize"),
        (["-", "--device", "1"], "Give one of them"),
        (["--rate", "8000"], "raw samples"),
        (["-", "--out", "a.xyz"], ".rttm"),
        (["-", "--format", "mp3"], "--format mp3"),
        (["-"], "nothing came"),
    ],
)
def test_what_does_not_go_together_is_said(run, pipe, capsys, arguments, words, tmp_path):
    pipe(b"")
    assert run("listen", *arguments, "--encoder", "small") == 2
    error = capsys.readouterr().err.splitlines()
    assert words in error[-1]
    assert len(error) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_with_a_summary(wav):
    process = subprocess.Popen(
        [sys.executable, "-m", "speakervlad", "listen", "-", "--encoder", "small"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(wav)
    process.stdin.flush()
    first = process.stdout.readline()
    # The pipe stays open, so the command waits for more.
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read().decode()
    assert process.wait(60) == 0
    assert first.decode().strip().endswith("speaker 1")
    assert "speaker 1: " in rest
