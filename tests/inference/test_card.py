import json

import pytest

from speakervlad.errors import InputError
from speakervlad.inference.card import (
    THRESHOLDS_NAME,
    Thresholds,
    read_threshold,
    read_thresholds,
)

KNOWN = {"eer": 0.5, "false_accept_rate": {"0.01": 0.6, "0.0001": 0.8}, "eer_by_list": {"a": 1}}


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / THRESHOLDS_NAME).write_text(json.dumps(KNOWN))
    return tmp_path


def test_rates_are_numbers(encoder):
    assert read_thresholds(encoder, {}) == Thresholds(0.5, {0.01: 0.6, 0.0001: 0.8})
    assert read_thresholds(encoder / "absent" / "e.onnx", {}) is None


def test_a_threshold_by_its_rate(encoder):
    assert read_threshold(encoder, {}) == 0.5
    assert read_threshold(encoder, {}, 1e-4) == 0.8


def test_an_unknown_rate_names_the_known(encoder, tmp_path):
    with pytest.raises(InputError, match=r"rate of 0\.02\. Choose 0\.01, 0\.0001, or pass"):
        read_threshold(encoder, {}, 0.02)
    with pytest.raises(InputError, match=r"It has none at all; pass --threshold"):
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
