"""Arrays out of bytes that anybody may have written: never more memory than is in the bytes."""

from __future__ import annotations

import io
import math
import zipfile
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from glissando.datasets.base import Refused

Buffer = bytes | bytearray | memoryview
#: Bytes of all arrays of one npz together, unpacked. A curve of ten minutes has 2 MB.
LARGEST = 64 * 2**20


def array_of(content: Buffer) -> np.ndarray:
    """The array of an npy file, without a copy: it may be written to if ``content`` may.

    Raises Refused for what is no npy, for objects (a pickle would run code) and where the header
    claims another number of bytes than there are.
    """
    size = 10 if content[6:7] == b"\x01" else 12  # magic, version and the header's length
    size += int.from_bytes(content[8:size], "little")
    if not 10 <= size <= min(len(content), 4096):
        raise Refused("no npy array")
    shape, order, dtype, length = _header(bytes(content[:size]))
    if length != len(content) - size:
        raise Refused(f"an array said to be {shape} in {len(content)} bytes")
    return np.ndarray(shape, dtype, content, size, order=order)


def arrays_of(content: Buffer) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name. Raises Refused as ``array_of``, and beyond ``LARGEST``."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if (size := sum(member.file_size for member in file.infolist())) > LARGEST:
                raise Refused(f"arrays of {size} bytes in an npz of {len(content)}")
            names = file.namelist()
            return {name.removesuffix(".npy"): array_of(file.read(name)) for name in names}
    except zipfile.BadZipFile as error:
        raise Refused(f"no npz arrays ({error})") from None


@lru_cache(maxsize=1024)  # most samples share theirs, and parsing one costs as much as reading it
def _header(head: bytes) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype, int]:
    """Shape, order, type and the bytes of an array."""
    file = io.BytesIO(head)
    try:
        old = npy.read_magic(file) == (1, 0)
        read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise Refused(f"no npy array ({error})") from None
    if dtype.hasobject:
        raise Refused("an array of Python objects")
    return shape, "F" if fortran else "C", dtype, math.prod(shape) * dtype.itemsize
