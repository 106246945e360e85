"""Fixtures of the command line tests."""

import pytest

from speakervlad.cli import main


@pytest.fixture
def run(monkeypatch):
    """Run the command line in this process; returns the exit code."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["speakervlad", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0

    return call
