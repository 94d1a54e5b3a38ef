"""The cache: the same numbers, encoded once, whatever happens to the files."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch

from glissando.errors import UserError
from glissando.text_encoders import Hash, MiniLM, Text, TextCache
from glissando.text_encoders.cache import Recent
from glissando.text_encoders.store import Store

CAPTIONS = ["a slow flute air", "", "trumpet march", "gentle flute melody, 90 bpm"]


class Counting(Hash):
    """Counts what it encodes."""

    def __init__(self) -> None:
        super().__init__(dim=8)
        self.seen: list[str] = []

    def encode(self, captions: list[str]) -> Text:
        self.seen += captions
        return super().encode(captions)


class Unused(Hash):
    """An encoder that must not run."""

    def __init__(self) -> None:
        super().__init__(dim=8)

    def encode(self, captions: list[str]) -> Text:
        raise AssertionError(f"encoded again: {captions}")


@pytest.mark.parametrize("on_disk", [True, False])
def test_it_gives_what_the_encoder_gives(tmp_path, on_disk):
    encoder = MiniLM()
    direct = encoder(CAPTIONS)
    cache = TextCache(encoder, tmp_path if on_disk else None, batch=3)
    for _ in range(2):
        tokens, mask = cache.tokens(CAPTIONS)
        assert torch.equal(mask, direct.mask)
        assert tokens.dtype == torch.float32
        torch.testing.assert_close(tokens, direct.tokens, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(cache.pooled(CAPTIONS), direct.pooled, atol=2e-3, rtol=1e-3)


def test_cold_and_warm_are_the_same_bits(tmp_path):
    cold = TextCache(Counting(), tmp_path).tokens(CAPTIONS)[0]
    warm = TextCache(Unused(), tmp_path).tokens(CAPTIONS)[0]
    assert torch.equal(cold, warm)


def test_nothing_is_encoded_twice(tmp_path):
    encoder = Counting()
    cache = TextCache(encoder, tmp_path)
    cache.tokens([*CAPTIONS, *CAPTIONS])
    cache.pooled(CAPTIONS)
    cache.tokens([*CAPTIONS, "one more"])
    assert sorted(encoder.seen) == sorted([*CAPTIONS, "one more"])
    TextCache(Unused(), tmp_path).pooled(["one more", *CAPTIONS])


def test_loaded_weights_are_not_needed_for_what_is_cached(tmp_path):
    TextCache(MiniLM(), tmp_path).tokens(CAPTIONS)
    encoder = MiniLM()
    TextCache(encoder, tmp_path).tokens(CAPTIONS)
    assert "model" not in vars(encoder)
    assert "tokenizer" not in vars(encoder)


def test_only_the_half_that_is_read_is_stored(tmp_path):
    cache = TextCache(Counting(), tmp_path)
    cache.halves = ["pooled"]
    cache.pooled(CAPTIONS)
    assert not list(tmp_path.rglob("tokens.*"))
    with pytest.raises(ValueError, match="narrowed"):
        cache.tokens(CAPTIONS)
    # A later run that reads both finds one half, encodes once more, and has both from then on.
    encoder = Counting()
    assert TextCache(encoder, tmp_path).warm(CAPTIONS) == len(CAPTIONS)
    assert sorted(encoder.seen) == sorted(CAPTIONS)
    TextCache(Unused(), tmp_path).tokens(CAPTIONS)


def test_warming_encodes_each_distinct_caption(tmp_path):
    captions = [f"tune number {i % 300}" for i in range(1000)]
    encoder = Counting()
    cache = TextCache(encoder, tmp_path)
    assert cache.warm(captions) == 300
    assert cache.warm(captions) == 0
    assert len(encoder.seen) == 300
    assert TextCache(Unused(), tmp_path).pooled(captions).shape == (1000, 8)
    with pytest.raises(UserError, match="not text"):
        cache.warm(["piano", 3])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("cut", [1, 31, 33])
def test_a_torn_index_loses_only_its_tail(tmp_path, cut):
    TextCache(Counting(), tmp_path).tokens(CAPTIONS)
    index = next(tmp_path.rglob("tokens.index"))
    index.write_bytes(index.read_bytes()[:-cut])
    expected = Hash(dim=8)([*CAPTIONS, "new"]).tokens
    encoder = Counting()
    tokens, _ = TextCache(encoder, tmp_path).tokens([*CAPTIONS, "new"])
    torch.testing.assert_close(tokens, expected, atol=2e-3, rtol=1e-3)
    assert len(encoder.seen) == 1 + (1 if cut < 32 else 2)
    tokens, _ = TextCache(Unused(), tmp_path).tokens([*CAPTIONS, "new"])
    torch.testing.assert_close(tokens, expected, atol=2e-3, rtol=1e-3)


def test_data_that_nobody_recorded_is_cut_off(tmp_path):
    TextCache(Counting(), tmp_path).tokens(CAPTIONS[:2])
    data = next(tmp_path.rglob("tokens.data"))
    whole = data.stat().st_size
    with data.open("ab") as file:
        file.write(b"killed while writing")
    TextCache(Counting(), tmp_path).tokens(CAPTIONS)
    words = [len(Hash(dim=8)([caption]).mask[0]) for caption in CAPTIONS[2:]]
    assert data.stat().st_size == whole + sum(words) * 8 * 2
    TextCache(Unused(), tmp_path).tokens(CAPTIONS)


@pytest.mark.parametrize("damage", ["flip", "shorten"])
def test_damaged_data_is_encoded_again(tmp_path, damage):
    TextCache(Counting(), tmp_path).pooled(CAPTIONS)
    data = next(tmp_path.rglob("pooled.data"))
    raw = bytearray(data.read_bytes())
    if damage == "flip":
        raw[3] ^= 0xFF
    data.write_bytes(raw if damage == "flip" else raw[:-5])
    encoder = Counting()
    pooled = TextCache(encoder, tmp_path).pooled(CAPTIONS)
    torch.testing.assert_close(pooled, Hash(dim=8)(CAPTIONS).pooled, atol=2e-3, rtol=1e-3)
    assert len(encoder.seen) == 1
    TextCache(Unused(), tmp_path).pooled(CAPTIONS)


def test_files_deleted_under_a_running_process(tmp_path):
    encoder = Counting()
    cache = TextCache(encoder, tmp_path, memory=0)
    cache.tokens(CAPTIONS)
    for path in tmp_path.rglob("tokens.*"):
        path.unlink()
    encoder.seen.clear()
    cache.tokens(CAPTIONS[:2])
    assert sorted(encoder.seen) == sorted(CAPTIONS[:2])
    TextCache(Unused(), tmp_path).tokens(CAPTIONS[:2])


def test_a_full_disk_costs_a_warning_not_the_run(tmp_path, monkeypatch, caplog):
    TextCache(Counting(), tmp_path).pooled(CAPTIONS[:1])

    def full(store, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write", full)
    encoder = Counting()
    cache = TextCache(encoder, tmp_path)
    with caplog.at_level(logging.WARNING, "glissando"):
        for _ in range(2):
            assert cache.pooled(CAPTIONS).shape == (4, 8)
            cache.pooled(["another"])
    assert len(caplog.records) == 1
    assert sorted(encoder.seen) == sorted([*CAPTIONS[1:], "another"])  # what is there is read


def _write_many(folder: Path, name: str, barrier: Barrier) -> None:
    store = Store(folder, name="half", dim=4)
    barrier.wait(60)
    for i in range(25):
        key = i.to_bytes(16, "little")
        own = name.encode().ljust(15, b"_") + bytes([i])
        rows = np.full((1 + i % 5, 4), i, np.float32)
        store.write({key: rows, own: rows})


def test_two_processes_write_one_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    other = context.Process(target=_write_many, args=(tmp_path, "a", barrier))
    other.start()
    _write_many(tmp_path, "b", barrier)
    other.join(60)
    assert other.exitcode == 0
    shared = [i.to_bytes(16, "little") for i in range(25)]
    own = [name.encode().ljust(15, b"_") + bytes([i]) for name in "ab" for i in range(25)]
    store = Store(tmp_path, "half", 4)
    found = store.read([*shared, *own])
    assert len(found) == len(store) == 75
    for i, key in enumerate(shared):
        assert found[key].shape == (1 + i % 5, 4)
        assert (found[key] == i).all()
    # Neither wrote a shared key twice.
    assert (tmp_path / "half.data").stat().st_size == 3 * sum(1 + i % 5 for i in range(25)) * 8


def test_a_reader_sees_what_another_process_adds(tmp_path):
    reader, writer = (Store(tmp_path, "half", 4) for _ in range(2))
    key, later = b"k" * 16, b"l" * 16
    assert reader.read([key]) == {}
    writer.write({key: np.ones((2, 4))})
    assert list(reader.read([key])) == [key]
    writer.write({later: np.ones((1, 4))})
    assert set(reader.read([key, later])) == {key, later}


def test_values_beyond_float16_are_clipped_not_infinite():
    class Loud(Hash):
        def encode(self, captions):
            text = super().encode(captions)
            return Text(text.tokens * 1e6, text.mask, text.pooled * 1e6)

    tokens, _ = TextCache(Loud()).tokens(["flute"])
    assert tokens.abs().max() == 65504


def test_memory_keeps_the_most_recent_within_its_limit():
    recent = Recent(limit=100)
    for i in range(4):
        recent.put(("tokens", str(i)), np.zeros(10, np.float32))
        recent.get(("tokens", "0"))
    assert recent.get(("tokens", "0")) is not None
    assert recent.get(("tokens", "3")) is not None
    assert recent.get(("tokens", "1")) is None
    recent.put(("tokens", "0"), np.zeros(10, np.float32))  # replaced, not counted twice
    assert recent.get(("tokens", "3")) is not None


def test_a_copy_shares_the_cache():
    cache = TextCache(Counting())
    assert copy.deepcopy(cache) is cache


@pytest.mark.slow
def test_a_hundred_thousand_captions(tmp_path):
    """Opening the index is fast and small, reading is by offset."""
    captions = [f"tune {i}" for i in range(100_000)]
    cache = TextCache(Hash(dim=64), tmp_path, batch=512, memory=1 << 20)
    assert cache.warm(captions) == len(captions)
    start = time.perf_counter()
    TextCache(Hash(dim=64), tmp_path).tokens(captions[-16:])
    assert time.perf_counter() - start < 2
