"""``python -m speakervlad`` and ``torchrun -m speakervlad``."""

from speakervlad.cli import main

main()
