import pytest

from speakervlad.config import ScheduleConfig
from speakervlad.errors import InputError
from speakervlad.training.trainer import check_schedule, margin_share, rate_factor


@pytest.mark.parametrize(
    ("kind", "middle", "end"),
    [("constant", 1, 1), ("cosine", 0.505, 0.01), ("exponential", 0.1, 0.01)],
)
def test_decay_reaches_its_final_factor(kind, middle, end):
    schedule = ScheduleConfig(kind=kind, final_factor=0.01)
    assert rate_factor(0, 100, schedule) == 1
    assert rate_factor(50, 100, schedule) == pytest.approx(middle)
    assert rate_factor(100, 100, schedule) == pytest.approx(end)


def test_warmup_rises_linearly_and_ends_at_the_schedule():
    schedule = ScheduleConfig(kind="constant", warmup_steps=4, warmup_start=0.2)
    rates = [rate_factor(step, 100, schedule) for step in range(5)]
    assert rates == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])


def test_steps_change_at_their_milestones():
    schedule = ScheduleConfig(kind="steps", milestones=(2, 4), factors=(1.0, 0.1, 1.0))
    assert [rate_factor(step, 9, schedule) for step in range(6)] == [1, 1, 0.1, 0.1, 1, 1]


@pytest.mark.parametrize(
    ("milestones", "factors", "words"),
    [((1, 2), (1.0, 0.1), "one factor more"), ((2, 1), (1.0, 0.1, 0.01), "must increase")],
)
def test_unfit_milestones_are_refused(milestones, factors, words):
    with pytest.raises(InputError, match=words):
        check_schedule(ScheduleConfig(kind="steps", milestones=milestones, factors=factors))


def test_margin_warms_up_linearly():
    assert [margin_share(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert margin_share(0, 0) == 1
