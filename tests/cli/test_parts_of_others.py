"""A package of somebody else adds a part of each role; its code is that of docs/extending.md."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from speakervlad.corpus.voices import make_corpus
from speakervlad.errors import InputError
from speakervlad.models.tables import TABLES
from speakervlad.schema import Part

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text("utf-8")
BLOCK = re.compile(r"`(my_parts/\w+\.py|tests/\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
CONFIG = """
data: {{train_manifest: {folder}/train.csv, crop_seconds: 0.5, num_workers: 0}}
run_dir: {folder}/run
train: {{steps: 3, batch_size: 8, device: cpu, save_every: 3}}
"""


def block(language, *words):
    """The one block of the page that is written in this language and holds these words."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (text,) = [text for text in found if all(word in text for word in words)]
    return text


def install(folder, project, files):
    """What `pip install` leaves of a package: its files, and a dist-info folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    lines = [f"{name} = {value}" for name, value in project["entry-points"].popitem()[1].items()]
    (about / "entry_points.txt").write_text("\n".join(["[speakervlad.parts]", *lines]))
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages that holds the package of the page."""
    folder = tmp_path_factory.mktemp("site-packages")
    files = {name: text for name, text in BLOCK.findall(PAGE) if name.startswith("my_parts")}
    assert len(files) == 4
    install(folder, tomllib.loads(block("toml"))["project"], files | {"my_parts/__init__.py": ""})
    return folder


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(site)


@pytest.fixture(scope="module")
def trained(site, tmp_path_factory):
    """A folder in which `train` and `export` have run with the config of the page."""
    from speakervlad.cli import main

    folder = tmp_path_factory.mktemp("run")
    make_corpus(
        folder / "wav",
        num_speakers=3,
        num_sessions=1,
        utterances_per_session=3,
        min_seconds=0.6,
        max_seconds=0.9,
    )
    shapes = "descriptor_dim: 16\n  embedding_dim: 12\n"
    config = block("yaml") + CONFIG.format(folder=folder)
    (folder / "conf.yaml").write_text(config.replace("encoder:\n", f"encoder:\n  {shapes}"))
    exported = folder / "exported.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        for words in (
            ("prepare", folder / "wav", folder / "train.csv", "--layout", "speaker-folders"),
            ("train", folder / "conf.yaml"),
            ("export", folder / "run/encoder", exported),
        ):
            patch.setattr("sys.argv", ["speakervlad", *map(str, words)])
            with pytest.raises(SystemExit) as stopped:
                main()
            assert not stopped.value.code, words
    return folder


def embed(run, trained, encoder, out):
    wavs = sorted(trained.glob("wav/**/*.wav"))[:2]
    return run("embed", *wavs, "--encoder", encoder, "--out", out, "--device", "cpu")


def test_commands_train_export_and_embed_with_them(installed, trained, run, tmp_path, capsys):
    assert embed(run, trained, trained / "run/encoder", tmp_path / "torch.npz") == 0
    assert embed(run, trained, trained / "exported.onnx", tmp_path / "onnx.npz") == 0
    ours, exported = (np.load(tmp_path / f"{name}.npz")["vectors"] for name in ("torch", "onnx"))
    np.testing.assert_allclose(ours, exported, atol=3e-5)
    kept = json.loads((trained / "run/encoder/config.json").read_text())
    assert kept["pooling"] == {"kind": "attentive_average", "sharpness": 2.0}
    assert kept["packages"] == ["my-parts"]
    assert run("info", trained / "run/encoder") == 0
    assert re.search(r"packages +my-parts", capsys.readouterr().out)


def test_a_missing_package_is_named_and_an_export_needs_none(trained, run, tmp_path, capsys):
    assert embed(run, trained, trained / "run/encoder", tmp_path / "E.npz") == 2
    message = capsys.readouterr().err
    assert (
        "config.json: parts of this encoder are in packages that are not installed: my-parts."
        in message
    )
    assert embed(run, trained, trained / "exported.onnx", tmp_path / "E.npz") == 0


@pytest.mark.parametrize(
    ("text", "key", "row"),
    [
        ("classifier: {kind: smoothed_softmax, smoothing: 0.05}", "classifier", "loss"),
        ("encoder: {trunk: {kind: small_tdnn, channels: 32}}", "encoder.trunk", "trunk"),
    ],
)
def test_a_config_of_a_package_that_is_not_installed_says_so(
    trained, run, capsys, tmp_path, text, key, row
):
    (tmp_path / "conf.yaml").write_text(text + CONFIG.format(folder=trained))
    assert run("train", tmp_path / "conf.yaml", f"run_dir={tmp_path}") == 2
    message = capsys.readouterr().err
    kind = "smoothed_softmax" if row == "loss" else "small_tdnn"
    assert f"{key}.kind='{kind}'. " in message
    assert f"install that: no installed one has the entry point {row}.{kind} of" in message
    assert message.count("\n") == 1


def test_the_tests_of_the_page_pass(installed, tmp_path):
    names: dict = {}
    exec(next(text for name, text in BLOCK.findall(PAGE) if name.startswith("tests")), names)
    names["test_encoder"](tmp_path / "encoder")
    names["test_loss"]()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("encoder.pooling.kind=attentive_averag", "Did you mean 'attentive_average'?"),
        ("encoder.pooling.sharpnes=2.0", "unknown key encoder.pooling.sharpnes. Did you mean 'sh"),
        ("encoder.pooling.sharpness=-1.0", "sharpness=-1.0: must be at least 0"),
        ("classifier.smoothing=2.0", "classifier.smoothing=2.0: must be at least 0 and at most 1"),
    ],
)
def test_mistakes_are_named(installed, trained, run, capsys, override, words):
    assert run("train", trained / "conf.yaml", override, f"run_dir={trained}/other") == 2
    assert words in capsys.readouterr().err


def test_a_config_carries_options_of_other_rows_along(installed, trained):
    from speakervlad.config import load_config
    from speakervlad.models.folder import complete

    config = load_config(trained / "conf.yaml", ["encoder.pooling.kind=netvlad"])
    assert config.encoder.pooling.options["sharpness"] == 2.0
    assert "sharpness" not in complete(config.encoder).pooling.options


CLASHING = {
    "name": "other-parts",
    "version": "0.1",
    "entry-points": {
        "speakervlad.parts": {
            "pooling.attentive_average": "other_parts:Pooling",
            "pooling.netvlad": "other_parts:Pooling",
            "pooling.broken": "other_parts:Absent",
            "pooling.untyped": "other_parts:Untyped",
            "front_end.coded": "other_parts:coded",
            "nothing": "other_parts:Absent",
        }
    },
}
CODE = """
from speakervlad.parts import FrontEnd
class Untyped:
    def __init__(self, dim, *, sharpness): ...
class Other(FrontEnd): ...
def coded(): return Other()
"""


def test_packages_that_cannot_be_used_are_named(installed, tmp_path, monkeypatch):
    from speakervlad.config import EncoderConfig
    from speakervlad.models.folder import build_encoder

    install(tmp_path, json.loads(json.dumps(CLASHING)), {"other_parts.py": CODE})
    monkeypatch.syspath_prepend(tmp_path)
    refused = {
        "attentive_average": "in several packages: my-parts, other-parts",
        "broken": "other_parts:Absent of the package other-parts cannot be imported",
        "untyped": "Untyped: option sharpness needs a type and a default",
    }
    for kind, words in refused.items():
        with pytest.raises(InputError, match=words):
            build_encoder(EncoderConfig(pooling=Part(kind)))
    with pytest.raises(InputError, match=r"'coded' is a Other\. It must be a FrontEnd"):
        build_encoder(EncoderConfig(front_end=Part("coded")))
    table = TABLES["pooling"]
    assert table["netvlad"].__module__ == "speakervlad.models.pooling"
    assert {"attentive_average", "netvlad", "broken"} <= set(table)
    assert len(table) == len(set(table))


def test_nothing_is_imported_unless_it_is_asked_for(installed, tmp_path, monkeypatch):
    from speakervlad.config import EncoderConfig
    from speakervlad.models.folder import complete

    install(tmp_path, json.loads(json.dumps(CLASHING)), {"other_parts.py": "raise SystemExit(3)"})
    monkeypatch.syspath_prepend(tmp_path)
    assert complete(EncoderConfig()).pooling.kind == "netvlad"


def test_encoders_without_parts_of_others_name_no_packages(save_tiny_encoder, tmp_path):
    folder = save_tiny_encoder(tmp_path / "encoder")
    assert "packages" not in json.loads((folder / "config.json").read_text())
