"""The `.params` reader and writer, tested with MXNet's bytes, MXNet itself and random bytes."""

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwr import Error, gluon_params
from tests.golden import recipe

V1, V2, V3 = (struct.pack("<I", magic) for magic in (0xF993FAC8, 0xF993FAC9, 0xF993FACA))
DENSE = struct.pack("<i", 0)
SIX = np.arange(6, dtype="<f4").reshape(2, 3)
FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
GOLDEN = Path(__file__).parent / "golden"

# mx.nd.save(path, {"x": mx.nd.array([[1, 2, 3]]), "arg:y": mx.nd.array([5], dtype="int8")}) of MXNet 1.9.1.
MXNET_V2 = """
    12010000000000000000000000000000 0200000000000000c9fa93f900000000 02000000010000000000000003000000
    00000000010000000000000000000000 0000803f0000004000004040c9fa93f9 00000000010000000100000000000000
    01000000000000000500000005020000 00000000000100000000000000780500 0000000000006172673a79"""
# The same for {"s": 3.0, "z": zeros((0, 2)), "m": ones((2, 2))} within mx.util.np_shape(True).
MXNET_V3 = """
    12010000000000000000000000000000 0300000000000000cafa93f900000000 00000000010000000000000000000000
    00004040cafa93f90000000002000000 00000000000000000200000000000000 010000000000000000000000cafa93f9
    00000000020000000200000000000000 02000000000000000100000000000000 000000000000803f0000803f0000803f
    0000803f030000000000000001000000 000000007301000000000000007a0100 0000000000006d"""
# mx.nd.save(path, {"s": mx.nd.array([[1, 0], [0, 0]]).tostype("row_sparse")})
MXNET_SPARSE = """
    12010000000000000000000000000000 0100000000000000c9fa93f901000000 02000000010000000000000002000000
    00000000020000000200000000000000 02000000000000000100000000000000 00000000060000000100000001000000
    000000000000803f0000000000000000 00000000010000000000000001000000 0000000073"""
# mx.nd.save(path, [mx.nd.array([1.0, 2])])
MXNET_LIST = """
    12010000000000000000000000000000 0100000000000000c9fa93f900000000 01000000020000000000000001000000
    00000000000000000000803f00000040 0000000000000000"""


def body(shape, data=b"", flag=0, device=1, dims="q"):
    """The bytes after an array's magic and storage type."""
    return struct.pack(f"<i{len(shape)}{dims}3i", len(shape), *shape, device, 0, flag) + data


def listed(*arrays, names=(b"x",), reserved=0):
    ends = b"".join(struct.pack("<Q", len(name)) + name for name in names)
    return struct.pack("<QQQ", 0x112, reserved, len(arrays)) + b"".join(arrays) + struct.pack("<Q", len(names)) + ends


def read_bytes(folder, data):
    path = folder / "weights.params"
    path.write_bytes(data)
    return gluon_params.read(path)


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].dtype.isnative
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()  # bit for bit, NaNs too


def test_reads_what_mxnet_wrote(tmp_path):
    found = read_bytes(tmp_path, bytes.fromhex(MXNET_V2))
    assert_same(found, {"x": np.array([[1, 2, 3]], np.float32), "y": np.array([5], np.int8)})
    found["x"][0, 0] = 7  # writable


def test_reads_what_mxnet_wrote_under_numpy_shape_rules(tmp_path):
    wanted = {"s": np.array(3, np.float32), "z": np.zeros((0, 2), np.float32), "m": np.ones((2, 2), np.float32)}
    assert_same(read_bytes(tmp_path, bytes.fromhex(MXNET_V3)), wanted)


def test_writes_the_bytes_that_mxnet_writes(tmp_path):
    path = tmp_path / "weights.params"
    gluon_params.write(path, {"x": np.array([[1, 2, 3]], np.float32), "y": np.array([5], np.int8)})
    # The same without the prefix of "arg:y", whose length 5 becomes 1.
    wanted = bytes.fromhex(MXNET_V2).replace(b"\x05\0\0\0\0\0\0\0arg:", b"\x01\0\0\0\0\0\0\0")
    assert path.read_bytes() == wanted


HEADERS = {
    "version 3": V3 + DENSE + body((2, 3), SIX.tobytes()),
    "version 2": V2 + DENSE + body((2, 3), SIX.tobytes()),
    "version 1": V1 + body((2, 3), SIX.tobytes()),
    "version 0": body((2, 3), SIX.tobytes(), dims="I"),
}


@pytest.mark.parametrize("version", HEADERS)
def test_every_version_of_the_header(tmp_path, version):
    assert_same(read_bytes(tmp_path, listed(HEADERS[version])), {"x": SIX})


@pytest.mark.parametrize("device", [1, 2, 3, 5])
def test_an_array_saved_on_any_device_is_read(tmp_path, device):
    assert_same(read_bytes(tmp_path, listed(V2 + DENSE + body((2, 3), SIX.tobytes(), device=device))), {"x": SIX})


@pytest.mark.parametrize("dtype", FLAGS)
def test_every_dtype(tmp_path, dtype):
    array = np.array([[0, 1, 100]], dtype)
    data = listed(V2 + DENSE + body((1, 3), array.astype(array.dtype.newbyteorder("<")).tobytes(), FLAGS[dtype]))
    assert_same(read_bytes(tmp_path, data), {"x": array})
    gluon_params.write(tmp_path / "weights.params", {"x": array})
    assert (tmp_path / "weights.params").read_bytes() == data


GOOD = HEADERS["version 2"]
FAULTS = {
    "empty": (b"", 0, "truncated: the list's magic needs 8 bytes, 0 are left"),
    "not ours": (b"PK\x03\x04" + bytes(60), 0, "not a .params file: it starts with 0x4034b50 instead of 0x112"),
    "reserved": (listed(GOOD, reserved=7), 8, "the reserved field is 0x7 instead of 0"),
    "too many arrays": (
        struct.pack("<QQQ", 0x112, 0, 2**60) + bytes(50),
        16,
        "1152921504606846976 arrays should follow",
    ),
    "unknown header": (listed(b"\xff" * 4 + bytes(40)), 24, "array 1 of 1 starts with 0xffffffff"),
    "row sparse": (bytes.fromhex(MXNET_SPARSE), 28, "storage type 1 (row_sparse)"),
    "csr": (listed(V2 + struct.pack("<i", 2) + bytes(40)), 28, "storage type 2 (csr)"),
    "unknown storage": (listed(V2 + struct.pack("<i", -1) + bytes(40)), 28, "storage type -1 (unknown)"),
    "nothing": (listed(V2 + DENSE + struct.pack("<i", 0) + bytes(20)), 32, "means no array"),
    "nothing, version 0": (listed(struct.pack("<i", 0) + bytes(20)), 28, "means no array"),
    "unknown ndim": (listed(V3 + DENSE + struct.pack("<i", -1) + bytes(20)), 32, "-1 dimensions; 0 to 32"),
    "too many dimensions": (listed(V2 + DENSE + body((1,) * 33, bytes(4))), 32, "33 dimensions; 0 to 32"),
    "negative size": (listed(V2 + DENSE + body((2, -3), bytes(24))), 36, "the shape (2, -3); no size can be negative"),
    "huge": (listed(V2 + DENSE + body((2**40, 2**40))), 64, "shape (1099511627776, 1099511627776), float32 needs"),
    "huge and empty": (listed(V2 + DENSE + body((0, 2**62, 4))), 36, "impossible shape (0, 4611686018427387904, 4)"),
    "device": (listed(V2 + DENSE + body((2,), bytes(8), device=9)), 44, "on a device of type 9"),
    "bool": (listed(V2 + DENSE + body((2,), bytes(8), flag=7)), 52, "dtype flag 7; known flags are 0 to 6"),
    "negative dtype": (listed(V2 + DENSE + body((2,), bytes(8), flag=-1)), 52, "dtype flag -1"),
    "no names": (bytes.fromhex(MXNET_LIST), 64, "1 arrays but 0 names (it was saved from a list; save a dict)"),
    "one name too many": (listed(GOOD, names=(b"x", b"y")), 88, "1 arrays but 2 names"),
    "too many names": (listed(GOOD)[:88] + struct.pack("<Q", 2**63), 88, "9223372036854775808 names should follow"),
    "long name": (listed(GOOD)[:96] + struct.pack("<Q", 2**63), 104, "name 1 needs 9223372036854775808 bytes, 0 are"),
    "not UTF-8": (listed(GOOD, names=(b"\xffx",)), 96, "name 1 is not UTF-8: b'\\xffx'"),
    "twice": (listed(GOOD, GOOD, names=(b"x", b"x")), 169, "the name 'x' occurs twice"),
    "twice without prefix": (listed(GOOD, GOOD, names=(b"arg:x", b"aux:x")), 173, "the name 'x' occurs twice"),
    "trailing": (listed(GOOD) + b"abc", 105, "3 bytes follow the end of the list"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_damaged_file_is_refused_with_name_place_and_finding(tmp_path, case):
    data, offset, finding = FAULTS[case]
    with pytest.raises(Error) as caught:
        read_bytes(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path / 'weights.params'}: byte {offset}: ")
    assert finding in str(caught.value)


@pytest.mark.parametrize("text", [MXNET_V2, MXNET_V3], ids=["version 2", "version 3"])
def test_a_file_truncated_anywhere_is_refused(tmp_path, text):
    data = bytes.fromhex(text)
    for length in range(len(data)):
        with pytest.raises(Error, match=r"byte \d+: (truncated|\d+ (arrays|names) should follow)"):
            read_bytes(tmp_path, data[:length])


def test_folders_and_missing_files_are_refused(tmp_path):
    with pytest.raises(Error, match="no such file"):
        gluon_params.read(tmp_path / "none.params")
    with pytest.raises(Error, match="is a folder"):
        gluon_params.read(tmp_path)
    with pytest.raises(Error, match="none"):
        gluon_params.read(tmp_path / ("none" * 100))
    with pytest.raises(Error, match=r"null (byte|character)"):
        gluon_params.read("a\0b")


FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_nonsense(folder, data):
    """Read or raise hwr.Error, in bounded memory; returns the arrays."""
    path = folder / "weights.params"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        return gluon_params.read(path)
    except Error:
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000 + 20 * len(data)


@FUZZ
@given(data=st.binary(max_size=300), start=st.sampled_from([0, 8, 16, 24, 28, 32]))
def test_random_bytes_after_a_valid_start(tmp_path, data, start):
    read_nonsense(tmp_path, listed(GOOD)[:start] + data)


@FUZZ
@given(
    name=st.sampled_from(sorted(HEADERS)),
    edits=st.lists(
        st.tuples(
            st.integers(0, 110),
            st.sampled_from(["set", "insert", "delete"]),
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([b"\xff" * 8, b"\xff" * 4, bytes(8), struct.pack("<q", 2**62), struct.pack("<i", 33)]),
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    end=st.integers(0, 120),
)
def test_mutations_of_a_good_file(tmp_path, name, edits, end):
    data = bytearray(listed(HEADERS[name], V3 + DENSE + body((), bytes(4)), names=(b"arg:body.0.weight", b"s")))
    for place, kind, value in edits:
        data[place : place + (0 if kind == "insert" else len(value))] = b"" if kind == "delete" else value
    read_nonsense(tmp_path, bytes(data[: len(data) - end] if end < 60 else data))


def test_many_empty_arrays_take_bounded_memory(tmp_path):
    names = [b"%d" % i for i in range(2000)]
    data = listed(*[body((0,), dims="I")] * 2000, names=names)
    assert len(read_nonsense(tmp_path, data)) == 2000


NAMES = st.text(max_size=12).filter(lambda name: "\0" not in name and not name.startswith(("arg:", "aux:")))
DTYPES = st.sampled_from(sorted(FLAGS)).map(np.dtype).flatmap(lambda t: st.sampled_from([t, t.newbyteorder(">")]))
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(max_dims=4, min_side=0, max_side=4))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.dictionaries(NAMES, ARRAYS, max_size=5),
    turn=st.booleans(),
)
def test_written_files_are_read_back(tmp_path, weights, turn):
    if turn:  # not contiguous
        weights = {name: array.T for name, array in weights.items()}
    path = tmp_path / "weights.params"
    gluon_params.write(path, weights)
    assert_same(gluon_params.read(path), {name: a.astype(a.dtype.newbyteorder("=")) for name, a in weights.items()})


def test_a_whole_network_goes_through(tmp_path):
    described = json.loads((GOLDEN / "networks.json").read_text(encoding="utf-8"))["small"]
    weights = recipe.weights(described["shapes"])
    gluon_params.write(tmp_path / "small.params", weights)
    assert recipe.sha256(*gluon_params.read(tmp_path / "small.params").values()) == described["sha256"]


@pytest.mark.parametrize(
    ("name", "array", "finding"),
    [
        ("x", np.array([True]), "has dtype bool; a .params file can hold float32, float64,"),
        ("x", np.array(["a"]), "has dtype <U1"),
        ("x", np.array([None]), "has dtype object"),
        ("x", np.float32(1), "is a scalar"),
        ("x", np.zeros((1,) * 33, np.float32) if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else None, "33 dim"),
        ("a\0b", SIX, "contains a NUL"),
        ("arg:x", SIX, "starts with 'arg:'"),
        ("\ud800", SIX, "can't be written as UTF-8"),
    ],
)
def test_arrays_that_would_not_read_back_are_refused(tmp_path, name, array, finding):
    if array is None:
        pytest.skip("NumPy 1 has at most 32 dimensions")
    path = tmp_path / "weights.params"
    path.write_bytes(b"old")
    with pytest.raises(Error, match=finding):
        gluon_params.write(path, {"good": SIX, name: array})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(Error, match=r"none.weights.params: could not be written"):
        gluon_params.write(tmp_path / "none" / "weights.params", {"x": SIX})


# Warnings that MXNet 1.9.1 itself raises, on import and on use, with any supported NumPy.
with_mxnet = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:mxnet\.")


@with_mxnet
def test_mxnet_reads_ours_and_we_read_mxnet(tmp_path):
    mx = pytest.importorskip("mxnet")
    ours, theirs = tmp_path / "ours.params", tmp_path / "theirs.params"
    values = np.random.default_rng(0).uniform(-100, 100, (3, 4, 5))
    # Via int32, because converting a negative float to uint8 is undefined.
    weights = {f"a.{dtype}": values.astype("i4").astype(dtype) for dtype in FLAGS} | {"é": values.astype("f4")}
    gluon_params.write(ours, weights)
    assert_same({name: array.asnumpy() for name, array in mx.nd.load(str(ours)).items()}, weights)
    mx.nd.save(str(theirs), {name: mx.nd.array(array, dtype=array.dtype) for name, array in weights.items()})
    assert_same(gluon_params.read(theirs), weights)
    assert ours.read_bytes() == theirs.read_bytes()


@with_mxnet
@pytest.mark.parametrize("version", ["version 2", "version 1", "version 0"])
def test_mxnet_agrees_on_the_older_headers(tmp_path, version):
    mx = pytest.importorskip("mxnet")
    path = tmp_path / "weights.params"
    path.write_bytes(listed(HEADERS[version]))
    assert_same({name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}, gluon_params.read(path))


@with_mxnet
def test_mxnet_agrees_on_numpy_shapes(tmp_path):
    mx = pytest.importorskip("mxnet")
    path = tmp_path / "weights.params"
    with mx.util.np_shape(True):
        arrays = {"s": mx.np.array(3.0), "z": mx.np.zeros((0, 2)), "m": mx.np.ones((2, 2))}
        mx.nd.save(str(path), {name: array.as_nd_ndarray() for name, array in arrays.items()})
    wanted = {"s": np.array(3, np.float32), "z": np.zeros((0, 2), np.float32), "m": np.ones((2, 2), np.float32)}
    assert_same(gluon_params.read(path), wanted)


@with_mxnet
def test_blocks_parameters_cross_over(tmp_path):
    mx = pytest.importorskip("mxnet")

    def block():
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.rnn.LSTM(4, 2, bidirectional=True, input_size=3), mx.gluon.nn.BatchNorm(axis=2, in_channels=8))
        net.initialize(mx.init.Uniform(1.0))
        return net

    first, second = block(), block()
    theirs, ours = tmp_path / "theirs.params", tmp_path / "ours.params"
    first.save_parameters(str(theirs))
    weights = gluon_params.read(theirs)
    assert weights["0._unfused.1.r_cell.h2h_weight"].shape == (16, 4)
    gluon_params.write(ours, weights)
    assert ours.read_bytes() == theirs.read_bytes()
    second.load_parameters(str(ours))
    lines = mx.nd.ones((5, 2, 3))
    assert (first(lines).asnumpy() == second(lines).asnumpy()).all()


@with_mxnet
def test_a_module_checkpoint_loses_its_prefixes(tmp_path):
    mx = pytest.importorskip("mxnet")
    path = tmp_path / "weights.params"
    mx.nd.save(str(path), {"arg:fc_weight": mx.nd.array(SIX), "aux:bn_moving_mean": mx.nd.array(SIX[0])})
    assert_same(gluon_params.read(path), {"fc_weight": SIX, "bn_moving_mean": SIX[0]})
