"""Fixtures of the command line tests."""

import pytest

from speakervlad.cli import main


@pytest.fixture
def run(monkeypatch, tmp_path_factory):
    """Run the command line here, without the user's own people; returns the exit code."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    monkeypatch.delenv("SPEAKERVLAD_STORE", raising=False)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0

    return call
