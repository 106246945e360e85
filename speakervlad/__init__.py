"""Speaker recognition with NetVLAD and GhostVLAD: train, embed, score, judge.

The public names are listed in ``__init__.pyi``; each is imported on first use, so that
``import speakervlad`` costs nothing and scoring needs no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
