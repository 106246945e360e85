import json

import pytest

from speakervlad.config import THRESHOLDS_NAME
from speakervlad.errors import InputError
from speakervlad.verification.known import read_threshold, read_thresholds
from speakervlad.verification.thresholds import Thresholds

KNOWN = {"eer": 0.5, "false_accept_rate": {"0.01": 0.6, "0.0001": 0.8}, "eer_by_list": {"a": 1}}


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / THRESHOLDS_NAME).write_text(json.dumps(KNOWN))
    return tmp_path


def test_rates_are_numbers(encoder):
    assert read_thresholds(encoder, {}) == Thresholds(0.5, {0.01: 0.6, 0.0001: 0.8}, {"a": 1})
    assert read_thresholds(encoder / "absent" / "e.onnx", {}) is None


def test_a_threshold_by_its_rate(encoder):
    assert read_threshold(encoder, {}) == 0.5
    assert read_threshold(encoder, {}, 1e-4) == 0.8


def test_a_rate_that_no_impostor_can_tell_of_is_refused(encoder, tmp_path):
    assert 0.6 < read_threshold(encoder, {}, 0.002) < 0.8
    for rate in (0.02, 0.00005, 0, -1, float("nan")):
        with pytest.raises(InputError, match=r"known from 0\.0001 to 0\.01\. Choose one of these"):
            read_threshold(encoder, {}, rate)
    with pytest.raises(InputError, match=r"none is known for any\. .* or pass --threshold"):
        read_threshold(tmp_path / "none" / "e.onnx", {THRESHOLDS_NAME: '{"eer": 0.5}'}, 0.01)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[0.5]",
        "{}",
        '{"eer": "x"}',
        '{"eer": null}',
        '{"eer": NaN}',
        '{"eer": 0.5, "false_accept_rate": {"low": 0.5}}',
        '{"eer": 0.5, "false_accept_rate": {"0.01": Infinity}}',
        '{"eer": 0.5, "false_accept_rate": [0.5]}',
        '{"eer": 0.5, "false_accept_rate": {"0.01": 0.5, "0.001": 0.4}}',
        '{"eer": 0.5, "false_accept_rate": {"1.5": 0.5}}',
        '{"eer": 0.5, "num_impostors": 1e999}',
    ],
)
def test_damaged_thresholds_are_refused(encoder, text):
    (encoder / THRESHOLDS_NAME).write_text(text)
    with pytest.raises(InputError, match=r"its thresholds\.json holds no thresholds"):
        read_thresholds(encoder, {})


def test_thresholds_that_are_not_utf8_are_refused(encoder):
    (encoder / THRESHOLDS_NAME).write_bytes(b'{"eer": 0.5, "\xe9": 1}')
    with pytest.raises(InputError, match=r"its thresholds\.json holds no thresholds"):
        read_thresholds(encoder, {})


def test_thresholds_nested_too_deep_are_one_line(tmp_path):
    (tmp_path / "thresholds.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"thresholds\.json"):
        read_thresholds(tmp_path, {})
