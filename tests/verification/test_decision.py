import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakervlad.errors import InputError
from speakervlad.scoring.calibration import Calibration
from speakervlad.scoring.metrics import cllr, verification_report
from speakervlad.scoring.points import OperatingPoint
from speakervlad.verification.rules import choose_rule
from speakervlad.verification.thresholds import (
    Thresholds,
    curve_rates,
    learn_calibration,
    learn_thresholds,
)

KNOWN = Thresholds(0.5, {0.001: 0.8, 0.01: 0.7, 0.1: 0.55}, num_impostors=1000)
CALIBRATION = Calibration((12.0,), -6.0)
positive = st.floats(1e-3, 1e3)


def drawn(num_target, num_nontarget, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    scores = np.concatenate(
        [rng.normal(0.7 + shift, 0.1, num_target), rng.normal(0.2 + shift, 0.15, num_nontarget)]
    )
    return scores, np.arange(len(scores)) < num_target


def test_a_learnt_threshold_that_leaves_no_choice_says_so():
    beyond = Thresholds(1.2, {0.01: 1.1, 0.1: 1.05}, num_impostors=100)
    for rule in (choose_rule(beyond, None), choose_rule(beyond, CALIBRATION, far=0.1)):
        assert "nobody is accepted" in rule.words


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"point": OperatingPoint(0.001, 1, 100)}, "nobody is accepted"),
        ({"point": OperatingPoint(0.999, 1e9, 1)}, "everybody is accepted"),
        ({"threshold": 1.01}, "nobody is accepted"),
        ({"threshold": -1.0}, "everybody is accepted"),
    ],
)
def test_a_rule_that_leaves_no_choice_says_so(asked, words):
    rule = choose_rule(KNOWN, CALIBRATION, **asked)
    assert words in rule.judge(0.5).rule
    answers = [rule.judge(score).same for score in (-1.0, 1.0)]
    assert answers == [words == "everybody is accepted"] * 2
    for rule in (choose_rule(KNOWN, CALIBRATION), choose_rule(KNOWN, None, threshold=1.0)):
        assert "accepted" not in rule.words


@given(
    score=st.floats(-1, 1),
    weight=st.floats(0.01, 100),
    bias=st.floats(-30, 30),
    prior=st.floats(1e-6, 1 - 1e-6),
    c_miss=positive,
    c_fa=positive,
)
def test_decision_probability_and_threshold_never_contradict(
    score, weight, bias, prior, c_miss, c_fa
):
    point = OperatingPoint(prior, c_miss, c_fa)
    calibration = Calibration((weight,), bias)
    answer = choose_rule(KNOWN, calibration, point=point).judge(score)
    expected_cost_of_same = (1 - answer.probability) * c_fa
    expected_cost_of_different = answer.probability * c_miss
    slack = 1e-9 * (c_fa + c_miss)
    if answer.same:
        assert expected_cost_of_same <= expected_cost_of_different + slack
        assert score >= answer.threshold - 1e-9 * (1 + abs(answer.threshold))
    else:
        assert expected_cost_of_same >= expected_cost_of_different - slack
        assert score <= answer.threshold + 1e-9 * (1 + abs(answer.threshold))
    by_bayes = calibration.probability(answer.log_likelihood_ratio, prior)
    assert answer.probability == pytest.approx(float(by_bayes), abs=1e-9)


@given(
    score=st.floats(-1, 1),
    asked=st.sampled_from([{"threshold": 0.3}, {"far": 0.01}, {}]),
    calibration=st.sampled_from([CALIBRATION, None]),
)
def test_a_probability_is_stated_only_where_it_decides(score, asked, calibration):
    answer = choose_rule(KNOWN, calibration, **asked).judge(score)
    assert (answer.log_likelihood_ratio is None) == (calibration is None)
    if asked or calibration is None:
        assert answer.probability is None
        assert answer.same == (score >= answer.threshold)
    else:
        assert answer.same == (answer.probability >= 0.5)


@pytest.mark.parametrize(
    ("known", "calibration", "asked", "threshold", "words"),
    [
        (KNOWN, None, {}, 0.5, "equal error rate"),
        (KNOWN, CALIBRATION, {}, 0.5, "the calibration, at a prior of 0.5 and equal costs"),
        (None, CALIBRATION, {}, 0.5, "from a probability of 50% on"),
        (KNOWN, CALIBRATION, {"threshold": 0.6}, 0.6, "the threshold that was given"),
        (KNOWN, CALIBRATION, {"far": 0.01}, 0.7, "false-acceptance rate of 0.01"),
        (
            KNOWN,
            CALIBRATION,
            {"point": OperatingPoint(0.5, c_fa=9)},
            0.5 + math.log(9) / 12,
            "9 for a false acceptance: the same speaker from a probability of 90% on",
        ),
    ],
)
def test_what_decides(known, calibration, asked, threshold, words):
    rule = choose_rule(known, calibration, **asked)
    assert rule.threshold == pytest.approx(threshold)
    assert words in rule.words


@pytest.mark.parametrize(
    ("known", "calibration", "asked", "words"),
    [
        (KNOWN, CALIBRATION, {"threshold": 0.1, "far": 0.1}, "Give one of them"),
        (KNOWN, CALIBRATION, {"far": 0.1, "point": OperatingPoint(0.5)}, "Give one of them"),
        (KNOWN, None, {"point": OperatingPoint(0.1)}, "need a calibration"),
        (KNOWN, None, {"threshold": math.inf}, "is not finite"),
        (None, None, {}, "no threshold is known"),
        (None, CALIBRATION, {"far": 0.1}, "none is known for any"),
        (KNOWN, Calibration((1.0, 2.0), 0.0), {}, "one weight"),
        (KNOWN, Calibration((-1.0,), 0.0), {}, "above 0"),
        (KNOWN, CALIBRATION, {"far": 1e-4}, "as 1000 impostor trials allow"),
    ],
)
def test_what_cannot_decide(known, calibration, asked, words):
    with pytest.raises(InputError, match=words):
        choose_rule(known, calibration, **asked)


def test_one_list_teaches_what_its_report_says():
    scores, labels = drawn(200, 3000)
    report, found = verification_report(scores, labels), learn_thresholds({"a": (scores, labels)})
    assert found.eer == found.eer_by_list["a"] == report.threshold
    assert found.num_impostors == 3000
    for rate in (0.01, 0.001):
        assert found.at(rate) == report.frr_at_far[f"{rate:g}"]["threshold"]
    assert Thresholds.from_json(found.to_json()) == found


def test_lists_of_any_length_have_the_same_weight():
    short, long = drawn(30, 500, seed=1), drawn(300, 9000, seed=2, shift=0.1)
    repeated = tuple(np.tile(part, 7) for part in long)
    one = learn_thresholds({"short": short, "long": long})
    other = learn_thresholds({"short": short, "long": repeated})
    assert other.eer == pytest.approx(one.eer)
    assert other.at(0.01) == pytest.approx(one.at(0.01))
    far = [np.mean(scores[~labels] >= one.at(0.1)) for scores, labels in (short, long)]
    assert np.mean(far) == pytest.approx(0.1, abs=0.002)
    calibrations = [
        learn_calibration({"short": short, "long": scored}) for scored in (long, repeated)
    ]
    assert calibrations[1].weights == pytest.approx(calibrations[0].weights, rel=1e-3)
    assert calibrations[1].bias == pytest.approx(calibrations[0].bias, rel=1e-3)


def test_the_curve_keeps_the_false_acceptance_rates_that_it_states():
    scores, labels = drawn(100, 20_000)
    found = learn_thresholds({"a": (scores, labels)})
    for rate in (0.3, 0.07, 0.011, 0.0033, 0.00052):
        measured = np.mean(scores[~labels] >= found.at(rate))
        assert measured == pytest.approx(rate, rel=0.1)
    thresholds = [found.at(rate) for rate in np.geomspace(5e-5, 0.5, 500)]
    assert thresholds == sorted(thresholds, reverse=True)


@pytest.mark.parametrize(
    ("count", "smallest"), [(2, 0.5), (100, 0.01), (99, 0.0125), (799, 0.0016)]
)
def test_a_curve_ends_where_one_impostor_decides(count, smallest):
    assert curve_rates(count)[0] == smallest
    assert curve_rates(count)[-1] == 0.5


def test_the_number_of_impostors_is_that_of_equal_lists_as_uncertain():
    lists = {"a": drawn(10, 100), "b": drawn(10, 100, 1)}
    assert learn_thresholds(lists).num_impostors == 200
    assert learn_thresholds(lists | {"b": drawn(10, 10_000)}).num_impostors == 396


def test_a_learnt_calibration_is_calibrated():
    lists = {"a": drawn(500, 5000), "b": drawn(400, 300, 1)}
    found = learn_calibration(lists)
    for scores, labels in lists.values():
        assert cllr(found.log_likelihood_ratio(scores), labels) < 0.2
