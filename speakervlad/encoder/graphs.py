"""What an exported graph may hold, looked at before a runtime sees it; needs no onnx.

Runtimes open the files that a graph names, and go round its loops as often as it says. So a graph
is read here first, as far as that takes: messages of Protocol Buffers, by their numbers
(https://protobuf.dev/programming-guides/encoding/,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from speakervlad.errors import InputError

# Of all messages together; exports have some thousands.
MAX_FIELDS = 300_000
VARINT, EIGHT_BYTES, MESSAGE, FOUR_BYTES = 0, 1, 2, 5
LARGEST_VARINT_BYTES = 10
# Field of a model: pairs of texts.
METADATA = 14
OWN_DOMAINS = ("", "ai.onnx")
# Operators of ONNX that compute tensors from tensors: those that `export` writes, and what networks
# of others are made of. No loops, branches, sequences, texts, nor random numbers.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BlackmanWindow Cast CastLike Ceil Celu Clip Compress Concat Constant
    ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DFT DepthToSpace
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten
    Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GroupNormalization HammingWindow HannWindow HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LSTM LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max
    MaxPool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg NonZero Not
    OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RotaryEmbedding
    Round STFT ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905
)


class _Field(NamedTuple):
    """A field of a message: its number, and its number or its bytes."""

    number: int
    value: int
    data: memoryview


class _Kind(NamedTuple):
    """A message of ONNX.

    Attributes:
        known: numbers of the fields that may be there and are not looked at.
        messages: kinds of the messages in it, by number.
        checks: what to ask of other fields, by number.
    """

    known: frozenset[int]
    messages: dict[int, str]
    checks: dict[int, Callable[[_Field], str | None]]


def _operator(field: _Field) -> str | None:
    name = bytes(field.data).decode(errors="replace")
    return None if name in OPERATORS else f"the operator {name[:40]!r}"


def _domain(field: _Field) -> str | None:
    name = bytes(field.data).decode(errors="replace")
    return None if name in OWN_DOMAINS else f"operators of {name[:40]!r}"


def _elsewhere(field: _Field) -> str | None:
    return "data in another file" if field.data or field.value else None


def _numbers(*numbers: int | range) -> frozenset[int]:
    flat = [each if isinstance(each, range) else (each,) for each in numbers]
    return frozenset(number for each in flat for number in each)


KINDS = {
    "model": _Kind(_numbers(range(1, 7), 8, 14), {7: "graph"}, {}),
    "graph": _Kind(_numbers(2, range(10, 15), 16), {1: "node", 5: "tensor"}, {}),
    "node": _Kind(
        _numbers(1, 2, 3, 6, 9), {5: "attribute"}, {4: _operator, 7: _domain}
    ),
    "attribute": _Kind(
        _numbers(1, 2, 3, 4, 7, 8, 9, 13, 20), {5: "tensor", 10: "tensor"}, {}
    ),
    "tensor": _Kind(
        _numbers(range(1, 13), 16), {}, {13: _elsewhere, 14: _elsewhere}
    ),
}  # fmt: skip
NAMES = {
    ("model", 20): "a training",
    ("model", 25): "functions",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph inside of a node (a loop or a branch)",
    ("attribute", 11): "graphs inside of a node (loops or branches)",
}


def check_graph(data: bytes, name: str) -> None:
    """Refuse an ONNX model that could do anything but compute.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        InputError: it names other files or operators that no export has, or is no such model.
    """
    budget = _Budget(MAX_FIELDS)
    waiting = [("model", memoryview(data))]
    try:
        while waiting:
            kind, content = waiting.pop()
            for field in _fields(content, budget):
                refusal = _refusal(kind, field)
                if refusal is not None:
                    raise InputError(
                        f"{name}: holds {refusal}, which no encoder that `speakervlad export` "
                        "writes has. It is not opened."
                    )
                if field.number in KINDS[kind].messages:
                    waiting.append((KINDS[kind].messages[field.number], field.data))
    except (IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: damaged or no ONNX file. Export it again.") from error


def notes_in(data: bytes, name: str) -> dict[str, str]:
    """What an ONNX model carries besides its network.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        InputError: it is no such model.
    """
    budget = _Budget(MAX_FIELDS)
    try:
        found = {}
        for field in _fields(memoryview(data), budget):
            if field.number == METADATA:
                pair = {each.number: bytes(each.data) for each in _fields(field.data, budget)}
                found[pair.get(1, b"").decode()] = pair.get(2, b"").decode()
        return found
    except (IndexError, ValueError) as error:
        raise InputError(f"{name}: damaged or no ONNX file. Export it again.") from error


def _refusal(kind: str, field: _Field) -> str | None:
    known, messages, checks = KINDS[kind]
    if field.number in checks:
        return checks[field.number](field)
    if field.number in known or field.number in messages:
        return None
    if (kind, field.number) not in NAMES:
        raise ValueError(f"an unknown field {field.number} of a {kind}")
    return NAMES[kind, field.number]


class _Budget:
    """How many fields may still be read."""

    def __init__(self, fields: int) -> None:
        self.fields = fields

    def take(self) -> None:
        """Take one.

        Raises:
            ValueError: there is none left.
        """
        self.fields -= 1
        if self.fields < 0:
            raise ValueError("too many fields")


def _fields(content: memoryview, budget: _Budget) -> Iterator[_Field]:
    """The fields of a message, one after the other.

    Raises:
        ValueError, IndexError: it is none.
    """
    place = 0
    while place < len(content):
        budget.take()
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        value, data = 0, content[:0]
        if wire == VARINT:
            value, place = _varint(content, place)
        elif wire == MESSAGE:
            size, place = _varint(content, place)
            data = content[place : place + size]
            place += size
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            place += 8 if wire == EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place > len(content) or number == 0:
            raise ValueError("ends within a field")
        yield _Field(number, value, data)


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for index in range(LARGEST_VARINT_BYTES):
        byte = content[place + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, place + index + 1
    raise ValueError("a number of more than 64 bits")
