"""Schemas: strict reading, ranges beside the fields, rows of tables with their options."""

import pickle
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import pytest

from speakervlad.config import Config, EncoderConfig, load_config, to_yaml
from speakervlad.errors import InputError
from speakervlad.schema import (
    Part,
    Range,
    Row,
    differences,
    from_dict,
    options_of,
    resolve,
    to_dict,
)


class Square:
    def __init__(self, size: int, *, side: Annotated[int, Range(at_least=1, at_most=9)] = 2):
        self.area = side * side * size


class Sheet:
    def __init__(self, size: int, *, length: float = 1.0, colour: Literal["red", "blue"] = "red"):
        self.area = length * size


THREE = Part("square", side=3)


class Frame:
    def __init__(self, size: int, *, around: Annotated[Part, Row(lambda: SHAPES)] = THREE):
        self.around = around


SHAPES = {"square": Square, "sheet": Sheet, "red_sheet": partial(Sheet, colour="red")}


def test_a_row_gets_all_its_options():
    assert resolve(SHAPES, Part("square"), "shape") == Part("square", side=2)
    whole = resolve(SHAPES, Part("sheet", length=3), "shape")
    assert whole.options == {"length": 3.0, "colour": "red"}
    assert (whole.length, whole.kind) == (3.0, "sheet")
    assert list(options_of(SHAPES["red_sheet"])) == ["length"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part("squere"), r"shape\.kind='squere'\. Did you mean 'square'"),
        (Part("square", sides=3), r"unknown key shape\.sides\. Did you mean 'side'"),
        (Part("square", side=10), r"shape\.side=10: must be at least 1 and at most 9"),
        (Part("square", side="3"), r"shape\.side='3' must be int"),
        (Part("sheet", colour="green"), r"shape\.colour='green'"),
        (Part("sheet", side=0), r"shape\.side=0: must be at least 1"),
        (Part("sheet", length=True), r"shape\.length=True must be float"),
    ],
)
def test_what_no_row_has_is_refused(part, words):
    with pytest.raises(InputError, match=words):
        resolve(SHAPES, part, "shape")


def test_options_of_other_rows_are_checked_and_left_out():
    assert resolve(SHAPES, Part("sheet", side=3), "shape").options.keys() == {"length", "colour"}


def test_an_option_may_be_a_row_of_a_table():
    table = {"frame": Frame}
    whole = resolve(table, Part("frame"), "it")
    assert whole == Part("frame", around=Part("square", side=3))
    # As a file has it: the default's options stay as long as its kind does.
    assert resolve(table, Part("frame", around={"side": 4}), "it").around.side == 4
    sheet = resolve(table, Part("frame", around={"kind": "sheet", "length": 2}), "it")
    assert sheet.around == Part("sheet", length=2.0, colour="red")
    assert resolve(table, sheet, "it") == sheet
    assert to_dict(whole) == {"kind": "frame", "around": {"kind": "square", "side": 3}}
    for around, words in (
        ({"side": 10}, r"it\.around\.side=10: must be at least 1 and at most 9"),
        ({"kind": "squere"}, r"it\.around\.kind='squere'\. Did you mean 'square'"),
        ({"sides": 3}, r"unknown key it\.around\.sides"),
        (3, r"it\.around must be a mapping"),
    ):
        with pytest.raises(InputError, match=words):
            resolve(table, Part("frame", around=around), "it")


def test_a_part_is_a_value():
    part = Part("square", side=3)
    assert part == Part("square", side=3) != Part("square", side=4)
    assert pickle.loads(pickle.dumps(part)) == part
    assert hash(part) == hash(Part("square", side=3))
    assert repr(part) == "Part('square', side=3)"
    with pytest.raises(AttributeError, match="square has no option length"):
        _ = part.length
    with pytest.raises(AttributeError, match="does not change"):
        part.side = 4


@dataclass(frozen=True)
class Drawing:
    shape: Part = Part("square", side=5)  # noqa: RUF009 - it does not change
    scale: Annotated[float, Range(above=0)] = 1.0


def test_options_go_on_from_the_default_of_the_same_kind_only():
    assert from_dict(Drawing, {"shape": {}}, "x").shape == Part("square", side=5)
    assert from_dict(Drawing, {"shape": {"side": 3}}, "x").shape == Part("square", side=3)
    assert from_dict(Drawing, {"shape": {"kind": "sheet"}}, "x").shape == Part("sheet")
    assert to_dict(Drawing()) == {"shape": {"kind": "square", "side": 5}, "scale": 1.0}
    assert differences(Drawing(), Drawing(scale=2.0)) == {"scale": (1.0, 2.0)}
    changed = differences(Drawing(), Drawing(shape=Part("sheet")))
    assert changed == {"shape.kind": ("square", "sheet"), "shape.side": (5, None)}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale": 0}, r"^x: scale=0.0: must be above 0\.$"),
        ({"scale": float("nan")}, "must be above 0"),
        ({"scal": 1}, r"unknown key scal\. Did you mean 'scale'"),
        ({"shape": "square"}, "shape must be a mapping"),
        ({"shape": {"kind": 3}}, r"shape\.kind=3 must be text"),
        ([], "must be a mapping"),
    ],
)
def test_values_that_do_not_fit_are_named(values, words):
    with pytest.raises(InputError, match=words):
        from_dict(Drawing, values, "x")


def test_configs_that_read_the_environment_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    for text in ("run_dir: ${oc.env:SECRET}\n", "data: {train_manifest: 'a/${oc.env:SECRET}'}\n"):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(InputError, match="interpolations are not supported") as refused:
            load_config(tmp_path / "c.yaml")
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n- b\n", "must be a mapping"), ("a: [1\n", "is not a readable config")],
)
def test_configs_that_are_no_mapping_are_refused(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "values",
    [
        {"embedding_dim": 10**9},
        {"descriptor_dim": 10**9},
        {"trunk": {"width": 1e6}},
        {"front_end": {"kind": "log_mel", "num_mels": 10**9}},
        {"front_end": {"min_seconds": float("inf")}},
        {"front_end": {"min_seconds": 1e9}},
        {"pooling": {"num_clusters": 10**9}},
    ],
)
def test_sizes_that_would_fill_the_memory_are_refused(values):
    from speakervlad.models.folder import complete

    with pytest.raises(InputError, match="at most"):
        complete(from_dict(EncoderConfig, values, "config.json"), "config.json")


def test_a_config_reads_back(tmp_path):
    config = Config(classifier=Part("am_softmax", scale=20.0))
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config
