"""The table of all trunks."""

import functools
from collections.abc import Callable

from speakervlad.models.campplus import CAMPPlus
from speakervlad.models.ecapa import ECAPATDNN
from speakervlad.models.resnets import (
    THIN_STAGES,
    WIDE_STAGES,
    BottleneckResNet,
    StandardResNet34,
)
from speakervlad.models.trunk import Trunk

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "thin_resnet34": functools.partial(
        BottleneckResNet, stages=THIN_STAGES, stem_stride=1, stem_pool=True
    ),
    # A strided stem in place of the max-pooling after it: the same resolutions everywhere else; the
    # stem and what follows at full resolution, a third of a training step on CPUs, cost a quarter.
    "strided_thin_resnet34": functools.partial(
        BottleneckResNet, stages=THIN_STAGES, stem_stride=2, stem_pool=False
    ),
    # The release's "resnet34l": 2048 output channels, stage 4 unstrided.
    "wide_resnet34": functools.partial(
        BottleneckResNet, stages=WIDE_STAGES, stem_stride=2, stem_pool=True
    ),
    "standard_resnet34": StandardResNet34,
    "ecapa_tdnn": functools.partial(ECAPATDNN, summed=True, last_norm=False, padding="zeros"),
    # SpeechBrain's, which is not quite the one of the paper.
    "speechbrain_ecapa_tdnn": functools.partial(
        ECAPATDNN, summed=False, last_norm=True, padding="reflect"
    ),
    "campplus": CAMPPlus,
}
