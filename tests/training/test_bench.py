import time

import pytest

from speakervlad.corpus.dataset import UtteranceDataset
from speakervlad.training.bench import DataBench, bench_data


def test_stages_are_measured_and_nothing_is_written(experiment, tmp_path):
    bench = bench_data(experiment("augment.gain_db=6"), num_batches=2)
    assert list(bench.worker) == ["disk", "decode", "draw"]
    assert list(bench.device) == ["augment", "front end", "network"]
    assert min(bench.worker["decode"], *bench.device.values(), bench.loader) > 0
    assert bench.bottleneck in {*bench.worker, *bench.device}
    assert not (tmp_path / "run").exists()


def test_slow_reading_is_found(experiment, monkeypatch):
    read, clock, waited = UtteranceDataset.__getitem__, time.perf_counter, 0.0

    def slow(self, key):
        nonlocal waited
        waited += 10
        return read(self, key)

    monkeypatch.setattr(UtteranceDataset, "__getitem__", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: waited + clock())
    bench = bench_data(experiment(), num_batches=1)
    assert bench.worker["decode"] > 0.05
    assert bench.bottleneck == "decode"
    assert bench.crops_per_second < 20


@pytest.mark.parametrize(
    ("loader", "bottleneck", "rate"), [(0.001, "network", 250.0), (0.01, "draw", 100.0)]
)
def test_the_bottleneck_is_the_longest_stage_of_the_slower_side(loader, bottleneck, rate):
    bench = DataBench(
        {"disk": 0.001, "decode": 0.002, "draw": 0.004},
        {"augment": 0.0005, "front end": 0.0005, "network": 0.003},
        loader,
    )
    assert bench.bottleneck == bottleneck
    assert bench.crops_per_second == pytest.approx(rate)
