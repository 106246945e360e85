"""Addresses of databases: read with any password, never shown with one."""

import pytest

from speakervlad.errors import InputError
from speakervlad.people.address import Address
from speakervlad.people.stores import open_store


@pytest.mark.parametrize(
    "password",
    [
        *("s3/cret", "s3#cret", "s3?cret", "s3%cret", "s3@cret", "s3:cret", "s3 cret"),
        *("s3?a=b&cret", "s3/c@r?e#t%"),
    ],
)
def test_a_password_of_any_characters_is_read_and_not_shown(password):
    address = Address.parse(f"postgresql://ada:{password}@db.example:5433/people?sslmode=prefer")
    assert address.parameters["password"] == password
    assert address.parameters["user"] == "ada"
    assert address.parameters["host"] == "db.example"
    assert address.parameters["port"] == "5433"
    assert address.parameters["dbname"] == "people"
    assert address.parameters["sslmode"] == "prefer"
    assert address.shown == "postgresql://db.example:5433/people"


@pytest.mark.parametrize(
    ("url", "shown", "parameters"),
    [
        ("postgresql://h/d?password=p@ss+x", "postgresql://h/d", {"password": "p@ss+x"}),
        ("postgresql://h:5432/d?password=p@ss", "postgresql://h:5432/d", {"password": "p@ss"}),
        ("postgres:///people", "postgres:///people", {"dbname": "people"}),
        ("postgresql://u@/d?host=/tmp/x", "postgresql:///d", {"user": "u", "host": "/tmp/x"}),
        ("postgresql://a:1,b:2/d", "postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2"}),
        ("postgresql://[::1]:5/d", "postgresql://[::1]:5/d", {"host": "::1", "port": "5"}),
        (
            "postgresql://u:p%40w@%2Ftmp/d",
            "postgresql://%2Ftmp/d",
            {"password": "p@w", "host": "/tmp"},
        ),
    ],
)
def test_other_addresses_are_read_as_libpq_reads_them(url, shown, parameters):
    address = Address.parse(url)
    assert address.shown == shown
    assert parameters.items() <= address.parameters.items()


@pytest.mark.parametrize("url", ["postgresql://ada:secret", "postgresql://ada:secret/d",
                                 "postgresql://ada:secret@h/a/b"])  # fmt: skip
def test_what_cannot_be_read_is_not_quoted(url):
    with pytest.raises(InputError, match="cannot be read") as refused:
        Address.parse(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("where", [
    "POSTGRESQL://ada:secret@h/d", "postgresql+psycopg://ada:secret@h/d", "mysql://ada:secret@h/d",
    "Postgres://ada:secret@h/d", "postgresql:/ada:secret@h/d", "file:///secret.db",
    "host=h user=ada password=secret",
])  # fmt: skip
def test_other_addresses_make_no_file(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for create in (False, True):
        with pytest.raises(InputError) as refused:
            open_store(where, create=create)
        assert "secret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["people.db", "a=b.db", "a b.db", "C:people.db", "user@host.db"])
def test_names_of_files_are_names_of_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store(name, create=True).close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_no_message_of_a_server_that_is_not_there_holds_the_password():
    pytest.importorskip("psycopg")
    for url in (
        "postgresql://ada:se/cr?et@127.0.0.1:1/people",
        "postgresql://ada@127.0.0.1:1/people?password=se/cr?et",
        "postgresql://ada:se/cr?et@127.0.0.1:1/people?nonsense=se/cr?et",
    ):
        with pytest.raises(InputError, match=r"postgresql://127\.0\.0\.1:1/people: ") as refused:
            open_store(url)
        text, cause = str(refused.value), refused.value.__cause__
        assert cause is None
        assert not {"se/cr?et", "cr?et", "se/cr"} & set(text.replace("=", " ").split())
