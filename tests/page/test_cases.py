"""The files of ``../shared/cases`` on the page: what is right there as on the command line."""

import json

import pytest

from speakervlad.encoder.encoder import load_encoder

# What is remarked; nothing of the rest.
NOTES = {
    "size0.wav": "its header states no samples",
    "f32x7.wav": "float samples up to 5.564, scaled down to 1",
    "q60.wav": "very quiet",
    "antiphase.flac": "its channels cancel each other",
}
GOOD = [
    *("pipe.flac", "vbr_noxing.mp3", "silsp_noxing.mp3", "concat.ogg", "v_hi_lo.amr", "m7.amr"),
    *("delayed.mp4", "gsm.wav", "mp3in.wav", "size0.wav", "f32x7.wav", "two_voices.opus"),
]
# Refused by what compares voices, with this reason.
BAD = {
    "float16bit.wav": "no decoder for its codec",
    "const.wav": "holds no speech",
    "lsb.wav": "holds no speech",
    "antiphase.flac": "silent",
}


@pytest.fixture(scope="module")
def embedder():
    """The small one: all files pass here more than once."""
    return load_encoder("small", backend="onnxruntime")


@pytest.fixture
def upload(shared_cases):
    """``upload("recording", "a.wav")``: a file of a form."""
    return lambda field, name: (field, (name, (shared_cases / name).read_bytes()))


def test_two_recordings_are_compared_or_refused(client, upload):
    for pair in zip(GOOD[::2], GOOD[1::2], strict=True):
        files = [upload(field, name) for field, name in zip(("first", "second"), pair, strict=True)]
        answer = client.post("/api/verify", files=files)
        assert answer.status_code == 200
        for name, found in zip(pair, answer.json()["recordings"], strict=True):
            assert NOTES.get(name, "") in " ".join(found["notes"])
    for name, reason in BAD.items():
        files = [upload("first", name), upload("second", "gsm.wav")]
        answer = client.post("/api/verify", files=files)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error.startswith(f"{name}: ")
        assert reason in error


def test_a_bad_recording_costs_its_own_answer_alone(client, upload):
    client.post("/api/people/add", files=[upload("recording", "gsm.wav")], data={"name": "Kim"})
    names = [*GOOD, *BAD]
    files = [upload("recording", name) for name in names]
    answer = client.post("/api/identify", files=files, data={"fpir": "0.1"})
    assert answer.status_code == 200
    for name, found in zip(names, answer.json()["recordings"], strict=True):
        assert found["name"] == name
        assert BAD[name] in found["error"] if name in BAD else "candidates" in found
        if name in NOTES:
            assert NOTES[name] in found.get("error", "") + " ".join(found.get("notes", []))
        assert ("mixture" in found and found["mixture"] is not None) == (name == "two_voices.opus")


@pytest.mark.parametrize("name", [*GOOD, "q60.wav", *BAD])
def test_a_conversation_has_turns_or_the_reason(client, upload, name):
    answer = client.post("/api/conversation", files=[upload("recording", name)])
    line = json.loads(answer.text.splitlines()[-1])
    if name == "float16bit.wav":
        assert line["error"].startswith(f"{name}: there is no decoder for its codec")
        return
    assert bool(line["turns"]) == (name in (*GOOD, "q60.wav"))
    assert NOTES.get(name, "") in " ".join(line["notes"])
