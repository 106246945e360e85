"""One BLAS thread for products too small to share.

OpenBLAS's threads wait by spinning: on cores that have other work, two of them take many times as
long as one for the spectrogram of a short recording.
"""

import functools
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
