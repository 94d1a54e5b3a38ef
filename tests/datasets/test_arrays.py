from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest

from glissando.datasets.arrays import array_of, arrays_of
from glissando.datasets.base import Refused


def saved(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i2", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_is_what_numpy_reads(dtype, shape, order):
    rng = np.random.default_rng(0)
    array = np.asarray(rng.normal(size=shape) * 9).astype(dtype, order=order)
    read = array_of(saved(array))
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


def test_a_header_that_lies_is_refused_before_anything_is_allocated():
    content = saved(np.zeros((64, 1, 258), "f2"))
    huge = content.replace(b"(64, 1, 258), }", b"(9999999999,)}, ")[: len(content)]
    assert huge != content
    assert np.prod([9999999999]) * 2 > 10**10
    for wrong in (huge, content[:-2], content + b"00", b"", b"junk" * 99, content[:9]):
        with pytest.raises(Refused):
            array_of(wrong)


class Evil:
    def __reduce__(self):
        return os.system, ("echo run >&2; touch /tmp/glissando-was-run",)


def test_a_pickle_in_an_array_does_not_run(capfd):
    content = saved(np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(Refused, match="objects"):
        array_of(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("curve.npy", content)
    with pytest.raises(Refused, match="objects"):
        arrays_of(file.getvalue())
    assert capfd.readouterr().err == ""


def test_npz_and_its_bombs():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(5), b=np.ones((2, 2), "f2"))
    assert np.array_equal(arrays_of(file.getvalue())["a"], np.arange(5))
    assert set(arrays_of(file.getvalue())) == {"a", "b"}
    bomb = io.BytesIO()
    np.savez_compressed(bomb, a=np.zeros(2**26, "i1"), b=np.zeros(10, "i1"))
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(Refused, match="arrays of 67"):
        arrays_of(bomb.getvalue())
    with pytest.raises(Refused, match="no npz"):
        arrays_of(b"PK no")
