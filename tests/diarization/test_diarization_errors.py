"""Error rates of diarization, against ``pyannote.metrics`` and by hand."""

import numpy as np
import pytest

from speakervlad.diarization.der import diarization_errors, errors_by_recording
from speakervlad.diarization.turns import Turn, Turns
from speakervlad.errors import InputError


def random_turns(rng, num_turns, num_speakers, seconds=60.0):
    starts = rng.uniform(0, seconds, num_turns).round(3)
    ends = starts + rng.uniform(0.1, 6, num_turns).round(3)
    speakers = rng.integers(num_speakers, size=num_turns)
    turns = zip(starts, ends, map(str, speakers), strict=True)
    return Turns("talk", tuple(Turn(*turn) for turn in turns))


@pytest.mark.parametrize("collar", [0.0, 0.5])
@pytest.mark.parametrize("skip_overlap", [False, True])
@pytest.mark.filterwarnings("ignore:.*uem.*")
def test_equal_pyannote_metrics_on_random_turns(collar, skip_overlap):
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")

    def annotation(turns):
        made = core.Annotation()
        for track, turn in enumerate(turns.turns):
            made[core.Segment(turn.start, turn.end), track] = turn.speaker
        return made

    rng = np.random.default_rng(7)
    their_der = metrics.DiarizationErrorRate(collar=collar, skip_overlap=skip_overlap)
    their_jer = metrics.JaccardErrorRate(collar=collar, skip_overlap=skip_overlap)
    in_all = None
    for _ in range(25):
        reference = random_turns(rng, rng.integers(1, 30), rng.integers(1, 6))
        hypothesis = random_turns(rng, rng.integers(0, 30), rng.integers(1, 6))
        ours = diarization_errors(reference, hypothesis, collar=collar, skip_overlap=skip_overlap)
        pair = annotation(reference), annotation(hypothesis)
        theirs = their_der(*pair, detailed=True)
        assert ours.missed == pytest.approx(theirs["missed detection"], abs=1e-9)
        assert ours.false_alarm == pytest.approx(theirs["false alarm"], abs=1e-9)
        assert ours.confusion == pytest.approx(theirs["confusion"], abs=1e-9)
        assert ours.total == pytest.approx(theirs["total"], abs=1e-9)
        assert ours.der == pytest.approx(theirs["diarization error rate"], abs=1e-9)
        assert ours.jer == pytest.approx(their_jer(*pair), abs=1e-9)
        in_all = ours if in_all is None else in_all + ours
    assert in_all is not None
    assert in_all.der == pytest.approx(abs(their_der), abs=1e-9)
    assert in_all.jer == pytest.approx(abs(their_jer), abs=1e-9)


def test_parts_by_hand():
    reference = Turns("a", (Turn(0, 10, "x"), Turn(10, 20, "y")))
    hypothesis = Turns("a", (Turn(1, 12, "1"), Turn(12, 22, "2")))
    errors = diarization_errors(reference, hypothesis)
    assert (errors.missed, errors.false_alarm, errors.confusion) == (1, 2, 2)
    assert errors.der == pytest.approx(5 / 20)
    assert errors.jer == pytest.approx(1 - (9 / 12 + 8 / 12) / 2)


def test_collar_forgives_half_of_it_on_each_side():
    reference, hypothesis = Turns("a", (Turn(1, 5, "x"),)), Turns("a", (Turn(1.2, 5.25, "1"),))
    assert diarization_errors(reference, hypothesis, collar=0.5).der == 0
    assert diarization_errors(reference, hypothesis, collar=0.2).der > 0
    with pytest.raises(InputError, match="collar=-1"):
        diarization_errors(reference, hypothesis, collar=-1)


def test_nothing_said():
    silence, talk = Turns("a"), Turns("a", (Turn(0, 1, "x"),))
    assert (diarization_errors(silence, silence).der, diarization_errors(silence, silence).jer) == (
        0,
        0,
    )
    assert (diarization_errors(silence, talk).der, diarization_errors(talk, silence).der) == (1, 1)


def test_recordings_are_matched_by_name(caplog):
    talk = {name: Turns(name, (Turn(0, 1, "x"),)) for name in "ab"}
    errors = errors_by_recording(talk, {"b": talk["b"], "c": talk["a"]})
    assert (errors["a"].der, errors["b"].der) == (1, 0)
    assert "counts as missed: a" in caplog.text
    assert "left out: c" in caplog.text
    assert errors_by_recording({"a": talk["a"]}, {"c": talk["a"]})["a"].der == 0
    with pytest.raises(InputError, match="no recording has a reference and a hypothesis"):
        errors_by_recording(talk, {"c": talk["a"]})
