"""Time and memory of scoring and judging at VoxCeleb sizes, beside scikit-learn and SpeechBrain.

    python benchmarks/scoring.py              # all
    python benchmarks/scoring.py long_text  # one
    python benchmarks/scoring.py --share 0.001    # of all sizes, to see that it runs

Scores and embeddings are random; each part runs in its own process, which has its own peak memory.
SpeechBrain is measured when it is installed (``pip install --no-deps speechbrain hyperpyyaml
ruamel.yaml`` suffices).
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from own_process import in_own_process

NUM_LONG = 100_000_000


def timed(what: str, work: Callable[[], object]) -> object:
    """Run, print seconds, return the result."""
    start = time.perf_counter()
    result = work()
    print(f"  {time.perf_counter() - start:8.2f} s  {what}", flush=True)
    return result


def simulated(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(num,) float32 scores with an EER near 4 %, and their labels, half of them targets."""
    rng = np.random.default_rng(seed)
    is_target = rng.random(num, dtype=np.float32) < np.float32(0.5)
    scores = rng.standard_normal(num, dtype=np.float32)
    scores += np.where(is_target, np.float32(3.5), np.float32(0))
    return scores, is_target


def score(share: float) -> None:
    """VoxCeleb1-E: 580,000 trials over 145,000 embeddings of 512."""
    from speakervlad.scoring.lists import load_trials, save_trials
    from speakervlad.scoring.metrics import verification_report
    from speakervlad.scoring.scores import read_scores, save_scores
    from speakervlad.scoring.scoring import cosine_scores
    from speakervlad.scoring.trials import Trials
    from speakervlad.tables.embeddings import Embeddings

    rng = np.random.default_rng(0)
    num_files, num_trials = round(145_000 * share), round(580_000 * share)
    ids = np.array([f"id{row // 120:05d}/session/{row:06d}.wav" for row in range(num_files)])
    vectors = rng.standard_normal((num_files, 512), dtype=np.float32)
    enrol, test = (ids[rng.integers(num_files, size=num_trials)].tolist() for _ in range(2))
    trials = Trials.from_ids(enrol, test, rng.random(num_trials) < 0.5)
    table = Embeddings(ids, vectors)
    with tempfile.TemporaryDirectory() as folder:
        listed, scored = Path(folder) / "E.txt", Path(folder) / "S.txt"
        save_trials(listed, trials)
        again = timed(f"read {num_trials:,} trials", lambda: load_trials(listed))
        assert isinstance(again, Trials)
        values = timed("cosine scores", lambda: cosine_scores(table, again))
        assert isinstance(values, np.ndarray)
        timed("write the score file", lambda: save_scores(scored, again, values))
        timed("read the score file", lambda: read_scores(scored))
    scores, is_target = simulated(num_trials)
    timed(f"EER and minDCF of {num_trials:,}", lambda: eer_and_min_dcf(scores, is_target))
    timed(f"all figures of {num_trials:,}", lambda: verification_report(scores, is_target))


def eer_and_min_dcf(scores: np.ndarray, is_target: np.ndarray) -> tuple[float, float]:
    """What a validation during training asks for."""
    from speakervlad.scoring.metrics import eer_point, error_curve, min_dcf_point
    from speakervlad.scoring.points import REPORTED_POINTS

    curve = error_curve(scores, is_target)
    return eer_point(curve)[0], min_dcf_point(curve, REPORTED_POINTS[0])[0]


def as_norm(share: float) -> None:
    """AS-norm statistics of 20,000 utterances against 6,000 cohort speakers, top 300."""
    from speakervlad.scoring.scoring import cohort_statistics

    rng = np.random.default_rng(0)
    sizes = round(20_000 * share), round(6_000 * share)
    top = max(round(300 * share), 2)
    vectors, cohort = (
        rng.standard_normal((num, 512), dtype=np.float32) / np.float32(512**0.5) for num in sizes
    )
    what = f"{sizes[0]:,} x {sizes[1]:,}, top {top}"
    timed(what, lambda: cohort_statistics(vectors, cohort, top))


def bootstrap(share: float) -> None:
    """1,000 resamples of 40 speakers, all figures of 37,720 trials each."""
    from speakervlad.scoring.bootstrap import resampled_figures
    from speakervlad.scoring.speakers import TrialSpeakers

    rng = np.random.default_rng(0)
    scores, is_target = simulated(37_720)
    enrol = rng.integers(40, size=len(scores))
    test = np.where(is_target, enrol, (enrol + rng.integers(1, 40, size=len(scores))) % 40)
    speakers = TrialSpeakers(enrol, test, 40)
    num = max(round(1000 * share), 2)
    timed(
        f"{num:,} resamples of 37,720",
        lambda: resampled_figures([scores], is_target, speakers, num_resamples=num),
    )


def long_arrays(share: float) -> None:
    """100 million scores in memory."""
    from speakervlad.scoring.metrics import verification_report

    num = round(NUM_LONG * share)
    scores, is_target = simulated(num)
    report = timed(f"all figures of {num:,}", lambda: verification_report(scores, is_target))
    print(f"             {report}")


def long_text(share: float) -> None:
    """100 million trials from one text file of `enrol test score 1|0`."""
    from speakervlad.scoring.metrics import verification_report
    from speakervlad.scoring.scores import read_long_scores

    num = round(NUM_LONG * share)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "S.txt"
        in_own_process(write_text, path, num)
        print(f"             {path.stat().st_size / 1e9:.1f} GB of text")
        found = timed(f"read {num:,} lines", lambda: read_long_scores(path))
        assert isinstance(found, tuple)
        timed(f"all figures of {num:,}", lambda: verification_report(*found))


def write_text(path: Path, num: int) -> None:
    """The streamed list as text: a million different lines, over and over."""
    different = min(num, 1_000_000)
    scores, is_target = simulated(different)
    rows = zip(scores.tolist(), is_target.tolist(), strict=True)
    text = "".join(
        f"id{n % 1251:05d}/{n % 997:03d}.wav id{n % 1249:05d}/{n % 991:03d}.wav {s:.6f} {t:d}\n"
        for n, (s, t) in enumerate(rows)
    )
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num // different):
            file.write(text)


def others(share: float) -> None:
    """EER only: this toolkit, scikit-learn's roc_curve with brentq, SpeechBrain's EER."""
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve

    from speakervlad.scoring.metrics import equal_error_rate

    def by_scikit_learn(scores: np.ndarray, is_target: np.ndarray) -> object:
        false_accept, hit, _ = roc_curve(is_target, scores)
        return brentq(lambda x: 1.0 - x - interp1d(false_accept, hit)(x), 0.0, 1.0)

    for size in (10_000, 37_720, 580_000, 10_000_000):
        num = round(size * share)
        data = simulated(num)
        ours = timed(f"{num:>10,}  speakervlad", lambda data=data: equal_error_rate(*data))
        theirs = timed(f"{num:>10,}  scikit-learn", lambda data=data: by_scikit_learn(*data))
        assert isinstance(ours, float)
        assert isinstance(theirs, float)
        assert abs(ours - theirs) < 1e-9
        if size <= 37_720:
            time_speechbrain(*data)
    print("             SpeechBrain's time grows with the square of the trials; not run beyond.")


def time_speechbrain(scores: np.ndarray, is_target: np.ndarray) -> None:
    """SpeechBrain's EER of the same scores, if it is installed."""
    try:
        import torch
        from speechbrain.utils.metric_stats import EER  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        print(f"             SpeechBrain is not installed ({error})")
        return
    targets, nontargets = (torch.from_numpy(scores[chosen]) for chosen in (is_target, ~is_target))
    timed(f"{len(scores):>10,}  SpeechBrain", lambda: EER(targets, nontargets))


def measured(name: str, share: float) -> None:
    """Run one part and print its peak memory."""
    print(f"{name}: {PARTS[name].__doc__}", flush=True)
    PARTS[name](share)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  {peak:8.2f} GB peak memory\n", flush=True)


PARTS = {
    "score": score,
    "as_norm": as_norm,
    "bootstrap": bootstrap,
    "long_arrays": long_arrays,
    "long_text": long_text,
    "others": others,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of all sizes")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        in_own_process(measured, part, arguments.share)


if __name__ == "__main__":
    main()
