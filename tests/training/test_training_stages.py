import time

import pytest

from speakervlad.config import to_yaml
from speakervlad.corpus.dataset import UtteranceDataset


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("benchmarks/training_stages.py")


def test_stages_are_measured_and_nothing_is_written(script, experiment, tmp_path):
    bench = script.measure(experiment("augment.gain_db=6"), num_batches=2)
    assert list(bench.worker) == ["disk", "decode", "draw"]
    assert list(bench.device) == ["augment", "front end", "network"]
    assert min(bench.worker["decode"], *bench.device.values(), bench.loader) > 0
    assert bench.bottleneck in {*bench.worker, *bench.device}
    assert not (tmp_path / "run").exists()


def test_stages_and_the_bottleneck_are_printed(script, experiment, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment()))
    script.main(tmp_path / "tiny.yaml", ["data.num_workers=0"], batches=1)
    shown = capsys.readouterr().out
    for word in ("disk", "decode", "draw", "augment", "front end", "network", "loader"):
        assert word in shown
    assert "0 workers" in shown
    assert "bottleneck: " in shown


def test_slow_reading_is_found(script, experiment, monkeypatch):
    read, clock, waited = UtteranceDataset.__getitem__, time.perf_counter, 0.0

    def slow(self, key):
        nonlocal waited
        waited += 10
        return read(self, key)

    monkeypatch.setattr(UtteranceDataset, "__getitem__", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: waited + clock())
    bench = script.measure(experiment(), num_batches=1)
    assert bench.worker["decode"] > 0.05
    assert bench.bottleneck == "decode"
    assert bench.crops_per_second < 20


@pytest.mark.parametrize(
    ("loader", "bottleneck", "rate"), [(0.001, "network", 250.0), (0.01, "draw", 100.0)]
)
def test_the_bottleneck_is_the_longest_stage_of_the_slower_side(script, loader, bottleneck, rate):
    bench = script.Stages(
        {"disk": 0.001, "decode": 0.002, "draw": 0.004},
        {"augment": 0.0005, "front end": 0.0005, "network": 0.003},
        loader,
    )
    assert bench.bottleneck == bottleneck
    assert bench.crops_per_second == pytest.approx(rate)
