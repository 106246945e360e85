"""What a part of your own is made of: base classes, and types with ranges for its options.

A package adds a part by an entry point of the group that has this module's name; see
``docs/extending.md``, and ``speakervlad.testing`` for its test.
"""

from speakervlad.models.frontend import FrontEnd
from speakervlad.models.losses import Classifier, Loss, MarginSoftmax
from speakervlad.models.pooling import NetVLAD, Pooling
from speakervlad.models.precision import at_least_float32
from speakervlad.models.sums import Finish
from speakervlad.models.trunk import Trunk
from speakervlad.schema import (
    Count,
    Fraction,
    NonNegative,
    Part,
    Positive,
    Range,
    Seconds,
    Size,
)

__all__ = [
    "Classifier",
    "Count",
    "Finish",
    "Fraction",
    "FrontEnd",
    "Loss",
    "MarginSoftmax",
    "NetVLAD",
    "NonNegative",
    "Part",
    "Pooling",
    "Positive",
    "Range",
    "Seconds",
    "Size",
    "Trunk",
    "at_least_float32",
]
