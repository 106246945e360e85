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
