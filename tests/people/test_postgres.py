"""A server that goes away and comes back, and tables that are not what they seem."""

import numpy as np
import pytest

from speakervlad.errors import InputError
from speakervlad.people.people import PeopleStore

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def where(new_database):
    return new_database("people")


@pytest.fixture
def server(where):
    """Another connection to the same database."""
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute("SET search_path TO speakervlad, public")
        yield connection


def cut(server):
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def test_a_restart_of_the_server_is_survived(store, encoder, hear, postgres):
    store.enrol("Ada", [hear(0)])
    probe = encoder.finish(hear(0, 5).sums)[None]
    before = store.match(probe)
    postgres.restart()
    assert store.match(probe) == before
    postgres.restart()
    store.enrol("Bob", [hear(1)])
    assert [each.name for each in store.people()] == ["Ada", "Bob"]
    postgres.restart()
    store.forget(["Ada"])
    assert [each.name for each in store.people()] == ["Bob"]


def test_a_change_whose_connection_is_lost_is_rolled_back_and_told(
    store, hear, server, monkeypatch
):
    store.enrol("Ada", [hear(0)])
    grouped = store._grouped

    def lose(person):
        cut(server)
        return grouped(person)

    monkeypatch.setattr(store, "_grouped", lose)
    with pytest.raises(InputError, match="connection was lost, and what was under way was rolled"):
        store.enrol("Bob", [hear(1)])
    monkeypatch.undo()
    assert [each.name for each in store.people()] == ["Ada"]
    store.enrol("Bob", [hear(1)])
    assert [each.name for each in store.people()] == ["Ada", "Bob"]


def test_a_server_that_is_gone_is_one_line(store, hear, server, monkeypatch):
    store.enrol("Ada", [hear(0)])
    cut(server)
    monkeypatch.setitem(store.store._address.parameters, "port", "1")
    with pytest.raises(InputError, match=r"postgresql://.*people: .*(refused|No such file)"):
        store.people()
    monkeypatch.undo()
    assert [each.name for each in store.people()] == ["Ada"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO people DO ALSO NOTHING",
        "ALTER TABLE voices RENAME TO kept; CREATE VIEW voices AS SELECT * FROM kept",
    ],
)
def test_foreign_tables_and_triggers_are_refused(where, store, encoder, hear, server, statement):
    store.enrol("Ada", [hear(0)])
    server.execute(statement)
    with pytest.raises(InputError, match=r"its table (people|voices) is not as a store of people"):
        PeopleStore(where, encoder)
    cut(server)
    with pytest.raises(InputError, match=r"its table (people|voices) is not as a store of people"):
        store.people()


@pytest.mark.parametrize(
    ("vector", "how"),
    [
        (lambda dim: np.zeros(dim), r"not of unit length \(0\)"),
        (lambda dim: 12 * np.eye(dim)[0], r"not of unit length \(12\)"),
        (lambda dim: np.eye(dim - 1)[0], "of 11 numbers, not of 12"),
    ],
)
def test_damaged_voices_are_refused_and_named(store, encoder, hear, server, vector, how):
    store.enrol("Ada", [hear(0)])
    store.enrol("Bob", [hear(1)])
    text = f"[{','.join(map(str, vector(encoder.dim)))}]"
    bobs = "(SELECT id FROM people WHERE name = 'Bob')"
    server.execute(f"UPDATE voices SET vector = %s::vector WHERE person = {bobs}", (text,))
    probe = np.eye(1, encoder.dim, dtype=np.float32)
    for ask in (lambda: store.match(probe), lambda: store.show("Bob")):
        with pytest.raises(InputError, match=f"Bob: damaged .a voice is {how}"):
            ask()
    store.forget(["Bob"])
    assert store.match(probe)[0].candidates[0].name == "Ada"


def crowd(rng, count, dim):
    """Unit vectors in which a few directions vary most, as those of voices do."""
    scales = 1 / np.sqrt(1 + np.arange(dim))
    vectors = rng.standard_normal((count, dim)) * scales
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nearest_of(vectors, names, query):
    cosines = vectors @ query
    return names[int(cosines.argmax())], float(cosines.max())


def test_a_crowd_is_found_by_the_index_with_exact_scores(where, rng, monkeypatch):
    from speakervlad.people import postgres as module
    from speakervlad.people.stores import open_store

    monkeypatch.setattr(module, "INDEXED_FROM", 1000)
    vectors = crowd(rng, 3000, 24)
    names = [f"p{number}" for number in range(3000)]
    store = open_store(where, create=True)
    assert store.load(names[:900], vectors[:900], ("abc", "e", 24)) == 900
    store.nearest(vectors[:1], 1)
    assert store.run("SELECT to_regclass('speakervlad.voices_near')")[0][0] is None
    store.load(names[900:], vectors[900:], ("abc", "e", 24))
    queries = crowd(rng, 200, 24)
    found = store.nearest(queries, 3)
    assert store.run("SELECT to_regclass('speakervlad.voices_near')")[0][0] is not None
    (plan,) = store.run("SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'voices_near'")
    assert plan[0] == 1
    right = [nearest_of(vectors, names, query) for query in queries]
    hits = [matches[0].name == name for matches, (name, _) in zip(found, right, strict=True)]
    assert np.mean(hits) >= 0.995
    # More than the index can be asked for are compared one by one.
    (many,) = store.nearest(queries[:1], 1500)
    assert (len(many), many[0].name) == (1500, right[0][0])
    for matches, (name, cosine) in zip(found, right, strict=True):
        if matches[0].name == name:
            assert matches[0].cosine == pytest.approx(cosine, abs=1e-6)
        assert [each.cosine for each in matches] == sorted(
            (each.cosine for each in matches), reverse=True
        )
    store.close()


def test_an_index_is_made_without_workers_where_they_have_no_memory(where, rng, monkeypatch):
    from speakervlad.people import postgres as module
    from speakervlad.people.stores import open_store

    monkeypatch.setattr(module, "INDEXED_FROM", 100)
    vectors = crowd(rng, 200, 24)
    store = open_store(where, create=True)
    store.load([f"p{number}" for number in range(200)], vectors, ("abc", "e", 24))
    run, tried = store.run, []

    def short_of_memory(statement, values=()):
        tried.append(statement)
        if statement.startswith("CREATE INDEX") and not any("workers" in each for each in tried):
            raise psycopg.errors.DiskFull("could not resize shared memory segment")
        return run(statement, values)

    monkeypatch.setattr(store, "run", short_of_memory)
    ((match,),) = store.nearest(vectors[5:6], 1)
    assert match.name == "p5"
    assert sum(each.startswith("CREATE INDEX") for each in tried) == 2
    store.close()


def test_more_people_than_there_are_take_the_index_with_them(where, rng, monkeypatch):
    from speakervlad.people import postgres as module
    from speakervlad.people.stores import open_store

    monkeypatch.setattr(module, "INDEXED_FROM", 100)
    vectors = crowd(rng, 600, 24)
    names = [f"p{number}" for number in range(600)]
    store = open_store(where, create=True)

    def is_indexed():
        return store.run("SELECT to_regclass('speakervlad.voices_near')")[0][0] is not None

    for upto, since, stays in ((200, 0, False), (300, 200, True), (600, 300, True)):
        store.load(names[since:upto], vectors[since:upto], ("abc", "e", 24))
        assert is_indexed() == stays
        found = store.nearest(vectors[:upto:7], 1)
        assert [matches[0].name for matches in found] == names[:upto:7]
        assert is_indexed()
    store.load([f"q{number}" for number in range(601)], crowd(rng, 601, 24), ("abc", "e", 24))
    assert not is_indexed()
    store.close()


def test_vectors_are_imported_as_people(store, encoder, hear, tmp_path):
    from speakervlad.tables.embeddings import Embeddings
    from speakervlad.tables.interchange import save_embeddings

    rng = np.random.default_rng(0)
    vectors = crowd(rng, 50, encoder.dim)
    names = [f"p{number}" for number in range(50)]
    save_embeddings(tmp_path / "P.parquet", Embeddings(names, 3 * vectors, encoder.fingerprint))
    assert store.import_(tmp_path / "P.parquet") == (50, 0)
    assert len(store.people()) == 50
    (matches,) = store.store.nearest(vectors[7:8], 1)
    assert (matches[0].name, matches[0].cosine) == ("p7", pytest.approx(1, abs=1e-5))
    with pytest.raises(InputError, match=r"50 people are enrolled already"):
        store.import_(tmp_path / "P.parquet")
    with pytest.raises(InputError, match="was imported as a vector"):
        store.enrol("p7", [hear(0)])
    store.enrol("Ada", [hear(0)])
    store.forget(["p7"])
    assert len(store.people()) == 50
    save_embeddings(tmp_path / "Q.parquet", Embeddings(["q"], vectors[:1], "other"))
    with pytest.raises(InputError, match="of the encoder other"):
        store.import_(tmp_path / "Q.parquet")
