"""Read and write Gluon `.params` files with NumPy alone.

The format is MXNet's list of NDArrays, all little-endian (apache/mxnet, src/ndarray/ndarray.cc, `NDArray::Save` and
`NDArray::Load`; each statement here was also checked against files that MXNet 1.9.1 wrote and read):

    uint64  0x112, then uint64 0 (reserved)
    uint64  number of arrays, then the arrays
    uint64  number of names, then per name: uint64 length in bytes, the bytes (UTF-8)

and an array is, by its version:

    2 and 3 uint32 magic, int32 storage type (0 dense), int32 ndim, int64 dims
    1       uint32 magic, uint32 ndim, int64 dims
    0       uint32 ndim, uint32 dims: no magic yet
    all     int32 device type, int32 device number, int32 dtype flag, the values in C order

Version 3 is version 2 saved under NumPy's shape rules: it alone has scalars (ndim 0). In the others ndim 0 stands for
"no array", and nothing follows it. MXNet 1.9.1 writes version 2, or 3 inside `mx.util.np_shape(True)`.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hwr import Error
from hwr.system import files
from hwr.system.atomic import replacing

LIST_MAGIC = 0x112
V1_MAGIC, V2_MAGIC, V3_MAGIC = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
# mshadow/base.h, `enum TypeFlag`. Flags from 7 on (bool, bfloat16) do not occur among weights.
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8"}
FLAGS = {np.dtype(name): flag for flag, name in DTYPES.items()}
# include/mxnet/base.h, `Context::DeviceType`: cpu, gpu, cpu_pinned, cpu_shared.
DEVICES = (1, 2, 3, 5)
STORAGES = {1: "row_sparse", 2: "csr"}
# NumPy 1's limit on the number of dimensions.
MAX_NDIM = 32
# The size of the smallest array: version 0 with one dimension of size 0.
MIN_ARRAY = 20
PREFIXES = ("arg:", "aux:")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read a `.params` file.

    Memory is allocated only after checking that the file holds that many bytes. So the memory needed is the file's size (a
    dozen times that if every array is empty), whatever its headers claim.

    Args:
        path: A file written by `Block.save_parameters` or by `mx.nd.save` of a dict; also a Module checkpoint, whose
            prefixes `arg:` and `aux:` are removed.

    Returns:
        Name -> array, in the file's order, each writable, in native byte order, with the shape and dtype it was saved
        in (float32, float64, float16, uint8, int32, int8 or int64). Shapes and names are not checked.

    Raises:
        Error: The file is missing, truncated, damaged or of another kind, or holds sparse arrays, unnamed arrays or a name
            twice; names the file, the problem and the byte.
    """
    path = Path(path)
    try:
        with files.open_regular(path) as file:
            return _Reader(path, file).read()
    except OSError as error:
        raise Error(f"{path}: could not be read: {error.strerror or error}") from error


def write(path: str | Path, weights: dict[str, np.ndarray]) -> None:
    """Write a `.params` file that `Block.load_parameters` and `mx.nd.load` read; a kill leaves the old file or the new.

    Args:
        path: The file to write or replace.
        weights: Name -> array, in file order. The bytes equal those of MXNet 1.9.1's writer.

    Raises:
        Error: The format can't hold an array (a scalar, or a dtype that `read` does not list), a name would not read back
            the same, or the file can't be written.
    """
    path = Path(path)
    for name, array in weights.items():
        _check_writable(path, name, array)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(weights)))
        for array in weights.values():
            little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            file.write(struct.pack(f"<Iii{array.ndim}q", V2_MAGIC, 0, array.ndim, *array.shape))
            file.write(struct.pack("<3i", DEVICES[0], 0, FLAGS[little.dtype]))
            file.write(little.tobytes())
        file.write(struct.pack("<Q", len(weights)))
        for name in weights:
            encoded = name.encode()
            file.write(struct.pack("<Q", len(encoded)) + encoded)


def _check_writable(path: Path, name: str, array: np.ndarray) -> None:
    if array.dtype.newbyteorder("<") not in FLAGS:
        known = ", ".join(dtype.name for dtype in FLAGS)
        raise Error(f"{path}: {name!r} has dtype {array.dtype}; a .params file can hold {known}")
    if array.ndim == 0:
        raise Error(f"{path}: {name!r} is a scalar, which a .params file can't hold; reshape it to (1,)")
    if array.ndim > MAX_NDIM:
        raise Error(f"{path}: {name!r} has {array.ndim} dimensions; at most {MAX_NDIM} can be read back")
    if "\0" in name:
        raise Error(f"{path}: the name {name!r} contains a NUL, where MXNet would truncate it")
    if name.startswith(PREFIXES):
        raise Error(f"{path}: the name {name!r} starts with {name[:4]!r}, which is removed on reading; rename it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Error(f"{path}: the name {name!r} can't be written as UTF-8") from None


class _Reader:
    """A file with the current offset, and its size."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.offset = 0

    def read(self) -> dict[str, np.ndarray]:
        start = self.offset
        (magic,) = self.unpack("Q", "the list's magic")
        if magic != LIST_MAGIC:
            raise self.fault(start, f"not a .params file: it starts with 0x{magic:x} instead of 0x{LIST_MAGIC:x}")
        start = self.offset
        (reserved,) = self.unpack("Q", "the reserved field")
        if reserved:
            raise self.fault(start, f"the reserved field is 0x{reserved:x} instead of 0")
        count = self.count("arrays", MIN_ARRAY)
        arrays = [self.array(f"array {i + 1} of {count}") for i in range(count)]
        start = self.offset
        names = [self.name(i) for i in range(self.count("names", 8))]
        if len(names) != len(arrays):
            hint = " (it was saved from a list; save a dict)" if not names else ""
            raise self.fault(start, f"{len(arrays)} arrays but {len(names)} names{hint}")
        if self.offset < self.size:
            raise self.fault(self.offset, f"{self.size - self.offset} bytes follow the end of the list")
        weights: dict[str, np.ndarray] = {}
        for (start, name), array in zip(names, arrays, strict=True):
            if name in weights:
                raise self.fault(start, f"the name {name[:80]!r} occurs twice")
            weights[name] = array
        return weights

    def array(self, what: str) -> np.ndarray:
        start = self.offset
        (magic,) = self.unpack("I", f"the header of {what}")
        versioned = magic in (V1_MAGIC, V2_MAGIC, V3_MAGIC)
        if not versioned and magic > MAX_NDIM:
            raise self.fault(start, f"{what} starts with 0x{magic:x}, an unknown header")
        if magic in (V2_MAGIC, V3_MAGIC):
            at = self.offset
            (storage,) = self.unpack("i", f"the storage type of {what}")
            if storage:
                kind = STORAGES.get(storage, "unknown")
                raise self.fault(at, f"{what} has storage type {storage} ({kind}); only dense arrays (0) are supported")
        at = self.offset
        ndim = self.unpack("i", f"the number of dimensions of {what}")[0] if versioned else magic
        if not 0 <= ndim <= MAX_NDIM:
            raise self.fault(at, f"{what} has {ndim} dimensions; 0 to {MAX_NDIM} are allowed")
        if ndim == 0 and magic != V3_MAGIC:
            raise self.fault(at, f"{what} has no dimensions, which in MXNet means no array")
        at = self.offset
        shape = self.unpack(f"{ndim}{'q' if versioned else 'I'}", f"the shape of {what}")
        if any(size < 0 for size in shape):
            raise self.fault(at, f"{what} has the shape {shape}; no size can be negative")
        start = self.offset
        device, _, flag = self.unpack("3i", f"the device and dtype of {what}")
        if device not in DEVICES:
            raise self.fault(start, f"{what} is on a device of type {device}; known types are {DEVICES}")
        if flag not in DTYPES:
            raise self.fault(start + 8, f"{what} has dtype flag {flag}; known flags are 0 to {max(DTYPES)}")
        dtype = np.dtype(DTYPES[flag])
        length = math.prod(shape) * dtype.itemsize
        self.need(length, f"the values of {what}, shape {shape}, {dtype.name}")
        try:
            array = np.empty(shape, dtype)
        except ValueError:  # An empty array may still be too large for NumPy: (0, 2**62).
            raise self.fault(at, f"{what} has the impossible shape {shape}") from None
        # An empty array has no byte view, and no bytes to read.
        if length and self.file.readinto(array.reshape(-1).view(np.uint8)) != length:  # type: ignore[attr-defined]
            raise self.fault(self.offset, f"the file ended while reading the values of {what}")
        self.offset += length
        return array.astype(dtype.newbyteorder("="), copy=False)

    def name(self, index: int) -> tuple[int, str]:
        start = self.offset
        (length,) = self.unpack("Q", f"the length of name {index + 1}")
        data = self.take(length, f"name {index + 1}")
        try:
            name = data.decode()
        except UnicodeDecodeError:
            raise self.fault(start, f"name {index + 1} is not UTF-8: {data[:40]!r}") from None
        return start, name[4:] if name.startswith(PREFIXES) else name

    def count(self, what: str, least: int) -> int:
        start = self.offset
        (count,) = self.unpack("Q", f"the number of {what}")
        if count * least > self.size - self.offset:
            left = self.size - self.offset
            raise self.fault(start, f"{count} {what} should follow, but only {left} bytes are left")
        return int(count)

    def unpack(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout), what))

    def take(self, length: int, what: str) -> bytes:
        self.need(length, what)
        data = self.file.read(length)
        if len(data) != length:
            raise self.fault(self.offset, f"the file ended while reading {what}")
        self.offset += length
        return data

    def need(self, length: int, what: str) -> None:
        left = self.size - self.offset
        if length > left:
            raise self.fault(self.offset, f"truncated: {what} needs {length} bytes, {left} are left")

    def fault(self, offset: int, found: str) -> Error:
        return Error(f"{self.path}: byte {offset}: {found}")
