"""People on the page: the same store and the same answers as those of the commands."""

import io
import json

import numpy as np
import pytest
import soundfile

from speakervlad import examples, load_audio
from speakervlad.corpus.voices import Voice, synthesise
from speakervlad.people.people import PeopleStore


def spoken(seed, take=0, seconds=4.0):
    rng = np.random.default_rng((seed, take))
    samples = synthesise(Voice.draw(np.random.default_rng(seed)), rng, seconds)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def wav(samples):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, "FLOAT", format="WAV")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def voices():
    return {
        name: [wav(spoken(seed, take)) for take in range(2)]
        for name, seed in (("Ada", 13), ("Bo", 20))
    }


def add(client, name, *contents, **fields):
    files = [("recording", (f"{n}.wav", content)) for n, content in enumerate(contents)]
    return client.post("/api/people/add", files=files, data={"name": name, **fields})


def names(client):
    return [person["name"] for person in client.get("/api/people").json()["people"]]


def test_enrolled_in_sessions_equals_the_store(client, desk, embedder, voices, tmp_path):
    assert names(client) == []
    for content in voices["Ada"]:
        assert add(client, "Ada", content).json()["new"] == 1
    with PeopleStore(tmp_path / "other.db", embedder) as store:
        store.add("Ada", voices["Ada"])
        expected = store.show("Ada").voices
    np.testing.assert_allclose(desk.people.show("Ada").voices, expected, atol=1e-6)
    (person,) = client.get("/api/people").json()["people"]
    assert (person["name"], person["num_recordings"]) == ("Ada", 2)


def test_renamed_forgotten_and_never_read_as_html(client, voices, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    assert add(client, name, voices["Ada"][0]).json()["name"] == name
    answer = client.get("/api/people")
    assert answer.headers["content-type"] == "application/json"
    assert names(client) == [name]
    renamed = client.post("/api/people/rename", data={"name": name, "new": "Ada"})
    assert [person["name"] for person in renamed.json()["people"]] == ["Ada"]
    assert client.post("/api/people/forget", data={"name": "Ada"}).json()["people"] == []
    assert name.encode() not in (tmp_path / "people.db").read_bytes()


def test_identified_as_the_store_does(client, desk, voices):
    add(client, "Ada", voices["Ada"][0])
    add(client, "Bo", voices["Bo"][0])
    files = {"recording": ("who.wav", voices["Bo"][1])}
    answer = client.post("/api/identify", files=files, data={"fpir": "0.05"}).json()
    (found,) = answer["recordings"]
    (expected,) = desk.people.identify([voices["Bo"][1]], fpir=0.05)
    assert found["identified"] == expected.name
    assert found["candidates"][0]["name"] == "Bo"
    assert found["candidates"][0]["score"] == pytest.approx(expected.candidates[0].score, abs=1e-3)
    assert found["name"] == "who.wav"


def test_turns_of_a_conversation_enrol_their_speaker(client, desk, embedder):
    ada, other = spoken(13), spoken(20)
    meeting = wav(np.concatenate([other, ada, other]))
    spans = json.dumps([[4.0, 6.0], [6.0, 8.0]])
    assert add(client, "Ada", meeting, spans=spans).json()["new"] == 1
    (voice,) = desk.people.show("Ada").voices
    assert float(voice @ embedder.embed(ada)) > 0.99


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 10_000}, "10000 characters"),
        ({"name": "Ada", "spans": "[[3, 2]]"}, "spans: each begins"),
        ({"name": "Ada", "spans": "[[[]]]"}, "spans: not a list"),
        ({"name": "Ada", "spans": "[[90, 91]]"}, "0.wav: ends before"),
    ],
)
def test_what_cannot_be_enrolled_is_one_line(client, voices, fields, reason):
    answer = add(client, fields.pop("name"), voices["Ada"][0], **fields)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert names(client) == []


def test_twice_the_same_or_nobody_of_the_name(client, voices):
    add(client, "Ada", voices["Ada"][0])
    again = add(client, "Ada", voices["Ada"][0])
    assert again.status_code == 422
    assert "0.wav" in again.json()["error"]
    nobody = client.post("/api/people/forget", data={"name": "Bo"})
    assert nobody.status_code == 422
    assert client.post("/api/people/rename", data={"name": "Ada"}).status_code == 422
    files = {"recording": ("a.wav", voices["Ada"][0])}
    assert client.post("/api/identify", files=files, data={"fpir": "x"}).status_code == 422


def clip(name):
    return examples()[name].read_bytes()


def test_doubts_are_asked_about_before_anything_is_enrolled(client):
    assert add(client, "Alex", clip("alex-1")).status_code == 200
    doubtful = add(client, "Alexx", clip("alex-2"))
    assert doubtful.status_code == 422
    (reason,) = doubtful.json()["doubts"]
    assert reason.startswith("0.wav: sounds like Alex (0.")
    assert reason in doubtful.json()["error"]
    assert names(client) == ["Alex"]
    assert add(client, "Alexx", clip("alex-2"), sure="yes").json()["new"] == 1
    assert names(client) == ["Alex", "Alexx"]


def test_one_recording_is_listed_and_removed(client):
    add(client, "Kim", clip("kim-1"))
    add(client, "Kim", clip("sam-1"), sure="yes")
    add(client, "Kim", clip("kim-2"))
    found = client.post("/api/people/recordings", data={"name": "Kim"}).json()
    kept = found["recordings"]
    assert [each["likeness"] > found["apart"] for each in kept] == [True, False, True]
    data = {"name": "Kim", "recording": kept[1]["id"]}
    left = client.post("/api/people/recordings/forget", data=data).json()["recordings"]
    assert [each["id"] for each in left] == [kept[0]["id"], kept[2]["id"]]
    again = client.post("/api/people/recordings/forget", data=data)
    assert again.status_code == 422
    assert "no such recording" in again.json()["error"]


def test_two_voices_in_a_recording_are_told(client):
    both = wav(np.concatenate([load_audio(examples()[name]) for name in ("jo-1", "sam-1")]))
    refused = add(client, "Pat", both)
    assert refused.status_code == 422
    assert "two voices, one at" in refused.json()["doubts"][0]
    add(client, "Kim", clip("kim-1"))
    files = {"recording": ("both.wav", both)}
    (found,) = client.post("/api/identify", files=files, data={"fpir": "0.01"}).json()["recordings"]
    assert any("two voices" in note for note in found["notes"])
    assert found["mixture"]["spans"][1]
