import sys

import pytest

from speakervlad.cli import main
from speakervlad.tables.manifest import Manifest

pytest.importorskip("pyroomacoustics")


def test_rooms_writes_a_bank_and_its_manifest(tmp_path, monkeypatch, capsys):
    arguments = ["speakervlad", "rooms", str(tmp_path / "bank"), "--count", "2", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    assert "2 rooms" in capsys.readouterr().err
    assert len(Manifest.load(tmp_path / "bank/manifest.csv")) == 2
