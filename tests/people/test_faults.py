"""Nothing lost, nothing half, nothing left: what goes wrong around a store in SQLite."""

import multiprocessing
import os
import shutil
import sqlite3
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from speakervlad.encoder.encoder import load_encoder
from speakervlad.errors import InputError
from speakervlad.people import sqlite
from speakervlad.people.cohort import Cohort
from speakervlad.people.people import PeopleStore
from speakervlad.people.records import Person


@pytest.fixture
def where(path):
    """Faults of files are those of SQLite."""
    return path


def in_child(function, *arguments):
    """The text that a function returns or raises in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run():
        try:
            theirs.send(str(function(*arguments)))
        except Exception as error:
            theirs.send(f"{type(error).__name__}: {error}")

    child = context.Process(target=run)
    child.start()
    theirs.close()
    return child, ours


def enrol(where, encoder, name, heard):
    with PeopleStore(where, encoder) as people:
        for each in heard:
            people.enrol(name, [each])


def test_two_processes_that_add_at_once_are_both_there(path, encoder, hear):
    takes = [[hear(0, take) for take in range(start, 20, 2)] for start in range(2)]
    children = [in_child(enrol, path, encoder, "Ada", part) for part in takes]
    assert [pipe.recv() for _, pipe in children] == ["None", "None"]
    for child, _ in children:
        child.join()
    with PeopleStore(path, encoder) as people:
        digests = [recording.digest for recording in people.show("Ada").recordings]
        assert sorted(digests) == sorted(each.digest for part in takes for each in part)
        np.testing.assert_allclose(
            people.show("Ada").voices[0],
            PeopleStore(path.with_name("other.db"), encoder)
            .enrol("Ada", [each for part in takes for each in part])
            .person.voices[0],
            atol=1e-6,
        )


def test_full_disk_is_one_line_and_changes_nothing(path, encoder, hear, full_disk):
    enrol(path, encoder, "Ada", [hear(0)])
    before = path.read_bytes()
    with full_disk(4096), pytest.raises(InputError, match=r"people\.db: .*[Mm]ake room|disk full"):
        enrol(path, encoder, "Bob", [hear(1, take) for take in range(20)])
    with PeopleStore(path, encoder) as people:
        assert [each.name for each in people.people()] == ["Ada"]
    assert path.read_bytes() == before


def test_what_is_written_to_a_full_disk_is_named(store, hear, tmp_path, full_disk):
    store.enrol("Ada", [hear(0, take) for take in range(4)])
    out, cohort = tmp_path / "out" / "people.safetensors", Cohort("abc", np.eye(120))
    for write in (store.export, cohort.save):
        with (
            full_disk(1000),
            pytest.raises(InputError, match=r"people\.safetensors: cannot be wri"),
        ):
            write(out)
        assert list(out.parent.iterdir()) == []


@pytest.fixture
def read_only(path, encoder, hear):
    """A store with Ada that cannot be written by anybody, in a folder that nobody can write."""
    enrol(path, encoder, "Ada", [hear(0)])
    folder = Path(tempfile.mkdtemp())
    shutil.copy(path, folder)
    (folder / path.name).chmod(0o444)
    folder.chmod(0o555)
    yield folder / path.name
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(where, encoder, function):
    if os.geteuid() == 0:  # who may write everything
        os.setuid(65534)
    with PeopleStore(where, encoder, create=False) as people:
        return function(people)


def names_of(people):
    return [each.name for each in people.people()]


def test_read_only_store_is_read_and_not_written(read_only, encoder):
    _, pipe = in_child(as_nobody, read_only, encoder, names_of)
    assert pipe.recv() == "['Ada']"
    _, pipe = in_child(as_nobody, read_only, encoder, lambda people: people.rename("Ada", "Bob"))
    assert "people.db: is read-only." in pipe.recv()


def test_damaged_store_is_one_line(path, encoder, hear):
    enrol(path, encoder, "Ada", [hear(0)])
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"people\.db: is damaged"), PeopleStore(path) as people:
        people.show("Ada")


def test_damaged_tables_whose_text_is_no_text_are_one_line(path, encoder, hear):
    enrol(path, encoder, "Ada", [hear(0)])
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE\x8cTABLE"))
    with pytest.raises(InputError, match=r"people\.db: is damaged"):
        PeopleStore(path)


def test_foreign_files_are_refused_and_left_as_they_are(path, encoder):
    path.write_text("Ada, Bob\n" * 100)
    with pytest.raises(InputError, match="is no store of people"):
        PeopleStore(path, encoder)
    assert path.read_text().startswith("Ada, Bob\n")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE people (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="is no store of people"):
        PeopleStore(path, encoder)
    assert path.read_bytes() == before


def test_an_empty_file_is_no_store_and_stays_empty(path, encoder, hear):
    path.touch(0o644)
    for create in (False, True):
        with pytest.raises(InputError, match=r"people\.db: is empty \(0 bytes\), and is no store"):
            PeopleStore(path, encoder, create=create)
    assert path.stat().st_size == 0
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["people.db"]


def test_a_store_appears_complete_or_not_at_all(path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        PeopleStore(path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("none")))
    with PeopleStore(path) as people:
        assert people.people() == []
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_store_that_is_open_to_others_is_closed_to_them(path, encoder, hear, caplog):
    enrol(path, encoder, "Ada", [hear(0)])
    assert not caplog.messages
    path.chmod(0o644)
    with PeopleStore(path, encoder) as people:
        assert [each.name for each in people.people()] == ["Ada"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert "people.db: was open to others (mode 0644)" in caplog.text


def test_changes_in_the_log_of_a_read_only_store_are_read_or_refused(read_only, encoder, hear):
    folder = read_only.parent
    folder.chmod(0o755)
    read_only.chmod(0o644)
    with PeopleStore(read_only, encoder) as people:
        people.enrol("Bob", [hear(1)])
        left = {each: each.read_bytes() for each in folder.iterdir()}
    assert (folder / "people.db-wal") in left
    for names, expected in (
        (("people.db", "people.db-wal"), ["['Ada', 'Bob']", "last changes are in people.db-wal"]),
        (("people.db", "people.db-wal", "people.db-shm"), ["['Ada', 'Bob']"]),
        (("people.db",), ["['Ada']"]),
    ):
        for each in left:
            each.unlink(missing_ok=True)
            if each.name in names:
                each.write_bytes(left[each])
                each.chmod(0o444)
        folder.chmod(0o555)
        _, pipe = in_child(as_nobody, read_only, encoder, names_of)
        answer = pipe.recv()
        assert any(each in answer for each in expected), answer
        # By a link from elsewhere, beside which no log lies, the same.
        with tempfile.TemporaryDirectory() as elsewhere:
            Path(elsewhere).chmod(0o755)
            link = Path(elsewhere) / "link.db"
            link.symlink_to(read_only)
            _, pipe = in_child(as_nobody, link, encoder, names_of)
            answer = pipe.recv()
        assert any(each in answer for each in expected), answer
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON people BEGIN DELETE FROM voices; END", "trigger t"),
        ("CREATE TABLE other (x)", "table other"),
        ("CREATE VIEW v AS SELECT * FROM people", "view v"),
        ("CREATE INDEX i ON voices (number)", "index i"),
        ("ALTER TABLE people ADD COLUMN colour TEXT DEFAULT 'blue'", "table people"),
        ("DROP INDEX voices_person", "index voices_person"),
    ],
)
def test_what_no_store_has_is_refused(path, encoder, hear, statement, named):
    enrol(path, encoder, "Ada", [hear(0)])
    change(path, statement)
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"people\.db: its {named} is not as a store of people"):
        PeopleStore(path, encoder)
    assert path.read_bytes() == before


def test_statistics_of_the_database_are_nothing_foreign(path, encoder, hear):
    enrol(path, encoder, "Ada", [hear(0)])
    change(path, "ANALYZE")
    with PeopleStore(path, encoder) as people:
        assert [each.name for each in people.people()] == ["Ada"]


def change(path, statement, values=()):
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


def test_voices_of_nobody_are_a_damaged_store(path, encoder, hear):
    enrol(path, encoder, "Ada", [hear(0)])
    change(path, "UPDATE voices SET person = 77")
    damaged = r"people\.db: is damaged \(its 1 voices belong to nobody"
    with PeopleStore(path, encoder) as people, pytest.raises(InputError, match=damaged):
        people.match(unit(encoder.dim)[None])


def unit(dim):
    return np.eye(1, dim, dtype=np.float32)[0]


@pytest.mark.parametrize(
    ("value", "how"),
    [
        (lambda dim: np.full(dim, np.nan, np.float32).tobytes(), "not finite"),
        (lambda dim: np.full(dim, np.inf, np.float32).tobytes(), "not finite"),
        (lambda dim: np.zeros(dim, np.float32).tobytes(), r"not of unit length \(0\)"),
        (lambda dim: (12 * unit(dim)).tobytes(), r"not of unit length \(12\)"),
        (lambda dim: (2e30 * unit(dim)).tobytes(), r"not of unit length \(2e\+30\)"),
        (lambda dim: unit(dim)[:-1].tobytes(), "of 11 numbers, not of 12"),
        (lambda dim: unit(dim).tobytes()[:-1], "is no vector"),
        (lambda dim: b"", "of 0 numbers, not of 12"),
        (lambda dim: "a text", "is no vector"),
        (lambda dim: 7, "is no vector"),
    ],
)
def test_damaged_voices_are_refused_and_named(path, encoder, hear, value, how):
    for speaker, name in enumerate(("Ada", "Bob")):
        enrol(path, encoder, name, [hear(speaker)])
    statement = (
        "UPDATE voices SET vector = ? WHERE person IN (SELECT id FROM people WHERE name = ?)"
    )
    change(path, statement, (value(encoder.dim), "Bob"))
    message = rf"people\.db: Bob: damaged \(a voice is .*{how.removeprefix('is ')}"
    with PeopleStore(path, encoder) as people:
        for ask in (
            lambda: people.match(unit(encoder.dim)[None]),
            lambda: people.threshold(),
            lambda: people.show("Bob"),
            lambda: people.enrol("Bob", [hear(1, 1)]),
            lambda: people.rename("Bob", "Carol"),
        ):
            with pytest.raises(InputError, match=message):
                ask()
        assert people.show("Ada").name == "Ada"
        people.forget(["Bob"])
        assert people.match(unit(encoder.dim)[None])[0].candidates[0].name == "Ada"


@pytest.mark.parametrize("column", ["sums", "seconds", "voice", "digest", "added", "note"])
def test_damaged_values_of_a_recording_are_refused_and_named(path, encoder, hear, column):
    enrol(path, encoder, "Ada", [hear(0)])
    wrong = 10**12 if column in ("sums", "digest", "added", "note") else "a text"
    # Not as the column's own type would have it.
    change(path, f"UPDATE recordings SET {column} = CAST(? AS BLOB)", (str(wrong),)) if (
        column != "sums"
    ) else change(path, "UPDATE recordings SET sums = ?", (wrong,))
    with PeopleStore(path, encoder) as people:
        with pytest.raises(InputError, match=r"people\.db: Ada: damaged \("):
            people.show("Ada")
        people.forget(["Ada"])


def test_store_of_a_newer_version_is_refused(path, encoder, hear):
    enrol(path, encoder, "Ada", [hear(0)])
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InputError, match=r"of version 99, written by a newer speakervlad"):
        PeopleStore(path, encoder)


def test_store_of_an_older_version_is_migrated(path, encoder, hear, monkeypatch):
    enrol(path, encoder, "Ada", [hear(0)])
    step = "ALTER TABLE people ADD COLUMN colour TEXT DEFAULT 'blue'"
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, step))
    with PeopleStore(path, encoder) as people:
        assert people.show("Ada").name == "Ada"
        assert people.store.run("SELECT colour FROM people") == [("blue",)]
        assert people.store.run("PRAGMA user_version") == [(2,)]


def test_only_the_owner_can_read_it(path, encoder, hear):
    with PeopleStore(path, encoder) as people:
        people.enrol("Ada", [hear(0)])
        for each in path.parent.glob("people.db*"):
            assert each.stat().st_mode & 0o777 == 0o600


def traces_of(person: Person):
    yield person.name.encode()
    for recording in person.recordings:
        yield recording.digest.encode()
        yield recording.note.encode()
        # Every piece of the moments, wherever a page may end.
        starts = range(300, len(recording.sums) - 32, 100)
        yield from (recording.sums[start : start + 32] for start in starts)
    yield from (voice.tobytes()[:24] for voice in person.voices)


def test_forget_leaves_nothing_in_the_files(path, store, hear):
    rng = np.random.default_rng(0)
    for number in range(60):
        name = f"person {number:03d}" + "x" * int(rng.integers(100))
        store.enrol(name, [hear(number), hear(number, 1)], note=f"note of {number} here")
    names = [each.name for each in store.people()]
    people = {name: store.show(name) for name in rng.permutation(names)[:20].tolist()}
    store.rename(next(iter(people)), "another name for a while")
    store.rename("another name for a while", next(iter(people)))
    content = path.read_bytes() + path.with_name("people.db-wal").read_bytes()
    assert all(trace in content for person in people.values() for trace in traces_of(person))
    store.forget(list(people)[:1])
    store.forget(list(people)[1:])
    content = b"".join(each.read_bytes() for each in path.parent.glob("people.db*"))
    found = [trace for person in people.values() for trace in traces_of(person) if trace in content]
    assert not found
    assert b"another name for a while" not in content
    assert len(store.people()) == 40


def test_forgetting_that_was_killed_is_finished_by_the_next_change(path, store, hear, monkeypatch):
    for speaker in range(3):
        store.enrol(f"person {speaker}", [hear(speaker, take) for take in range(4)])
    monkeypatch.setattr(store.store, "cleaned", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.forget(["person 1"])
    assert b"person 1" in path.with_name("people.db-wal").read_bytes()
    monkeypatch.undo()
    store.rename("person 0", "Ada")
    store.close()
    assert b"person 1" not in path.read_bytes()
    assert [each.name for each in path.parent.iterdir()] == ["people.db"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Ada\nBob", "holds a line break"),
        ("Ada\x1b[31m", "control character"),
        ("x" * 10_000, "a name of 10000 characters"),
        ("  ", "name is empty"),
        ("\ud800", "control character"),
        (
            "Ada\u202eecalevoL",
            r"name 'Ada\\u\{202e\}ecalevoL': character 4 \(U\+202E\) cannot be seen",
        ),
        ("Ada\u200b", "cannot be seen"),
        ("\u2066Ada\u2069", "cannot be seen"),
        ("A\u00adda", "cannot be seen"),
        ("\ufeffAda", "cannot be seen"),
        ("Ada\u3164", "cannot be seen"),
        ("Ada\ufe0f", "cannot be seen"),
        ("A\u200dda", "cannot be seen"),
        ("\U0001f469\u200d\U0001f4bb", "cannot be seen"),
        ("Ada\U000e0041", "cannot be seen"),
    ],
)
def test_names_that_break_a_line_are_refused(store, hear, name, message):
    with pytest.raises(InputError, match=message) as refused:
        store.enrol(name, [hear(0)])
    assert len(str(refused.value)) < 200
    assert not store.people()


@pytest.mark.parametrize(
    "name",
    [
        "علی\u200cرضا",
        "ශ්\u200dරී",
        "Zoë-Anne O’Neill",
        "山田\u3000太郎",
        "María José",
        "\U0001f469 Ada",
    ],
)
def test_names_as_people_write_them_are_taken(store, hear, name):
    assert store.enrol(name, [hear(0)]).person.name == unicodedata.normalize("NFC", name)


def test_spaces_that_look_the_same_make_one_name(store, hear):
    for take, space in enumerate((" ", "\u00a0", "\u2003", "\u202f")):
        store.enrol(f"Ada{space}Lovelace", [hear(0, take)])
    assert [(each.name, each.num_recordings) for each in store.people()] == [("Ada Lovelace", 4)]


def test_a_name_that_is_refused_today_can_be_renamed_and_forgotten(store, hear):
    for number in range(2):
        store.enrol(f"Ada {number}", [hear(number)])
        store.store.run("UPDATE people SET name = ? WHERE name = ?", ("A\u200bda", f"Ada {number}"))
        if number:
            store.forget(["A\u200bda"])
        else:
            store.rename("A\u200bda", "Ada")
    assert [each.name for each in store.people()] == ["Ada"]


def test_same_recording_twice_is_told_and_not_added(store, hear):
    store.enrol("Ada", [hear(0)])
    with pytest.raises(InputError, match=r"0-0\.wav: Ada has this recording already"):
        store.enrol("Ada", [hear(0)])
    added = store.enrol("Ada", [hear(0), hear(0, 1), hear(0, 1)])
    assert (added.new, added.known) == (1, ["0-0.wav", "0-1.wav"])
    assert store.enrol("Ada", [hear(0)], again=True).new == 1
    assert len(store.show("Ada").recordings) == 3
    assert store.enrol("Bob", [hear(0), hear(1)]).elsewhere == ["Ada"]


def test_person_without_recordings_and_empty_store(store, encoder):
    with pytest.raises(InputError, match="Ada: no recording was given"):
        store.add("Ada", [])
    with pytest.raises(InputError, match="nobody is enrolled"):
        store.match(np.eye(1, encoder.dim, dtype=np.float32))
    with pytest.raises(InputError, match="nobody is enrolled"):
        store.export("out.safetensors")
    with pytest.raises(InputError, match="Ada: nobody of that name"):
        store.forget(["Ada"])


def test_no_store_is_made_by_looking_for_one(path, encoder):
    with pytest.raises(InputError, match=r"no such store\. Check the path, or make it: `"):
        PeopleStore(path, encoder, create=False)
    assert not path.exists()


def test_store_of_another_encoder_is_refused(path, store, hear, tmp_path, save_tiny_encoder):
    store.enrol("Ada", [hear(0)])
    other = load_encoder(save_tiny_encoder(tmp_path / "other", seed=1), backend="torch")
    with PeopleStore(path, other) as people:
        for call in (
            lambda: people.enrol("Bob", [hear(1)]),
            lambda: people.match(np.eye(1, 12, dtype=np.float32)),
        ):
            with pytest.raises(InputError, match="enrol anew: speakervlad people add NAME FILE"):
                call()
    assert [each.name for each in store.people()] == ["Ada"]


def test_encoder_without_impostors_says_how_to_get_some(path, store, hear, encoder):
    store.enrol("Ada", [hear(0)])
    cohort = encoder.folder / "cohort.safetensors"
    kept = cohort.read_bytes()
    cohort.unlink()
    try:
        with pytest.raises(InputError, match=r"has no cohort .* speakervlad people cohort"):
            store.match(np.eye(1, encoder.dim, dtype=np.float32))
    finally:
        cohort.write_bytes(kept)
