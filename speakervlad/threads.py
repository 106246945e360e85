"""How many cores there are, and one BLAS thread for products too small to share.

OpenBLAS's threads wait by spinning: on cores that have other work, two of them take many times as
long as one for the spectrogram of a short recording.
"""

import functools
import os
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Within it numpy multiplies matrices in one thread, in the whole process.

    The first thread that enters decides; threadpoolctl lets others enter without effect.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def available_cores() -> int:
    """Cores that this process may use; those that ``torchrun`` starts together share them out."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
