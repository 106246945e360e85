"""Error rates of diarization, against ``pyannote.metrics`` and by hand."""

import numpy as np
import pytest

from speakervlad.diarization.der import diarization_errors, errors_by_recording
from speakervlad.diarization.turns import Turn, Turns, load_turns
from speakervlad.diarization.uem import load_uem
from speakervlad.errors import InputError


def random_turns(rng, num_turns, num_speakers, seconds=60.0):
    starts = rng.uniform(0, seconds, num_turns).round(3)
    ends = starts + rng.uniform(0.1, 6, num_turns).round(3)
    speakers = rng.integers(num_speakers, size=num_turns)
    turns = zip(starts, ends, map(str, speakers), strict=True)
    return Turns("talk", tuple(Turn(*turn) for turn in turns))


def annotation(turns):
    core = pytest.importorskip("pyannote.core")
    made = core.Annotation()
    for track, turn in enumerate(turns.turns):
        made[core.Segment(turn.start, turn.end), track] = turn.speaker
    return made


@pytest.mark.parametrize("collar", [0.0, 0.5])
@pytest.mark.parametrize("skip_overlap", [False, True])
@pytest.mark.filterwarnings("ignore:.*uem.*")
def test_equal_pyannote_metrics_on_random_turns(collar, skip_overlap):
    metrics = pytest.importorskip("pyannote.metrics.diarization")
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


@pytest.mark.parametrize("collar", [0.0, 0.5])
@pytest.mark.parametrize("skip_overlap", [False, True])
def test_equal_pyannote_metrics_where_a_uem_says_what_counts(collar, skip_overlap, tmp_path):
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    rng = np.random.default_rng(8)
    their_der = metrics.DiarizationErrorRate(collar=collar, skip_overlap=skip_overlap)
    their_jer = metrics.JaccardErrorRate(collar=collar, skip_overlap=skip_overlap)
    in_all = None
    for _ in range(25):
        reference = random_turns(rng, rng.integers(1, 30), rng.integers(1, 6)).joined()
        hypothesis = random_turns(rng, rng.integers(0, 30), rng.integers(1, 6)).joined()
        starts = rng.uniform(0, 70, rng.integers(1, 6)).round(3)
        spans = np.stack([starts, starts + rng.uniform(0.1, 20, len(starts)).round(3)], axis=1)
        (tmp_path / "a.uem").write_text("".join(f"talk 1 {a:.3f} {b:.3f}\n" for a, b in spans))
        uem = load_uem(tmp_path / "a.uem")
        ours = errors_by_recording(
            {"talk": reference}, {"talk": hypothesis},
            collar=collar, skip_overlap=skip_overlap, uem=uem,
        )["talk"]  # fmt: skip
        pair = annotation(reference), annotation(hypothesis)
        timeline = core.Timeline([core.Segment(*span) for span in spans]).support()
        theirs = their_der(*pair, uem=timeline, detailed=True)
        jer = their_jer(*pair, uem=timeline)
        assert ours.missed == pytest.approx(theirs["missed detection"], abs=1e-9)
        assert ours.false_alarm == pytest.approx(theirs["false alarm"], abs=1e-9)
        assert ours.confusion == pytest.approx(theirs["confusion"], abs=1e-9)
        assert ours.total == pytest.approx(theirs["total"], abs=1e-9)
        if ours.is_defined:
            assert ours.der == pytest.approx(theirs["diarization error rate"], abs=1e-9)
        # Where little is left two mappings may share as much, and JER depends on which is taken.
        if ours.is_defined and not skip_overlap:
            assert ours.jer == pytest.approx(jer, abs=1e-9)
        in_all = ours if in_all is None else in_all + ours
    assert in_all is not None
    assert in_all.der == pytest.approx(abs(their_der), abs=1e-9)


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


def talks(**turns):
    return {name: Turns(name, tuple(of_it)) for name, of_it in turns.items()}


def test_an_empty_side_counts_and_is_told(caplog):
    one = talks(a=[Turn(0, 10, "x")])
    missed = errors_by_recording(one, {})["a"]
    assert (missed.der, missed.missed) == (1, 10)
    assert "counts as missed: a" in caplog.text
    alarm = errors_by_recording({}, one)["a"]
    assert (alarm.false_alarm, alarm.total, alarm.is_defined) == (10, 0, False)
    assert alarm.figures["der"] is alarm.figures["jer"] is None
    assert "nobody speaks in the reference of: a" in caplog.text
    both = errors_by_recording(
        talks(a=[Turn(0, 10, "x")], b=[]), talks(a=[Turn(0, 10, "y")], b=[Turn(0, 5, "y")])
    )
    assert sum(both.values(), type(alarm)()).der == 0.5
    with pytest.raises(InputError, match=r"neither .* names a recording"):
        errors_by_recording({}, {})


def test_turns_of_one_speaker_at_a_time_are_merged_and_told(caplog):
    reference = talks(a=[Turn(0, 6, "x"), Turn(4, 10, "x"), Turn(0.1 + 0.2, 0.4, "y")])
    errors = errors_by_recording(reference, talks(a=[Turn(0, 10, "x")]))["a"]
    assert errors.total == pytest.approx(10.1)
    assert "a: 1 turns of the reference overlap others of the same speaker" in caplog.text
    caplog.clear()
    errors = errors_by_recording(
        talks(a=[Turn(0, 0.1 + 0.2, "x"), Turn(0.3, 10, "x")]),
        talks(a=[Turn(0, 10, "x")]),
        collar=1,
    )["a"]
    assert errors.total == pytest.approx(8.7)
    assert not caplog.text


def test_names_are_compared_as_rttm_holds_them(tmp_path):
    turns = (Turn(0, 1, "x"),)
    for one, other in (("my meeting", "my_meeting"), ("Zo\u00eb", "Zoe\u0308")):
        assert errors_by_recording(
            {one: Turns(one, turns), "b": Turns("b", turns)},
            {other: Turns(other, turns), "b": Turns("b", turns)},
        )[one].der == 0  # fmt: skip
        with pytest.raises(InputError, match=r"hypothesis has .*my meeting|'Zo\\xeb' and 'Zoe"):
            errors_by_recording(
                talks(b=turns), {one: Turns(one, turns), other: Turns(other, turns)}
            )
    speakers = talks(a=[Turn(0, 1, "Zo\u00eb"), Turn(2, 3, "Zoe\u0308")])
    assert errors_by_recording(speakers, talks(a=[Turn(0, 3, "1")]))["a"].num_speakers == 1


def test_a_collar_that_leaves_nothing_leaves_no_rate(caplog):
    one = talks(a=[Turn(0, 1, "x")])
    errors = errors_by_recording(one, one, collar=3)["a"]
    assert errors.figures["der"] is None
    assert "a: nothing of its reference is left to be judged" in caplog.text


def test_a_uem_says_which_recordings_count(caplog, tmp_path):
    (tmp_path / "a.uem").write_text(";; judged\nmy_a 1 0 4\nmy_a 1 2 5\nc 1 0 10\n")
    uem = load_uem(tmp_path / "a.uem")
    assert uem["my_a"].tolist() == [[0, 5]]
    one = {"my a": Turns("my a", (Turn(0, 10, "x"),)), "b": Turns("b", (Turn(0, 10, "x"),))}
    found = talks(b=[Turn(0, 10, "1")], c=[Turn(0, 2, "1")]) | {"my a": Turns("my a")}
    errors = errors_by_recording(one, found, uem=uem)
    assert list(errors) == ["my a", "c"]
    assert (errors["my a"].missed, errors["c"].false_alarm) == (5, 2)
    assert "without part in the UEM, left out: b" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "a 1 0",
        "my a 1 0 5",
        "a 1 5 5",
        "a 1 nan 5",
        "a 1 0 inf",
        "a 1 x 5",
        "a 1 -1 5",
        "a 1 0 1_0",
    ],
)
def test_a_damaged_line_of_a_uem_is_named(line, tmp_path):
    (tmp_path / "a.uem").write_text(f"a 1 0 5\n{line}\n")
    with pytest.raises(InputError, match=r"a\.uem, line 2: .* is no part of a recording"):
        load_uem(tmp_path / "a.uem")
    (tmp_path / "a.uem").write_text(";; nothing\n")
    with pytest.raises(InputError, match="names no part of a recording"):
        load_uem(tmp_path / "a.uem")


def test_the_cases_beside_the_checkout(shared_cases):
    reference = load_turns(shared_cases / "ref.rttm")
    with pytest.raises(InputError, match=r"spk_space\.rttm, line 1: 11 fields"):
        load_turns(shared_cases / "spk_space.rttm")
    empty = load_turns(shared_cases / "empty.rttm")
    assert errors_by_recording(reference, empty)["m"].missed == 15
    assert errors_by_recording(empty, reference)["m"].false_alarm == 15
    subtitles = load_turns(shared_cases / "whisperx.srt")
    assert list(subtitles["whisperx"].speakers) == ["SPEAKER_00", "SPEAKER_01"]
    assert errors_by_recording(reference, subtitles)["m"].der == 0
