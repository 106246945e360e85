"""What the page is told equals what the library says."""

import base64
import io

import numpy as np
import pytest
import soundfile

from speakervlad.page.pictures import reduced
from speakervlad.scoring.judge import judge
from speakervlad.scoring.scores import save_scores
from speakervlad.scoring.systems import load_scores
from speakervlad.scoring.trials import Trials


@pytest.fixture
def recordings(make_wav, tmp_path):
    return [make_wav(tmp_path / f"{name}.wav", 2.5, seed) for seed, name in enumerate("ab")]


@pytest.fixture
def scores(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{speaker}/{n}.wav" for speaker in range(6) for n in range(4)]
    pairs = [(a, b) for a in ids for b in ids if a < b]
    is_target = np.array([a[:2] == b[:2] for a, b in pairs])
    trials = Trials.from_ids(*zip(*pairs, strict=True), is_target)
    path = tmp_path / "S.txt"
    save_scores(path, trials, rng.normal(size=len(pairs)) + 2 * is_target)
    return path


def verify(client, paths):
    with paths[0].open("rb") as first, paths[1].open("rb") as second:
        return client.post("/api/verify", files={"first": first, "second": second})


def test_verification_equals_the_encoder(client, embedder, recordings):
    answer = verify(client, recordings).json()
    first, second = map(embedder.embed, recordings)
    assert answer["score"] == pytest.approx(float(first @ second), abs=1e-6)
    assert 0 < answer["probability"] < 1
    (one, _) = answer["recordings"]
    assert one["name"] == "a.wav"
    assert one["seconds"] == pytest.approx(2.5)
    weights = one["weights"]
    shades = np.frombuffer(base64.b64decode(weights["bytes"]), np.uint8)
    shades = shades.reshape(weights["rows"], weights["columns"]) / 255
    expected = reduced(embedder.assignments(recordings[0]), 800)
    np.testing.assert_allclose(shades, expected, atol=0.5 / 255 + 1e-4)
    assert one["clusters"] == 8
    assert weights["rows"] == 10


def test_an_encoder_without_clusters_has_no_weights(
    app, client, save_tiny_encoder, recordings, tmp_path
):
    from starlette.testclient import TestClient

    from speakervlad import load_encoder
    from speakervlad.page.answers import Desk
    from speakervlad.page.app import build_app
    from speakervlad.schema import Part

    folder = save_tiny_encoder(tmp_path / "encoder", pooling=Part("average"))
    desk = Desk(load_encoder(folder, device="cpu"))
    headers = {"authorization": "Bearer a"}
    plain = TestClient(build_app(desk, "a"), "http://127.0.0.1", headers=headers)
    assert plain.get("/api/about").json()["scale"]["rules"] == []
    answer = verify(plain, recordings).json()
    assert "weights" not in answer["recordings"][0]
    assert "probability" not in answer


def test_an_encoder_of_another_toolkit_answers(others, recordings, tmp_path):
    from starlette.testclient import TestClient

    from speakervlad import load_encoder
    from speakervlad.page.answers import Desk
    from speakervlad.page.app import build_app

    encoder = load_encoder(others.export_like(others.Residual(), tmp_path / "net.onnx"))
    headers = {"authorization": "Bearer a"}
    app = build_app(Desk(encoder), "a")
    answer = verify(TestClient(app, "http://127.0.0.1", headers=headers), recordings).json()
    one, other = map(encoder.embed, recordings)
    assert answer["score"] == pytest.approx(float(one @ other), abs=1e-6)


def test_poor_recordings_are_told(client, make_wav, tmp_path):
    short = make_wav(tmp_path / "short.wav", 0.5)
    answer = verify(client, [short, short]).json()
    assert answer["recordings"][0]["notes"]


def test_silence_is_refused_by_name(client, recordings, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(32000), 16000)
    answer = verify(client, [tmp_path / "silence.wav", recordings[0]])
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("silence.wav: silent")


def test_a_report_equals_judge(client, scores):
    answer = client.post("/api/report", files={"scores": ("S.txt", scores.read_bytes())}).json()
    (system,) = answer["systems"]
    expected = judge(*load_scores(scores), num_resamples=0)
    assert system["name"] == "S"
    assert system["figures"]["eer"] == pytest.approx(expected.eer)
    assert system["figures"]["intervals"]["eer"][0] <= expected.eer
    heights = np.array(system["histogram"]["target"])
    assert (heights * np.diff(system["histogram"]["edges"])).sum() == pytest.approx(1, abs=1e-3)


def test_systems_are_compared_and_a_key_gives_labels(client, scores):
    rows = [line.split() for line in scores.read_text().splitlines()]
    blind = "\n".join(f"{enrol} {test} {score}" for enrol, test, score, *_ in rows).encode()
    key = "\n".join(f"{row[3]} {row[0]} {row[1]}" for row in rows).encode()
    files = [("scores", ("S.txt", blind)), ("scores", ("S.txt", blind))]
    refused = client.post("/api/report", files=files)
    assert refused.status_code == 422
    assert "labels" in refused.json()["error"]
    answer = client.post("/api/report", files=[*files, ("trials", ("key.txt", key))]).json()
    assert [system["name"] for system in answer["systems"]] == ["S (1)", "S (2)"]


def test_a_page_to_keep(client, scores):
    pytest.importorskip("matplotlib")
    named = {"scores": ("<b>.txt", scores.read_bytes())}
    answer = client.post("/api/report.html", files=named)
    assert answer.status_code == 200
    assert "&lt;b&gt;" in answer.text
    assert "<b>" not in answer.text.replace("<b>&lt;", "")


def test_what_is_no_score_file_is_named(client):
    for content in (b"", b"\x00\x01", b"a b c d e f\n", io.BytesIO(b"one two\n").read()):
        answer = client.post("/api/report", files={"scores": ("S.txt", content)})
        assert answer.status_code == 422
        assert "S.txt" in answer.json()["error"]
        assert "upload" not in answer.json()["error"]


def test_columns_are_means_of_neighbours():
    rows = np.arange(12.0).reshape(2, 6)
    np.testing.assert_allclose(reduced(rows, 3), [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]])
    np.testing.assert_allclose(reduced(rows, 10), rows)
