"""onnxruntime computes and reports nothing."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")

CODE = """
import numpy as np
from speakervlad import load_encoder, speech
speech(np.zeros(16000, np.float32))
load_encoder(backend="onnxruntime").embed(np.random.default_rng(0).normal(size=16000) / 10)
"""


def test_it_writes_nothing_about_this_machine(tmp_path):
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", CODE], check=True, env=os.environ | places)
    assert [path for path in tmp_path.rglob("*") if "onnx" in str(path) or path.is_file()] == []
