"""Exported files can do nothing but compute: what else a file holds is refused before it is run."""

import json
import random
import time
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from speakervlad.encoder import runtimes
from speakervlad.encoder.backends import OnnxBackend
from speakervlad.encoder.export import export_onnx
from speakervlad.encoder.graphs import OPERATORS, check_graph
from speakervlad.encoder.location import PRETRAINED, find_encoder
from speakervlad.encoder.openvino_backend import OpenVinoBackend
from speakervlad.errors import InputError


@pytest.fixture(scope="module")
def exported(save_tiny_encoder, short_trunk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    encoder = save_tiny_encoder(folder / "encoder", trunk=short_trunk)
    export_onnx(encoder, folder / "e.onnx", check_seconds=(0.1,))
    return onnx.load(str(folder / "e.onnx"))


@pytest.fixture
def model(exported):
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    return copy


def outside(tensor, path="secret.bin"):
    """A tensor whose numbers stand in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=path)
    return tensor


def graph_of(*nodes):
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "inner", [], [value])


def external_initializer(model):
    outside(model.graph.initializer[0])


def external_without_a_mark(model):
    """As a runtime might take it all the same."""
    model.graph.initializer[0].external_data.add(key="location", value="secret.bin")


def external_constant(model):
    tensor = outside(numpy_helper.from_array(np.ones(3, np.float32), "x"))
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))


def sparse(model):
    model.graph.sparse_initializer.add().values.CopyFrom(
        outside(numpy_helper.from_array(np.ones(3, np.float32), "x"))
    )


def loop(model):
    node = helper.make_node("Loop", ["n", "c"], ["y"])
    node.attribute.append(helper.make_attribute("body", graph_of()))
    model.graph.node.append(node)


def branch(model):
    """Whose graph would hold what is refused elsewhere."""
    inner = graph_of(helper.make_node("Loop", [], ["y"]))
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.append(helper.make_attribute("then_branch", inner))
    model.graph.node.append(node)


def other_operators(model):
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft"))


def function(model):
    model.functions.append(
        helper.make_function("d", "f", [], [], [], [helper.make_opsetid("", 20)])
    )


def training(model):
    model.training_info.add()


REFUSED = {
    external_initializer: "data in another file",
    external_without_a_mark: "data in another file",
    external_constant: "data in another file",
    sparse: "sparse tensors",
    loop: "Loop|a loop or a branch",
    branch: "a loop or a branch",
    other_operators: "operators of 'com.microsoft'",
    function: "functions",
    training: "a training",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("backend", [OnnxBackend, OpenVinoBackend])
def test_what_does_more_than_compute_is_not_opened(change, backend, model, tmp_path, monkeypatch):
    change(model)
    path = tmp_path / "e.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setattr(backend, "_open", lambda *_: pytest.fail("a runtime saw it"))
    with pytest.raises(InputError, match=rf"e\.onnx: holds .*({REFUSED[change]}).*not opened"):
        backend(path)


def test_a_file_beside_it_is_read_for_a_graph_of_that_name_alone(model, tmp_path, monkeypatch):
    """A second graph behind the first is merged with it: both are looked at."""
    other = onnx.ModelProto()
    other.graph.initializer.append(outside(numpy_helper.from_array(np.ones(3, np.float32), "x")))
    with pytest.raises(InputError, match="data in another file"):
        check_graph(model.SerializeToString() + other.SerializeToString(), "e.onnx")


def test_the_graphs_that_ship_hold_nothing_else():
    graphs = [path for name in PRETRAINED for path in find_encoder(name).glob("*.onnx")]
    assert len(graphs) >= len(PRETRAINED)
    for path in graphs:
        check_graph(path.read_bytes(), str(path))
    assert not {"Loop", "Scan", "If", "SequenceMap", "StringConcat", "RandomNormal"} & OPERATORS


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse_tensor in graph.sparse_initializer:
        yield from (sparse_tensor.values, sparse_tensor.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def is_harmless(model):
    tensors = list(_tensors(model.graph))
    return (
        not any(each.external_data or each.data_location for each in tensors)
        and not model.functions
        and all(node.op_type in OPERATORS and not node.domain for node in model.graph.node)
    )


def test_what_the_reader_passes_is_harmless_to_the_reference_reader(model):
    """Mutated files: whatever `onnx` makes of them, nothing that it would open is passed."""
    external_initializer(other := onnx.ModelProto.FromString(model.SerializeToString()))
    good, bad = model.SerializeToString(), other.SerializeToString()
    rng, passed, parsed = random.Random(0), 0, 0
    for _ in range(400):
        data = bytearray(rng.choice([good, bad]))
        for _ in range(rng.choice([1, 1, 2])):
            place = rng.randrange(len(data) if rng.random() < 0.3 else 4000)
            data[place] = rng.randrange(256)
        try:
            check_graph(bytes(data), "e.onnx")
        except InputError:
            continue
        passed += 1
        try:
            read = onnx.ModelProto.FromString(bytes(data))
        except Exception:  # no UTF-8 in a name: the runtimes refuse it
            continue
        parsed += 1
        assert is_harmless(read)
    assert passed > 80
    assert parsed > 60


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x3a\xff\xff\xff\xff\x7f", b"\x0b", b"\x00\x00"])
def test_what_is_no_model_is_damaged(data, tmp_path):
    (tmp_path / "e.onnx").write_bytes(data)
    with pytest.raises(InputError, match=r"e\.onnx: damaged or no ONNX file"):
        OnnxBackend(tmp_path / "e.onnx")


def test_a_model_of_very_many_fields_ends_soon():
    began = time.process_time()
    with pytest.raises(InputError, match="damaged"):
        check_graph(b"\x08\x01" * 20_000_000, "e.onnx")
    assert time.process_time() - began < 10


NUMBERS = {
    ("front_end", "n_fft"): [2**30, 0, -5, 2.5, "512", None],
    ("front_end", "win_length"): [2**30, 0],
    ("front_end", "hop_length"): [2**40, 0, 1],
    ("front_end", "num_mels"): [2**30, -1],
    ("front_end", "f_max"): [float("nan"), float("inf")],
    ("front_end", "scale"): [float("nan"), float("inf")],
    ("front_end", "min_seconds"): [3600.0, -1.0, float("inf")],
    ("stride",): [2**40, 0, -1],
    ("context",): [2**60, -1],
    ("stem_padding",): [[2**40, 1], [3, 0], [3]],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in NUMBERS.items() for value in values]
)
def test_numbers_beyond_any_use_are_refused_at_once(key, value, model, tmp_path):
    notes = {note.key: note.value for note in model.metadata_props}
    ends = json.loads(notes["ends"])
    (ends[key[0]] if len(key) == 2 else ends)[key[-1]] = value
    helper.set_model_props(model, notes | {"ends": json.dumps(ends)})
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    began = time.process_time()
    with pytest.raises(InputError, match=r"e\.onnx: its notes are damaged"):
        OnnxBackend(tmp_path / "e.onnx")
    assert time.process_time() - began < 5


def test_the_command_says_it_in_one_line(model, tmp_path, monkeypatch, capsys):
    from speakervlad.cli import main

    external_initializer(model)
    (tmp_path / "e.onnx").write_bytes(model.SerializeToString())
    arguments = ["info", str(tmp_path / "e.onnx")]
    monkeypatch.setattr("sys.argv", ["speakervlad", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_runtime_goes_through_the_same_door():
    assert all(
        runtime.backend is None or runtime.backend.__init__ is runtimes.ExportedBackend.__init__
        for runtime in runtimes.BACKENDS.values()
    )
