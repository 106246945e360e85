import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from speakervlad.models.frontend import FrontEnd
from speakervlad.threads import one_blas_thread


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_blas_thread_within_and_as_many_as_before_after():
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            FrontEnd().features(np.zeros(16000, np.float32))
            assert blas_threads() == {1}
        assert blas_threads() == before
