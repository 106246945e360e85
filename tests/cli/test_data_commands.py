import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speakervlad.cli import main
from speakervlad.corpus.layouts import LAYOUTS
from speakervlad.tables.manifest import load_manifest


@pytest.fixture
def run(monkeypatch):
    """Run the command line in this process; returns its exit code."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code

    return run_command


@pytest.fixture
def corpus(tmp_path, make_wav):
    for number in range(3):
        make_wav(tmp_path / "corpus" / f"speaker{number % 2}" / "s" / f"{number}.wav", 0.5)
    return tmp_path / "corpus"


@pytest.mark.parametrize("out", ["corpus/m.csv", "m.csv", "elsewhere/m.csv"])
def test_prepare(run, corpus, tmp_path, out, capsys):
    assert run("prepare", corpus, tmp_path / out, "--layout", "speaker-folders") == 0
    manifest = load_manifest(tmp_path / out)
    assert len(manifest) == 3
    assert manifest.path(1).samefile(corpus / "speaker0" / "s" / "2.wav")
    assert "3 utterances of 2 speakers" in capsys.readouterr().err


def test_help_is_quick_complete_and_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['speakervlad', 'prepare', '--help']\n"
        "from speakervlad.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'soundfile', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(layout in done.stdout for layout in LAYOUTS)


def test_bad_files_stop_or_are_listed(run, corpus, tmp_path, capsys):
    (corpus / "speaker0" / "s" / "bad.wav").write_text("text")
    out, bad_list = tmp_path / "m.csv", tmp_path / "bad.csv"
    assert run("prepare", corpus, out, "--bad-list", bad_list) == 2
    errors = capsys.readouterr().err
    assert "bad.wav: not an audio file" in errors
    assert "1 of 4 files cannot be used, more than 1.00% (--max-bad)" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "corpus"]
    refused = bad_list.read_text()
    assert run("prepare", corpus, out, "--max-bad", "25%", "--bad-list", bad_list) == 0
    assert bad_list.read_text() == refused
    assert len(load_manifest(out)) == 3
    assert bad_list.read_text().splitlines()[1].startswith("speaker0/s/bad,")
    assert "1 bad files left out" in capsys.readouterr().err


def test_decode_option(run, corpus, tmp_path):
    samples = np.tile(np.linspace(-0.1, 0.1, 100), 800)
    samples[0] = np.nan
    soundfile.write(corpus / "speaker0" / "s" / "nan.wav", samples, 16000, subtype="FLOAT")
    assert run("prepare", corpus, tmp_path / "m.csv") == 0
    assert run("prepare", corpus, tmp_path / "m.csv", "--decode") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "m.csv"], "nowhere: no such folder"),
        (["corpus", "m.csv", "--layout", "voxcelb"], "Did you mean 'voxceleb'"),
        (["corpus", "m.csv", "--max-bad", "much"], "--max-bad: 'much' is not a fraction"),
        (["corpus", "m.csv", "--max-bad", "150%"], "--max-bad: '150%' is not a fraction"),
        (["corpus", "corpus"], "corpus: is a folder"),
        (["corpus", "file/m.csv"], "cannot be written"),
        (["corpus", "m.csv", "--layout", "kaldi"], "wav.scp: no such file"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    run, corpus, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    assert run("prepare", *arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_pack(run, corpus, tmp_path, capsys):
    run("prepare", corpus, tmp_path / "m.csv")
    assert run("pack", tmp_path / "m.csv", tmp_path / "packed") == 0
    names = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert names == ["manifest.csv", "shard-00000.pcm16", "shards.json"]
    packed = load_manifest(tmp_path / "packed" / "manifest.csv")
    assert packed.path(0).name == "shard-00000.pcm16@0+8000"
    assert "3 utterances packed" in capsys.readouterr().err


def test_pack_with_an_unreadable_file(run, corpus, tmp_path, capsys):
    run("prepare", corpus, tmp_path / "m.csv")
    (corpus / "speaker0" / "s" / "0.wav").unlink()
    arguments = ("pack", tmp_path / "m.csv", tmp_path / "packed", "--bad-list", tmp_path / "b.csv")
    assert run(*arguments) == 2
    errors = capsys.readouterr().err
    assert "0.wav: no such file" in errors
    assert "1 of 3 files cannot be used, more than 1.00% (--max-bad)" in errors
    assert not (tmp_path / "packed" / "manifest.csv").exists()
    assert run(*arguments, "--max-bad", "40%") == 0
    assert len(load_manifest(tmp_path / "packed" / "manifest.csv")) == 2
    assert (tmp_path / "b.csv").read_text().splitlines()[1].startswith("speaker0/s/0,")


def test_pack_and_convert_on_a_full_disk(run, corpus, tmp_path, capsys, full_disk):
    run("prepare", corpus, tmp_path / "m.csv")
    capsys.readouterr()
    with full_disk(5000):
        assert run("pack", tmp_path / "m.csv", tmp_path / "packed", "--workers", "0") == 2
        assert run("convert-audio", corpus, tmp_path / "flac", "--workers", "0") == 2
    pack_error, convert_error = capsys.readouterr().err.splitlines()
    assert "packed/shard-00000.pcm16: cannot be written (File too large)" in pack_error
    assert "flac/speaker0/s/0.flac: cannot be written (File too large)" in convert_error


def test_convert(run, corpus, tmp_path, capsys):
    assert run("convert-audio", corpus, tmp_path / "flac") == 0
    assert "3 files converted, 0 were there already" in capsys.readouterr().err
    assert run("convert-audio", corpus, tmp_path / "flac") == 0
    assert "0 files converted, 3 were there already" in capsys.readouterr().err
    assert run("convert-audio", tmp_path / "nowhere", tmp_path / "flac") == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_convert_lists_bad_files(run, corpus, tmp_path, capsys):
    (corpus / "speaker0" / "s" / "bad.wav").write_text("text")
    arguments = ("convert-audio", corpus, tmp_path / "flac", "--bad-list", tmp_path / "bad.csv")
    assert run(*arguments, "--max-bad", "25%") == 0
    assert "1 cannot be read" in capsys.readouterr().err
    header, row = (tmp_path / "bad.csv").read_text().splitlines()
    assert header == "file,reason"
    assert row.startswith("speaker0/s/bad.wav,")
