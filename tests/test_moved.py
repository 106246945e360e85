"""Modules of version 0.2.0 under their old names."""

import importlib
import subprocess
import sys
import warnings

import pytest

from speakervlad import _moved, deprecated

# A name of every old module that its users may know.
KNOWN = {
    "data.audio": ("read_audio", "is_band_limited", "write_audio"),
    "data.speech": ("SpeechFinder",),
    "data.manifest": ("Manifest",),
    "evaluation.judge": ("judge", "read_scored", "read_systems", "compare", "breakdown"),
    "evaluation.calibration": ("Calibration", "calibrate", "fit_calibration", "durations"),
    "evaluation.decision": ("Rule", "Thresholds", "choose_rule", "learn_thresholds"),
    "evaluation.embeddings": ("Embeddings", "load_embeddings", "read_ark", "read_parquet"),
    "evaluation.lists": ("Trials", "read_trials", "read_scores", "read_enrolment"),
    "evaluation.names": ("NameIndex", "speakers_from_names"),
    "inference.backends": ("OnnxBackend", "TorchBackend", "OpenVinoBackend", "open_backend"),
    "inference.card": ("find_encoder", "describe_encoder", "read_thresholds"),
    "inference.engine": ("Embedder", "Windows", "load_encoder", "window_spans"),
    "inference.explain": ("explain", "contributions"),
    "inference.export": ("export_onnx",),
    "inference.shares": ("embed_in_parts",),
    "inference.speech": ("speech",),
    "inference.waves": ("SampleWave", "SpeechWave", "FileWave"),
}


def forget(monkeypatch, name):
    monkeypatch.delitem(sys.modules, f"speakervlad.{name}", raising=False)


@pytest.mark.parametrize("old", KNOWN)
def test_names_are_found_where_they_are_now(old, monkeypatch):
    forget(monkeypatch, old)
    with pytest.warns(DeprecationWarning, match=rf"speakervlad\.{old} is speakervlad\."):
        module = importlib.import_module(f"speakervlad.{old}")
    for name in KNOWN[old]:
        found = getattr(module, name)
        homes = [importlib.import_module(f"speakervlad.{new}") for new in _moved.MODULES[old]]
        names = (name, (deprecated.NAMES | _moved.RENAMED).get(name))
        assert any(vars(home).get(each) is found for home in homes for each in names)
    with pytest.raises(AttributeError, match=f"{old}' has no attribute 'nothing'"):
        vars(module)["__getattr__"]("nothing")


def test_every_new_module_is_there():
    for places in _moved.MODULES.values():
        for place in places:
            assert importlib.util.find_spec(f"speakervlad.{place}") is not None


def test_a_warning_once_and_where_the_import_stands(monkeypatch):
    forget(monkeypatch, "evaluation.metrics")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from speakervlad.evaluation.metrics import (
            equal_error_rate,  # noqa: F401
            min_dcf,  # noqa: F401
        )
    assert [each.filename for each in caught] == [__file__]


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"speakervlad\.evaluation\.nothing"):
        importlib.import_module("speakervlad.evaluation.nothing")


def test_old_names_cost_nothing_that_new_ones_do_not():
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from speakervlad.evaluation.judge import judge, read_scored\n"
        "assert 'torch' not in sys.modules and 'soundfile' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
