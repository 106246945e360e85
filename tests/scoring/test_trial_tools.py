import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.scoring import checks
from speakervlad.scoring.breakdown import breakdown, duration_groups, trial_groups
from speakervlad.scoring.checks import check_trials, content_digest, make_trials
from speakervlad.scoring.lists import load_trials
from speakervlad.scoring.quality import quality_measures
from speakervlad.scoring.trials import Trials
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.manifest import Manifest, load_manifest


@pytest.fixture
def manifest(tmp_path):
    """6 speakers of 2 corpora, 2 sessions of 3 utterances each, files of 1 to 12 seconds."""
    rows = [(s, session, n) for s in range(6) for session in "xy" for n in range(3)]
    for speaker, session, n in rows:
        file = tmp_path / f"{speaker}/{session}/{n}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Manifest.of(
        tmp_path,
        utterance_ids=[f"{s}/{session}/{n}" for s, session, n in rows],
        paths=[f"{s}/{session}/{n}.wav" for s, session, n in rows],
        speakers=[f"spk{s}" for s, _, _ in rows],
        sessions=[f"{s}{session}" for s, session, _ in rows],
        num_samples=[16_000 * (1 + row % 12) for row in range(len(rows))],
        extra={
            "corpus": ["c1" if s < 3 else "c2" for s, _, _ in rows],
            "gender": ["f" if s % 2 else "m" for s, _, _ in rows],
        },
    )


def sides(trials, values):
    """A manifest property of both sides of every trial, by utterance id."""
    return [np.array([values[name] for name in ids]) for ids in (trials.enrol_ids, trials.test_ids)]


@pytest.mark.parametrize("match", [(), ("corpus",), ("corpus", "gender")])
def test_made_lists_keep_their_promises(manifest, match):
    trials = make_trials(manifest, per_speaker=5, match=match, seed=1)
    ids = list(manifest.utterance_ids)
    speakers = dict(zip(ids, manifest.speakers, strict=True))
    sessions = dict(zip(ids, manifest.sessions, strict=True))
    labels = trials.labels()
    enrol, test = sides(trials, speakers)
    assert ((enrol == test) == labels).all()
    enrol_session, test_session = sides(trials, sessions)
    assert (enrol_session != test_session).all()
    for name in match:
        a, b = sides(trials, dict(zip(ids, manifest.column(name), strict=True)))
        assert (a == b).all()
    assert labels.sum() == 6 * 5
    assert max(np.unique(enrol[labels], return_counts=True)[1]) <= 5
    assert max(np.unique(enrol[~labels], return_counts=True)[1]) <= 5
    checked = check_trials(trials, manifest)
    assert not checked.problems
    assert checked.num_speakers == 6


@pytest.mark.parametrize("per_speaker", [3, 20, 1000])
def test_no_pair_is_made_twice_in_either_order(manifest, per_speaker):
    few = manifest.select(np.flatnonzero(manifest.speaker_indices < 2))
    for seed in range(5):
        for rows in (manifest, few):
            trials = make_trials(
                rows, per_speaker=per_speaker, allow_same_session=seed % 2 == 0, seed=seed
            )
            pairs = {frozenset(pair) for pair in zip(trials.enrol, trials.test, strict=True)}
            assert len(pairs) == len(trials)
            assert not trials.labels().all()
            assert not any("repeat" in note for note in check_trials(trials).notes)


def test_making_is_seeded(manifest):
    first, again, other = (make_trials(manifest, per_speaker=4, seed=seed) for seed in (1, 1, 2))
    assert first.test_ids.tolist() == again.test_ids.tolist()
    assert first.test_ids.tolist() != other.test_ids.tolist()


def test_a_speaker_with_few_pairs_gives_few(manifest):
    trials = make_trials(manifest, per_speaker=1000, allow_same_session=True)
    assert trials.labels().sum() == 6 * 15
    assert not check_trials(trials, manifest).problems


def test_lists_that_cannot_be_made_are_refused(manifest):
    one_session = manifest.select(np.flatnonzero(np.char.endswith(list(manifest.sessions), "x")))
    with pytest.raises(
        InputError, match=r"different sessions.*targets of one session: --allow-same-session"
    ):
        make_trials(one_session)
    assert make_trials(one_session, allow_same_session=True).labels().any()
    with pytest.raises(InputError, match=r"Match fewer columns, or .* --allow-same-session\."):
        make_trials(manifest.select(np.arange(6)), match=("corpus",))
    with pytest.raises(InputError, match="no column 'corpsu'"):
        make_trials(manifest, match=("corpsu",))


def test_check_finds_what_is_wrong(manifest, tmp_path):
    (tmp_path / "0/x/1.wav").unlink()
    trials = Trials.from_ids(
        ["0/x/0", "0/x/0", "0/y/0", "1/x/0", "1/x/0", "0/x/0", "0/x/1"],
        ["0/y/0", "1/x/0", "0/x/0", "1/x/0", "nobody", "2/x/0", "0/x/2"],
        np.array([1, 0, 0, 1, 0, 1, 1]),
    )
    train = manifest.select(np.arange(8))
    found = check_trials(trials, manifest, train)
    text = "\n".join(found.problems)
    assert "1 trials compare a recording with itself: 1/x/0" in text
    assert "1 pairs are labelled both target and non-target" in text
    assert "1 of 7 recordings are not in the manifest: nobody" in text
    assert "1 files do not exist" in text
    assert "2 labels contradict the speakers of the manifest: 0/y/0 0/x/0, 0/x/0 2/x/0" in text
    assert "2 of 3 speakers are in the training set: spk0, spk1" in text
    assert "5 recordings are in the training set" in text
    assert any("1 trials repeat an earlier pair" in note for note in found.notes)
    assert any("2 target trials are of one session" in note for note in found.notes)


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_check_names_a_single_class(labels):
    found = check_trials(Trials.from_ids("aa", "bc", np.array(labels)))
    assert "one class only" in found.problems[0]


def test_blind_list_is_noted():
    assert check_trials(Trials.from_ids("aa", "bc")).notes == (
        "no labels: can be scored, not judged",
    )


def test_known_lists_are_named_by_counts_and_contents(monkeypatch):
    trials = Trials.from_ids("ab", "cd", np.array([1, 0]))
    reordered = Trials.from_ids(["/w/b.wav", "/w/a.wav"], ["/w/d.flac", "/w/c"], np.array([0, 1]))
    assert content_digest(Trials.from_ids(["w/b", "w/a"], ["w/d", "w/c"], np.array([0, 1]))) == (
        content_digest(reordered)
    )
    digest = content_digest(trials)
    monkeypatch.setattr(checks, "KNOWN_LISTS", {(2, 1): ("Two", digest)})
    assert check_trials(trials).known_as == "Two (contents verified)"
    swapped = Trials.from_ids("ab", "dc", np.array([1, 0]))
    assert check_trials(swapped).known_as == "Two by its counts, with other contents"
    monkeypatch.setattr(checks, "KNOWN_LISTS", {(2, 1): ("Two", None)})
    assert check_trials(trials).known_as == "Two (by its counts)"
    assert check_trials(trials.select(np.array([0]))).known_as is None


def test_breakdown_by_column(manifest, rng):
    trials = make_trials(manifest, per_speaker=6, seed=3)
    scores = rng.normal(size=len(trials)) + 2 * trials.labels()
    groups = trial_groups(trials, manifest, "gender")
    assert set(groups) == {"f", "m", "f / m"}
    parts = breakdown(scores, trials, groups)
    assert parts["f / m"] is None
    total = sum(int((groups == name).sum()) for name in parts)
    assert total == len(trials)
    assert parts["f"] is not None
    assert parts["f"].num_target + parts["f"].num_nontarget == (groups == "f").sum()


def test_duration_is_that_of_the_shorter_side(manifest):
    trials = Trials.from_ids(["0/x/0", "0/y/2", "1/y/2"], ["0/y/2", "1/y/2", "1/y/2"])
    assert duration_groups(trials, manifest).tolist() == ["00-02 s", "06-10 s", "10 s and more"]
    assert trial_groups(trials, manifest, "duration").tolist()[0] == "00-02 s"


def test_unknown_breakdown_column(manifest):
    with pytest.raises(InputError, match="Did you mean 'gender'"):
        trial_groups(Trials.from_ids(["0/x/0"], ["0/y/2"]), manifest, "gander")


def test_quality_measures_are_lower_and_higher_of_both_sides(manifest, rng):
    trials = Trials.from_ids(["0/x/0", "1/x/0"], ["0/y/2", "0/x/0"])
    vectors = rng.normal(size=(3, 4))
    table = Embeddings(np.array(["0/x/0", "1/x/0", "0/y/2"]), vectors)
    cohort = Embeddings(np.array([f"c{n}" for n in range(9)]), rng.normal(size=(9, 4)))
    found = quality_measures(
        trials,
        ["duration", "magnitude", "cohort"],
        manifest=manifest,
        embeddings=table,
        cohort=cohort,
        top=3,
    )
    assert set(found) == {
        f"{name}_{end}" for name in ("duration", "magnitude", "cohort") for end in ("low", "high")
    }
    np.testing.assert_allclose(np.exp(found["duration_low"]), [1, 1])
    np.testing.assert_allclose(np.exp(found["duration_high"]), [6, 7])
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(
        np.exp(found["magnitude_low"][0]), min(lengths[0], lengths[2]), rtol=1e-5
    )
    unit = vectors / lengths[:, None]
    others = cohort.vectors / np.linalg.norm(cohort.vectors, axis=1, keepdims=True)
    nearest = np.sort(unit @ others.T, axis=1)[:, -3:].mean(axis=1)
    np.testing.assert_allclose(found["cohort_high"][1], max(nearest[0], nearest[1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("duration", "needs --manifest"),
        ("cohort", "needs --embeddings and --cohort"),
        ("snr", "unknown"),
    ],
)
def test_quality_measures_name_their_source(measure, message):
    with pytest.raises(InputError, match=message):
        quality_measures(Trials.from_ids(["a"], ["b"]), [measure])


def test_development_lists_of_real_speech_agree_with_their_manifest(shared_speech):
    manifest = load_manifest(shared_speech / "dev.csv")
    train = load_manifest(shared_speech / "train.csv")
    lists = sorted((shared_speech / "dev").glob("*.trials"))
    assert lists
    for path in lists:
        found = check_trials(load_trials(path), manifest, train)
        assert found.num_speakers, path
        assert not [problem for problem in found.problems if "do not exist" not in problem], path
