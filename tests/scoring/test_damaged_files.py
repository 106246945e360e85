"""Whatever happens to a file on its way, the reader answers with one error users understand."""

import gzip

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration, load_calibration, save_calibration
from speakervlad.scoring.enrolment import load_enrolment
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.scores import read_scores
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import load_embeddings, save_embeddings

LIST = b"1 a/1.wav b/2.wav\n0 a/1.wav c/3.wav\n" * 5
NIST = b"modelid\tsegmentid\tside\ttargettrial\n1\tx\ta\ttarget\n2\ty\tb\tnontarget\n"
TEXTS = {
    "list": (LIST, load_trials),
    "gzip": (gzip.compress(LIST), load_trials),
    "nist": (NIST, load_trials),
    "scores": (b"a/1.wav b/2.wav 0.5 1\na/1.wav c/3.wav 0.25 0\n" * 5, read_scores),
    "enrolment": (b"m a b c\nk d e\n", load_enrolment),
}
INSERTED = [b"\n", b"\t", b" ", b"\0", b"nan", b"1", b"\xff", b"target"]


def damaged(content, rng):
    """A few random bytes changed, cut out or put in."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(content) + 1))
        match rng.integers(4):
            case 0:
                content[place : place + 1] = bytes([rng.integers(256)])
            case 1:
                del content[place : place + 9]
            case 2:
                content[place:place] = INSERTED[rng.integers(len(INSERTED))]
            case _:
                del content[max(place, len(content) // 2) :]
    return bytes(content)


def read_damaged(content, read, path):
    """Damage and read again and again; anything but success or a user's error fails the test."""
    num_refused = 0
    for seed in range(150):
        path.write_bytes(damaged(content, np.random.default_rng(seed)))
        try:
            read(path)
        except (InputError, OSError):
            num_refused += 1
    assert num_refused > 0


@pytest.mark.parametrize("kind", TEXTS)
def test_text(tmp_path, kind):
    read_damaged(*TEXTS[kind], tmp_path / "file.txt")


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("suffix", [".npz", ".ark", ".scp", ".parquet"])
def test_embeddings(tmp_path, rng, suffix):
    table = Embeddings(np.array(["a", "b", "cc"]), rng.normal(size=(3, 4)))
    save_embeddings(tmp_path / f"good{suffix}", table)
    content = (tmp_path / f"good{suffix}").read_bytes()
    read_damaged(content, load_embeddings, tmp_path / f"bad{suffix}")


def test_calibration(tmp_path):
    save_calibration(tmp_path / "good.json", Calibration((1.0,), 0.0))
    content = (tmp_path / "good.json").read_bytes()
    read_damaged(content, load_calibration, tmp_path / "bad.json")
