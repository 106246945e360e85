"""The ``speakervlad`` command."""

from speakervlad.cli.commands import app, main

__all__ = ["app", "main"]
