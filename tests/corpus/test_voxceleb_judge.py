"""``recipes/voxceleb/judge.py`` on a made tree with the names of VoxCeleb1."""

import hashlib
import json

import numpy as np
import pytest
import soundfile

from speakervlad.audio.examples import examples
from speakervlad.audio.spans import load_audio
from speakervlad.errors import InputError

SPEAKERS = {"alex": "id10270", "kim": "id10271", "jo": "id11251"}


@pytest.fixture
def judge(load_script, tmp_path, monkeypatch):
    """The recipe, with one published list, whose recordings lie in both parts of the corpus."""
    names = []
    for clip, path in examples().items():
        person, number = clip.split("-")
        if person in SPEAKERS:
            part, suffix = ("dev", "wav") if person == "jo" else ("test", "flac")
            name = f"{SPEAKERS[person]}/video/{int(number):05}"
            target = tmp_path / "vox1" / part / "wav" / f"{name}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, load_audio(path), 16000)
            names.append(f"{name}.wav")
    pairs = [(a, b) for number, a in enumerate(names) for b in names[:number]]
    lines = [f"{int(a[:7] == b[:7])} {a} {b}\n" for a, b in pairs]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "veri_test2.txt").write_text("".join(lines))
    module = load_script("recipes/voxceleb/judge.py")
    digest = hashlib.md5("".join(lines).encode()).hexdigest()
    published = module.PublishedList("Vox1-O", digest, len(lines))
    monkeypatch.setattr(module, "LISTS", {"veri_test2.txt": published})
    return module


def test_encoders_are_judged_on_the_published_list_and_not_embedded_twice(
    judge, tmp_path, capsys, monkeypatch
):
    folders = tmp_path / "vox1", tmp_path / "lists", tmp_path / "out"
    judge.main(*folders, encoder=["small"], resamples=10, max_bad="0%")
    printed = capsys.readouterr().out
    assert printed.startswith("Vox1-O            small         EER ")
    numbers = json.loads((tmp_path / "out" / "Vox1-O.json").read_text())["small"]
    assert 0 <= numbers["eer"] < 0.5
    assert "small" in (tmp_path / "out" / "Vox1-O.html").read_text()
    assert (tmp_path / "out" / "Vox1-O-small.txt").is_file()
    monkeypatch.delattr(judge, "write_embeddings")
    judge.main(*folders, encoder=["small"], resamples=10, max_bad="0%")
    assert capsys.readouterr().out == printed


def test_what_is_not_as_published_is_refused_before_any_work(judge, tmp_path):
    folders = tmp_path / "vox1", tmp_path / "lists", tmp_path / "out"
    (tmp_path / "vox1/dev/wav/id11251/video/00002.wav").unlink()
    with pytest.raises(InputError, match="1 of 8 recordings are missing: id11251/video/00002"):
        judge.main(*folders, encoder=["small"])
    with (tmp_path / "lists" / "veri_test2.txt").open("a") as file:
        file.write("1 id10270/video/00001.wav id10270/video/00002.wav\n")
    with pytest.raises(InputError, match=r"29 trials with the MD5 sum \w+; published are 28"):
        judge.main(*folders, encoder=["small"])
    with pytest.raises(InputError, match="holds none of"):
        judge.main(tmp_path / "vox1", tmp_path / "vox1", tmp_path / "out")


def test_bad_recordings_leave_their_trials_out(judge, tmp_path, capsys):
    (tmp_path / "vox1/dev/wav/id11251/video/00002.wav").write_bytes(b"no audio")
    folders = tmp_path / "vox1", tmp_path / "lists", tmp_path / "out"
    judge.main(*folders, encoder=["small"], resamples=0, max_bad="20%")
    assert (
        "7 trials of bad recordings are left out" in (tmp_path / "out" / "Vox1-O.html").read_text()
    )
    scored = np.loadtxt(tmp_path / "out" / "Vox1-O-small.txt", dtype=str)
    assert len(scored) == 21
