"""What the verbs of the store do, against the definition: sums of frames, kept by name."""

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.people.people import PeopleStore
from speakervlad.tables.embeddings import Embeddings
from speakervlad.tables.interchange import save_embeddings


def merged(encoder, *heard):
    total = heard[0].sums
    for other in heard[1:]:
        total = total.merge(other.sums)
    return encoder.finish(total)


def test_sessions_one_by_one_equal_one_enrolment_of_all(store, encoder, hear):
    takes = [hear(0, take) for take in range(3)]
    for take in takes:
        last = store.enrol("one by one", [take]).person
    at_once = store.enrol("at once", takes).person
    np.testing.assert_array_equal(last.voices, at_once.voices)
    np.testing.assert_array_equal(last.voices[0], merged(encoder, *takes))


def test_store_is_there_when_it_is_opened_again(where, store, encoder, hear):
    voices = store.enrol("Ada", [hear(0)], note="headset").person.voices
    with PeopleStore(where, encoder, create=False) as again:
        person = again.show("Ada")
    np.testing.assert_array_equal(person.voices, voices)
    assert [each.note for each in person.recordings] == ["headset"]
    assert person.recordings[0].seconds == 3.0


def test_a_person_in_print_is_short(store, hear):
    store.enrol("Ada", [hear(0)], note="headset")
    text = repr(store.show("Ada"))
    assert "Ada" in text
    assert "headset" in text
    assert len(text) < 500


def test_people_are_listed_by_name(store, hear):
    store.enrol("Bob", [hear(1)])
    store.enrol("Ada", [hear(0), hear(0, 1)])
    assert [(each.name, each.num_recordings, each.seconds) for each in store.people()] == [
        ("Ada", 2, 6.0),
        ("Bob", 1, 3.0),
    ]


def test_rename_keeps_everything_else(store, hear):
    before = store.enrol("Ada", [hear(0)]).person
    store.enrol("Bob", [hear(1)])
    store.rename("Ada", "Ada Lovelace")
    after = store.show("Ada Lovelace")
    np.testing.assert_array_equal(after.voices, before.voices)
    with pytest.raises(InputError, match="Ada: nobody of that name"):
        store.show("Ada")
    with pytest.raises(InputError, match="Bob: is in the store already"):
        store.rename("Ada Lovelace", "Bob")


def test_people_are_known_by_their_voices_and_others_are_not(store, hear, encoder):
    for speaker in range(4):
        store.enrol(f"person {speaker}", [hear(speaker), hear(speaker, 1)])
    probes = np.stack([encoder.finish(hear(speaker, 7).sums) for speaker in range(4)])
    answers = store.match(probes, fpir=0.1, top=2)
    assert [answer.candidates[0].name for answer in answers] == [f"person {k}" for k in range(4)]
    assert all(len(answer.candidates) == 2 for answer in answers)
    others = -probes
    assert [answer.name for answer in store.match(others)] == [None] * 4


def test_export_and_import_give_the_same_store(store, tmp_path, encoder, hear):
    store.enrol("Ada", [hear(0), hear(0, 1)], note="büro")
    store.enrol("Bob", [hear(1)])
    out = tmp_path / "people.safetensors"
    assert store.export(out) == 2
    assert out.stat().st_mode & 0o777 == 0o600
    with PeopleStore(tmp_path / "other.db", encoder) as other:
        assert other.import_(out) == (2, 3)
        assert other.people() == store.people()
        for name in ("Ada", "Bob"):
            np.testing.assert_array_equal(other.show(name).voices, store.show(name).voices)
            ours, theirs = store.show(name).recordings, other.show(name).recordings
            assert [each.digest for each in ours] == [each.digest for each in theirs]
            assert [each.sums for each in ours] == [each.sums for each in theirs]
            assert [each.note for each in ours] == [each.note for each in theirs]
        assert other.import_(out) == (0, 0)


def test_another_voice_of_the_same_name_is_imported_with_a_warning(
    path, tmp_path, encoder, hear, caplog, monkeypatch
):
    bob = float(merged(encoder, hear(2)) @ merged(encoder, hear(2, 1)))
    monkeypatch.setattr(PeopleStore, "apart", bob - 0.01)
    out = tmp_path / "people.safetensors"
    with PeopleStore(tmp_path / "other.db", encoder) as other:
        other.enrol("Ada", [hear(1)])
        other.enrol("Bob", [hear(2, 1)])
        other.export(out)
    with PeopleStore(path, encoder) as people:
        people.enrol("Ada", [hear(0)])
        people.enrol("Bob", [hear(2)])
        assert people.import_(out) == (2, 2)
    (warning,) = (each.getMessage() for each in caplog.records)
    assert warning.startswith(f"{hear(1).digest[:12]}: is unlike the other recordings of Ada (cos")


def test_who_has_no_recordings_is_not_exported_in_silence(path, tmp_path, encoder, hear, caplog):
    out, table = tmp_path / "people.safetensors", tmp_path / "P.npz"
    save_embeddings(table, Embeddings(["p"], np.eye(1, encoder.dim), encoder.fingerprint))
    with PeopleStore(path, encoder) as people:
        people.import_(table)
        with pytest.raises(InputError, match="nobody has recordings"):
            people.export(out)
        people.enrol("Ada", [hear(0)])
        assert people.export(out) == 1
        assert "left out, as they were imported as vectors: p." in caplog.text
        people.forget(["Ada", "p"])
        with pytest.raises(InputError, match="nobody has recordings"):
            people.export(tmp_path / "none.safetensors")
    with PeopleStore(tmp_path / "other.db", encoder) as other:
        assert other.import_(out) == (1, 1)


def test_one_recording_of_several_is_removed_and_the_voices_made_anew(store, encoder, hear):
    takes = [hear(0, take) for take in range(3)]
    store.enrol("Ada", takes)
    store.enrol("Bob", [hear(1)])
    kept = store.recordings("Ada")
    assert [each.id for each in kept] == [take.digest[:12] for take in takes]
    assert all(each.likeness > 0.9 for each in kept)
    assert store.recordings("Bob")[0].likeness is None
    after = store.forget_recordings("Ada", [kept[1].id])
    np.testing.assert_array_equal(after.voices[0], merged(encoder, takes[0], takes[2]))
    np.testing.assert_array_equal(store.show("Ada").voices, after.voices)
    probe = merged(encoder, takes[1])[None]
    assert store.match(probe)[0].candidates[0].score == pytest.approx(
        float(probe[0] @ after.voices[0]), abs=1e-6
    )
    for ids, reason in (([kept[1].id], "no such recording"), ([""], "no such recording")):
        with pytest.raises(InputError, match=reason):
            store.forget_recordings("Ada", ids)
    with pytest.raises(InputError, match="Bob: no recording would be left"):
        store.forget_recordings("Bob", [store.recordings("Bob")[0].id])
    with pytest.raises(InputError, match="Carol: nobody of that name"):
        store.forget_recordings("Carol", ["a"])


def test_a_recording_that_was_added_twice_is_removed_once(store, hear):
    store.enrol("Ada", [hear(0), hear(0, 1)])
    store.enrol("Ada", [hear(0)], again=True, note="again")
    store.forget_recordings("Ada", [hear(0).digest])
    assert [each.note for each in store.show("Ada").recordings] == ["", ""]


def test_a_beginning_of_several_recordings_is_refused(store, hear):
    takes = [hear(0, take) for take in range(40)]
    store.enrol("Ada", takes)
    first = next(
        take.digest[0]
        for take in takes
        if sum(take.digest[0] == each.digest[0] for each in takes) > 1
    )
    with pytest.raises(InputError, match="several recordings begin so"):
        store.forget_recordings("Ada", [first])
    assert len(store.show("Ada").recordings) == 40
