"""What must not be in an ONNX file from a stranger, found in its bytes before any library acts on them.

The bytes are Protocol Buffers; the numbers of the fields are those of onnx.proto (github.com/onnx/onnx).
"""

from collections.abc import Iterator

# The messages that a message holds: field -> kind; only fields that lead to graphs, tensors and operations.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_OPERATION, _EXTERNAL, _LOCATION = 4, 13, 14  # fields of a node and of a tensor
# Operations that run a graph inside the graph, perhaps without end. `hwr export` writes none.
_LOOPS = (b"Loop", b"Scan", b"If", b"SequenceMap")
_DEEPEST = 100


def fault(content: bytes) -> str:
    """What the file has that `hwr export` never writes: weights in other files, which would be read, or loops; or "".

    Raises:
        ValueError: It is damaged.
    """
    todo: list[tuple[str, memoryview, int]] = [("model", memoryview(content), 0)]
    while todo:
        kind, message, depth = todo.pop()
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        for field, value in _fields(message):
            if kind == "node" and field == _OPERATION and bytes(_bytes(value)) in _LOOPS:
                return f"it has the operation {bytes(_bytes(value)).decode()}"
            if kind == "tensor" and (field == _EXTERNAL or (field == _LOCATION and value)):
                return "its weights are in another file"
            if inner := _INSIDE.get(kind, {}).get(field):
                todo.append((inner, _bytes(value), depth + 1))
    return ""


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The number and value of each field; numbers of fixed width are skipped."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        match key & 7:
            case 0:
                value, at = _number(message, at)
                yield key >> 3, value
            case 2:
                length, at = _number(message, at)
                if length > len(message) - at:
                    raise ValueError("truncated")
                yield key >> 3, message[at : at + length]
                at += length
            case 1 | 5:
                at += 8 if key & 7 == 1 else 4
            case _:
                raise ValueError("not Protocol Buffers")


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("truncated")
        byte, at = message[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 10 bytes")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
