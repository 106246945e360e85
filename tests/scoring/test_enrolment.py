import logging

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring.enrolment import load_enrolment
from speakervlad.scoring.scoring import cosine_scores, with_models
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings


@pytest.mark.parametrize(
    ("text", "recordings"),
    [
        (
            "m1 a.flac b.flac\nm2 d.flac\n",
            {"m1": ("a.flac", "b.flac"), "m2": ("d.flac",)},
        ),
        ("12013 audio/unotx.flac\n", {"12013": ("audio/unotx.flac",)}),
        (
            "69006 x.flac 72.000 77.310\n69006 y.flac 1 2.5\n",
            {"69006": ("x.flac@72.000-77.310", "y.flac@1.000-2.500")},
        ),
        (
            "modelid\tsegmentid\tside\n1\tx.sph\ta\n1\ty.sph\ta\n2\tz.sph\ta\n",
            {"1": ("x.sph", "y.sph"), "2": ("z.sph",)},
        ),
    ],
    ids=["cn-celeb map", "list", "sitw assisted", "nist"],
)
def test_recognises_enrolment_lists(tmp_path, text, recordings):
    path = tmp_path / "enroll"
    path.write_text(text)
    assert load_enrolment(path).recordings == recordings


def test_a_model_without_recording_is_named_by_line(tmp_path):
    path = tmp_path / "enroll.map"
    path.write_text("m1 a b\n\nm2\n")
    with pytest.raises(InputError, match="line 3: 'm2' names no recording"):
        load_enrolment(path)


@pytest.fixture
def table(rng):
    return Embeddings(np.array(["a.wav", "b.wav", "c.wav", "t.wav"]), 3 * rng.normal(size=(4, 6)))


@pytest.fixture
def enrolment(tmp_path):
    path = tmp_path / "enroll.map"
    path.write_text("m1 a.flac b.flac\nm2 c.flac\nunused x y\n")
    return load_enrolment(path)


def test_a_model_is_the_mean_of_unit_vectors(table, enrolment):
    trials = Trials.from_ids(["m1", "m2"], ["t.wav", "t.wav"])
    scores = cosine_scores(with_models(table, enrolment, trials), trials)
    a, b, c, t = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    mean = (a + b) / np.linalg.norm(a + b)
    np.testing.assert_allclose(scores, [mean @ t, c @ t], atol=1e-6)


def test_utterances_may_stand_beside_models(table, enrolment):
    trials = Trials.from_ids(["m1", "c.wav"], ["t.wav", "t.wav"])
    assert len(with_models(table, enrolment, trials)) == len(table) + 1


def test_segments_fall_back_to_whole_recordings_with_a_warning(tmp_path, table, caplog):
    path = tmp_path / "assist.lst"
    path.write_text("m a.wav 1.0 2.0\n")
    with caplog.at_level(logging.WARNING):
        found = with_models(table, load_enrolment(path), Trials.from_ids(["m"], ["t.wav"]))
    assert "1 enrolment segments" in caplog.text
    unit = table.vectors[0] / np.linalg.norm(table.vectors[0])
    np.testing.assert_allclose(found.vectors[-1], unit, atol=1e-6)


def test_swapped_columns_are_recognised(table, enrolment):
    with pytest.raises(InputError, match="Swap the columns"):
        with_models(table, enrolment, Trials.from_ids(["x", "x"], ["m1", "m2"]))


def test_unknown_models_are_counted(table, enrolment):
    trials = Trials.from_ids(["m1", "m8", "m9"], ["t.wav"] * 3)
    with pytest.raises(InputError, match="2 of 3 models are not in the enrolment list: m8, m9"):
        with_models(table, enrolment, trials)


def test_missing_recordings_of_a_model_are_named(table, enrolment):
    with pytest.raises(InputError, match="2 of 2 utterances have no embedding: x, y"):
        with_models(table, enrolment, Trials.from_ids(["unused"], ["t.wav"]))
