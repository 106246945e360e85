"""The public names: one idiom, one page that lists them, and old names that still work."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import speakervlad
from speakervlad.deprecated import MOVED, NAMES
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/python.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLIC = [name for name in dir(speakervlad) if not name.startswith("_")]
PUBLIC_MODULES = {"audio", "parts", "testing", "progress"}
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"from speakervlad import (?:\(([^)]*)\)|(.*))")


def test_the_page_lists_every_public_name():
    rows = re.findall(r"^\| [\w ]+ \| (`.*)\|$", PAGE, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_imported_and_is_documented(name):
    assert getattr(speakervlad, name).__doc__


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_import_public_names_alone(path):
    code = "\n".join(CODE.findall(path.read_text("utf-8")))
    names = [
        name.strip()
        for group in IMPORT.findall(code)
        for name in ",".join(group).split(",")
        if name.strip()
    ]
    assert [name for name in names if name not in PUBLIC] == []
    assert set(re.findall(r"from speakervlad\.(\w+)", code)) <= PUBLIC_MODULES


def test_one_idiom_reads_and_writes_files():
    assert [name for name in PUBLIC if name.startswith(("read_", "write_"))] == []
    for name in PUBLIC:
        kept = {"load", "save", "read", "write"} & vars(getattr(speakervlad, name)).keys()
        if name == "EncoderStream":  # its state is written while it goes on, not the stream read
            kept -= {"save"}
        assert all(
            "Deprecated" in vars(getattr(speakervlad, name))[method].__doc__ for method in kept
        ), name


@pytest.mark.parametrize("old", NAMES)
def test_an_old_name_is_the_new_one_and_warns(old):
    with pytest.warns(DeprecationWarning, match=rf"{old} is called speakervlad\.{NAMES[old]} now"):
        found = getattr(speakervlad, old)
    assert found is getattr(speakervlad, NAMES[old])
    assert old not in PUBLIC


@pytest.mark.parametrize("name", MOVED)
def test_names_that_have_left_the_package_say_where_they_are(name):
    with pytest.raises(AttributeError, match=rf"speakervlad\.{name} has moved: ") as told:
        getattr(speakervlad, name)
    path = ROOT / str(told.value).split()[3]
    assert f"def {name}(" in path.read_text("utf-8")
    assert name not in PUBLIC


@pytest.fixture
def values(tmp_path):
    """One of each class that had methods for its file: the method, and what reads it back."""
    names = {"utterance_ids": ["a", "b"], "paths": ["a.wav", "b.wav"], "num_samples": [1, 2]}
    manifest = Manifest.of(tmp_path, **names, speakers=["x", "y"], sessions=["s", "t"])
    trials = Trials.from_ids(["a"], ["b"], np.array([True]))
    return {
        "Manifest.save": (manifest.save, "m.csv", speakervlad.load_manifest),
        "Embeddings.save": (
            Embeddings(np.array(["a"]), np.ones((1, 2))).save,
            "E.npz",
            speakervlad.load_embeddings,
        ),
        "Calibration.save": (
            Calibration((1.0,), 0.0).save,
            "c.json",
            speakervlad.load_calibration,
        ),
        "Trials.write": (trials.write, "t.txt", speakervlad.load_trials),
    }


@pytest.mark.parametrize(
    "method", ["Manifest.save", "Embeddings.save", "Calibration.save", "Trials.write"]
)
def test_methods_that_wrote_files_still_do_and_warn(values, tmp_path, method):
    write, name, read = values[method]
    with pytest.warns(DeprecationWarning, match=rf"{method} is called save_\w+ now"):
        write(tmp_path / name)
    assert type(read(tmp_path / name)).__name__ == method.split(".")[0]


def test_methods_that_read_files_still_do_and_warn(values, tmp_path):
    speakervlad.save_embeddings(tmp_path / "E.npz", Embeddings(np.array(["a"]), np.ones((1, 2))))
    with pytest.warns(DeprecationWarning, match="Embeddings.load is called load_embeddings now"):
        assert Embeddings.load(tmp_path / "E.npz").ids == ["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values["Manifest.save"][0](tmp_path / "m.csv")
    with pytest.warns(DeprecationWarning, match="Manifest.load is called load_manifest now"):
        assert list(Manifest.load(tmp_path / "m.csv").speakers) == ["x", "y"]
