"""Good files of every kind and their readers, for ``faults.py`` to damage; with their checks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from fault_checks import Read, again, answers, finite, sound, unit

RATE = 16_000


def voice(seconds: float, seed: int) -> np.ndarray:
    """A generated voice, (samples,)."""
    from speakervlad.corpus.voices import Voice, synthesise

    rng = np.random.default_rng(seed)
    return synthesise(Voice.draw(rng), rng, seconds)


def lists(folder: Path) -> dict[Path, Read]:
    """Lists of trials, scores, enrolments and utterances."""
    from speakervlad.scoring import lists as readers
    from speakervlad.scoring import scores as score_files
    from speakervlad.scoring.enrolment import load_enrolment
    from speakervlad.scoring.systems import load_scores
    from speakervlad.tables.manifest import load_manifest, save_manifest

    def load_finite(path: Path) -> tuple:
        trials, scores = load_scores(path)
        return trials, finite(scores)

    trials = b"1 a/1.wav b/2.wav\n0 a/1.wav c/3.wav\n" * 3
    scores = b"a/1.wav b/2.wav 0.5 1\na/1.wav c/3.wav 0.25 0\n" * 3
    heading = "utterance_id,path,speaker,session,num_samples,corpus\n"
    rows = "".join(f"u{i},s/{i}.wav,s{i % 2},x,{16000 + i},c\n" for i in range(4))
    shards = "".join(f"u{i},s.pcm16@{i * 9}+9,s{i % 2},x,9,c\n" for i in range(4))
    nist = b"modelid\tsegmentid\tside\ttargettrial\n1\tx\ta\ttarget\n2\ty\tb\tnontarget\n"
    load_trials = again(readers.load_trials, readers.save_trials, ".txt")
    manifests = again(load_manifest, save_manifest)
    texts: dict[str, tuple[bytes, Read]] = {
        "trials.txt": (trials, load_trials),
        "trials.gz": (gzip.compress(trials), load_trials),
        "nist.tsv": (nist, load_trials),
        "pairs.txt": (b"a/1.wav b/2.wav\nc.wav d.wav\n", readers.read_pairs),
        "scores.txt": (scores, load_finite),
        "voxsrc.txt": (b"0.5 a/1.wav b/2.wav\n0.25 a/1.wav c/3.wav\n", score_files.read_scores),
        "long.txt": (scores, score_files.read_long_scores),
        "enrol.map": (b"m a b c\nk d e\n", load_enrolment),
        "manifest.csv": ((heading + rows).encode(), manifests),
        "packed.csv": ((heading + shards).encode(), manifests),
    }
    return _written(folder, texts)


def _written(folder: Path, texts: dict[str, tuple[bytes, Read]]) -> dict[Path, Read]:
    for name, (content, _) in texts.items():
        (folder / name).write_bytes(content)
    return {folder / name: read for name, (_, read) in texts.items()}


RTTM = "SPEAKER call 1 0.00 2.50 <NA> <NA> ada <NA> <NA>\nSPEAKER call 1 2 2 <NA> <NA> bob\n"
SRT = """1
00:00:01,000 --> 00:00:02,500
[ada] Good morning.

2
00:00:03,000 --> 00:00:04,000
[bob]: And to you.
"""
VTT = """WEBVTT

00:01.000 --> 00:02.500
<v ada>Good morning.</v>

00:03.000 --> 00:04.000
<v bob>And to you.</v>
"""


def talks(folder: Path) -> dict[Path, Read]:
    """Who speaks when, in every form; parts to judge; transcripts."""
    from speakervlad.diarization import transcripts, turns
    from speakervlad.diarization.uem import load_uem

    def save_rttm(path: Path, found: dict) -> None:
        turns.save_turns(path, found.values())

    load_turns = again(turns.load_turns, save_rttm, ".rttm", times=2)
    words = [{"word": " Good", "start": 1.0, "end": 1.4, "probability": 0.9},
             {"word": " day.", "start": 1.4, "end": 2.5}]  # fmt: skip
    whisper = {"text": " Good day.", "language": "en",
               "segments": [{"id": 0, "start": 1.0, "end": 2.5, "text": " Good day.",
                             "words": words}]}  # fmt: skip
    cpp = {"transcription": [{"offsets": {"from": 1000, "to": 2500}, "text": " Good day."}]}
    load_words = again(transcripts.load_transcript, transcripts.save_transcript, ".json", times=2)
    turn_list = (turns.Turn(0.0, 2.5, "ada"), turns.Turn(2.0, 4.0, "bob"))
    turns.save_turns(folder / "turns.json", turns.Turns("call", turn_list), "json")
    texts: dict[str, tuple[bytes, Read]] = {
        "turns.rttm": (RTTM.encode(), load_turns),
        "labels.txt": (b"0.0\t2.5\tada\n2.0\t4.0\tbob\n", load_turns),
        "turns.srt": (SRT.encode(), load_turns),
        "turns.vtt": (VTT.encode(), load_turns),
        "parts.uem": (b"call 1 0 2.5\ncall 1 3.0 4\nother 1 0 9\n", load_uem),
        "whisper.json": (json.dumps(whisper).encode(), load_words),
        "cpp.json": (json.dumps(cpp).encode(), load_words),
        "words.srt": (SRT.encode(), load_words),
        "words.vtt": (VTT.encode(), load_words),
    }
    return _written(folder, texts) | {folder / "turns.json": load_turns}


def tables(folder: Path) -> dict[Path, Read]:
    """Embeddings, arrays of scores, calibrations, parts of a run."""
    from speakervlad.scoring import calibration
    from speakervlad.scoring.lists import load_trials
    from speakervlad.scoring.systems import load_scores
    from speakervlad.tables import interchange as readers

    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    table = readers.Embeddings(np.array(["a", "b", "cc"]), vectors)
    load_embeddings = again(_finite_embeddings, readers.save_embeddings, ".npz")
    found: dict[Path, Read] = {}
    for suffix in (".npz", ".ark", ".scp", ".parquet"):
        readers.save_embeddings(folder / f"E{suffix}", table)
        found[folder / f"E{suffix}"] = load_embeddings
    (folder / "text.ark").write_text("a  [ 1 2 3 ]\nb  [ 4 5 6 ]\n")
    found[folder / "text.ark"] = load_embeddings
    (folder / "key.txt").write_text("1 a b\n0 a c\n1 b c\n")
    key = load_trials(folder / "key.txt")
    np.save(folder / "S.npy", np.array([0.5, 0.25, 0.75]))
    found[folder / "S.npy"] = lambda path: finite(load_scores(path, key)[1])
    calibration.save_calibration(folder / "calibration.json", calibration.Calibration((1.0,), 0.0))
    found[folder / "calibration.json"] = again(
        calibration.load_calibration, calibration.save_calibration
    )
    return found | _unfinished(folder)


def _finite_embeddings(path: Path) -> object:
    from speakervlad.tables.interchange import load_embeddings

    table = load_embeddings(path)
    finite(table.vectors)
    assert len(set(table.ids.tolist())) == len(table), "an id stands twice"
    return table


def _unfinished(folder: Path) -> dict[Path, Read]:
    """What an interrupted ``embed`` has kept."""
    from speakervlad.encoder.shares import FinishedParts

    run = folder / "P.npz.parts"
    run.mkdir()
    found: dict[Path, Read] = {}
    (run / "run.json").write_text('{"encoder": "x", "windows": null}')
    asked = {"encoder": "x", "windows": None}
    found[run / "run.json"] = lambda path: list(FinishedParts(folder / "P.npz", asked).found)
    np.savez(
        run / "part.npz",
        keys=np.array(["k", "l"]),
        counts=np.array([1, 2]),
        seconds=np.array([1.0, 2.0]),
        vectors=np.ones((3, 4), np.float32),
        spans=np.ones((3, 2)),
    )
    found[run / "part.npz"] = lambda path: _parts(folder / "P.npz", FinishedParts)
    return found


def _parts(out: Path, parts: type) -> object:
    opened = parts(out, {})
    return opened.load(sorted(opened.found))


def recordings(folder: Path) -> dict[Path, Read]:
    """Audio of every container: its header, and all of it."""
    forms = {
        "wav": "PCM_16",
        "flac": "PCM_16",
        "ogg": "VORBIS",
        "mp3": "MPEG_LAYER_III",
        "aiff": "PCM_16",
        "caf": "ALAC_16",
        "au": "ULAW",
        "w64": "FLOAT",
    }
    found: dict[Path, Read] = {}
    for form, subtype in forms.items():
        path = folder / f"a.{form}"
        soundfile.write(path, voice(0.3, 1), RATE, subtype=subtype)
        found[path] = sound
    return found | _encoded(folder)


def _encoded(folder: Path) -> dict[Path, Read]:
    """What libsndfile does not read."""
    import av

    found: dict[Path, Read] = {}
    for name, codec in (("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mka", "ac3")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            samples = np.resize(voice(0.5, 2), (1, 24000)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 48000
            for packet in [*stream.encode(frame), *stream.encode(None)]:  # pyright: ignore
                container.mux(packet)
        found[folder / name] = sound
    return found


def tiny_encoder(folder: Path) -> Path:
    """An encoder folder of a few kilobytes, with impostors to identify people by."""
    from speakervlad.config import EncoderConfig
    from speakervlad.encoder.backends import weights_digest
    from speakervlad.models.folder import build_encoder, save_encoder
    from speakervlad.people.cohort import COHORT_NAME, Cohort
    from speakervlad.schema import Part

    config = EncoderConfig(
        trunk=Part("thin_resnet34", width=0.0625),
        descriptor_dim=8,
        pooling=Part("netvlad", num_clusters=2, num_ghosts=1),
        embedding_dim=6,
        embedding_relu=False,
    )
    save_encoder(folder, build_encoder(config).eval(), config, {})
    vectors = np.random.default_rng(9).standard_normal((120, config.embedding_dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = weights_digest(folder)
    assert weights is not None
    Cohort(weights, vectors.astype(np.float32)).save(folder / COHORT_NAME)
    return folder


def encoders(folder: Path) -> dict[Path, Read]:
    """Encoder folders, exported files, checkpoints of others, configs, training states."""
    import h5py
    import torch

    from speakervlad.checkpoints.hdf5 import read_layers
    from speakervlad.checkpoints.tensors import read_tensors
    from speakervlad.config import Config, load_config, to_yaml
    from speakervlad.encoder.backends import OnnxBackend, probe_waveform
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.encoder.export import export_onnx
    from speakervlad.training.run_folder import read_metrics
    from speakervlad.training.state import TrainingState
    from speakervlad.verification.known import read_thresholds

    probe = probe_waveform(1.0)

    def embed(path: Path) -> np.ndarray:
        return unit(load_encoder(path.parent, backend="torch").embed(probe))

    def run_exported(path: Path) -> np.ndarray:
        OnnxBackend(path).check()
        return unit(load_encoder(path, backend="onnxruntime").embed(probe))

    tiny_encoder(folder / "encoder")
    (folder / "encoder" / "thresholds.json").write_text(
        '{"eer": 0.5, "eer_by_list": {"a": 0.5}, "false_accept_rate": {"0.01": 0.6}}'
    )
    export_onnx(folder / "encoder", folder / "e.onnx", check_seconds=(0.5,))
    (folder / "config.yaml").write_text(json.dumps(_plain(Config())))
    (folder / "text.yaml").write_text(to_yaml(Config()))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n')
    state = TrainingState(3, {"a": torch.ones(2)}, {"state": {}, "param_groups": []})
    state.save(folder / "last.pt")
    torch.save({"conv.weight": torch.ones(2, 2), "norm.count": torch.tensor(1)}, folder / "c.ckpt")
    with h5py.File(folder / "k.h5", "w") as file:
        layer = file.create_group("conv/conv")
        layer.create_dataset("kernel:0", data=np.ones((2, 2), np.float32))
        file.attrs["layer_names"] = [b"conv"]
        file["conv"].attrs["weight_names"] = [b"conv/kernel:0"]
    return {
        folder / "encoder" / "config.json": embed,
        folder / "encoder" / "model.safetensors": embed,
        folder / "encoder" / "thresholds.json": lambda path: read_thresholds(path.parent, {}),
        folder / "e.onnx": run_exported,
        folder / "config.yaml": load_config,
        folder / "text.yaml": load_config,
        folder / "metrics.jsonl": read_metrics,
        folder / "last.pt": TrainingState.load,
        folder / "k.h5": read_layers,
        folder / "c.ckpt": read_tensors,
    }


def _plain(config: object) -> object:
    from speakervlad.schema import to_dict

    return to_dict(config)


def people(folder: Path) -> dict[Path, Read]:
    """The store of people, its exported file, and the impostors beside its encoder."""
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.people.cohort import COHORT_NAME
    from speakervlad.people.people import PeopleStore

    tiny_encoder(folder / "encoder")
    encoder = load_encoder(folder / "encoder", backend="torch")
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", voice(2.0, number), RATE)
    with PeopleStore(folder / "people.db", encoder, create=True) as store:
        store.add("Ada", [folder / "1.wav"])
        store.add("Bob", [folder / "2.wav"])
        store.export(folder / "people.safetensors")
    probe = encoder.embed(folder / "1.wav")[None]

    def ask(path: Path) -> list[object]:
        with PeopleStore(path, encoder, create=False) as store:
            return answers(store, probe, folder / "0.wav")

    def ask_imported(path: Path) -> list[object]:
        (folder / "other.db").unlink(missing_ok=True)
        with PeopleStore(folder / "other.db", encoder, create=True) as store:
            store.import_(path)
        return ask(folder / "other.db")

    return {
        folder / "people.db": ask,
        folder / "people.safetensors": ask_imported,
        folder / "encoder" / COHORT_NAME: lambda _: ask(folder / "people.db"),
    }


# Kinds of inputs, and their share of the cases: the slower, the fewer.
KINDS: dict[Callable[[Path], dict[Path, Read]], float] = {
    lists: 0.4,
    talks: 0.2,
    tables: 0.2,
    recordings: 0.14,
    encoders: 0.04,
    people: 0.02,
}
